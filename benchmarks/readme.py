"""Write the figures of README, docs and quickstart from the files in results/; `--check` only says whether they agree.

python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from posestill.html.report import percent
from posestill.study.gains import Cell, compare_rows, runs_of, signed, slope_of_gain
from posestill.study.intervals import Difference
from posestill.study.jobs import chosen_rates
from posestill.study.plan import Plan
from posestill.study.results import Results
from posestill.study.run import plan_as_run

ROOT = Path(__file__).parents[1]


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


@cache
def study(name: str) -> Results:
    """The rows of a plan's study."""
    return Results.read(ROOT / "results" / name)


@cache
def plan_of(name: str) -> Plan:
    """The plan that the rows of a study were run by."""
    return plan_as_run(study(name))


def cells_of(name: str, split: str, controls: tuple[str, ...]) -> list[Cell]:
    """What each arm gained over the baseline and these controls, at the chosen learning rates."""
    plan, rows = plan_of(name), study(name).rows
    return compare_rows(plan.model_copy(update={"controls": controls}), rows, split, chosen_rates(plan, rows))


def quickstart() -> str:
    """The table and the sentence of one recorded quickstart."""
    figures = read("quickstart")
    lines = ["| | labels | unlabelled | AP | mean OKS | parameters | ms / crop |", "|---|--:|--:|--:|--:|--:|--:|"]
    for row in figures["rows"].values():
        known = row["seconds"] is not None
        lines.append(
            f"| {row['title']} | {format(row['labels'], ',') if known else '–'} "
            f"| {format(row['unlabelled'], ',') if known else '–'} | {percent(row['metrics']['AP'])} "
            f"| {percent(row['metrics']['mean_oks'])} | {row['cost']['parameters'] / 1e6:.2f} M "
            f"| {row['cost']['milliseconds']:.1f} |"
        )
    around = figures["surroundings"]
    return "\n".join(
        [
            *lines,
            "",
            f"> {figures['sentence']}",
            "",
            f"`{figures['command']}`: {figures['minutes']:.1f} minutes on {around['cores']} cores "
            f"({around['processor']}, torch {around['torch']}); {figures['conditions']} ms: batch 1, one thread.",
        ]
    )


def sample() -> str:
    """What the recipes for photographs reached."""
    one, other = read("coco-sample"), read("lsp-photos")
    reached = ", ".join(f"{title} {percent(other[name])}" for title, name in
                        (("mean OKS", "mean_oks"), ("AP", "AP"), ("PCK", "PCK")))  # fmt: skip
    return (
        f"Recorded: AP {percent(one['AP'])}, mean OKS {percent(one['mean_oks'])} on its {one['conditions']['persons']} "
        f"persons after {one['step']} steps. `posestill train lsp-photos` trains on photographs of athletes "
        f"with their own 14 keypoints: {reached} on {other['conditions']['persons']} others after {other['step']} "
        "short steps at 64x48, from random weights (ground-truth boxes)."
    )


def evaluator() -> str:
    """The evaluator's agreement and speed."""
    figures = read("evaluator")
    seconds, faster = figures["seconds"], figures["times_faster"]
    most = figures["largest_difference_of_ten_numbers"]
    agreement = "equal pycocotools' exactly" if most == 0 else f"differ from pycocotools' by at most {most:.0e}"
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in figures["shares"].items())
    memory = figures["megabytes"]
    return (
        f"On {figures['images']:,} images with {figures['people']:,} people and {figures['detections']:,} detections "
        f"the ten numbers {agreement}, in {seconds['posestill']['median']:.2f} s of the processor "
        f"against {seconds['pycocotools']['median']:.2f} s ({faster['median']:.0f} times faster, {faster['min']:.0f}–"
        f"{faster['max']:.0f}; `{figures['command']}`). It holds {memory['peak_beside_it']:.0f} MB beside an input of "
        f"{memory['input']:.0f} MB, and its time goes into: {shares}. A test holds it to 1e-10 on 200 random crowds."
    )


def loader() -> str:
    """Persons a second of every way to the crops, beside the plain chain."""
    figures = read("loader")
    lines = ["| crops at 256x192 | persons/s of one core | times the plain chain |", "|---|--:|--:|"]
    for name, way in figures["ways"].items():
        rate, times = way["persons_per_second_of_processor"], way["times_plain_by_processor"]
        told = "1" if name == "plain chain" else f"{times['median']:.1f} ({times['min']:.1f}–{times['max']:.1f})"
        lines.append(f"| {name} | {rate['median']:.0f} | {told} |")
    packed, apart = figures["packed"], figures["packed"]["grey_levels_from_files"]
    alike = f"{100 * apart['persons_no_larger_than_the_input']:.0f} % of persons"
    return "\n".join(
        [
            *lines,
            "",
            f"`{figures['command']}`, {figures['persons']} persons, the published augmentation. Packed crops take "
            f"{packed['kilobytes_a_person']:.0f} kB a person and differ by {apart['mean']:.1f} grey levels on average, "
            f"by at most {apart['largest_of_those']:.0f} for the {alike} who need no shrinking.",
        ]
    )


def step_profile() -> str:
    """Where the time of a training step goes, method by method."""
    figures = read("step-profile")
    names = list(next(iter(figures["ways"].values()))["shares"])
    lines = [f"| % of a step | {' | '.join(names)} | ms a person | arithmetic |", "|---|" + "--:|" * (len(names) + 2)]
    for name, way in figures["ways"].items():
        shares = " | ".join(f"{100 * way['shares'][part]:.0f}" for part in names)
        whole = sum(way["milliseconds_a_person"].values())
        lines.append(f"| {name} | {shares} | {whole:.0f} | {100 * way['arithmetic_share']:.0f} |")
    rate = figures["operations_per_second"]
    return "\n".join(
        [
            *lines,
            "",
            f"`{figures['command']}`: 256x192, batch {figures['persons']}, fp32; arithmetic in % of the step without "
            f"data, at {max(rate.values()) / 1e9:.0f} G operations a second.",
        ]
    )


def confirmed(name: str) -> str:
    """What a plan confirmed on test, in its own table."""
    text = (ROOT / "results" / name / "table.md").read_text()
    table = re.search(r"## Confirmed on test.*?\n\n(.*?)(?:\n\n|\Z)", text, flags=re.S)
    figures = read(f"{name}/summary")
    around = figures["surroundings"]
    machines = f"{', '.join(around['processor'])}, torch {', '.join(around['torch'])}"
    assert table is not None
    told = (
        "Mean OKS and AP x 100 on test, mean ± standard deviation over seeds; gains with 95 % intervals over seeds and "
        f"persons; a star: Holm's p below 0.05. `{figures['command']}`: protocol "
        f"{figures['protocol']}, {figures['runs']} runs, {figures['training_hours']:.1f} hours of one thread beside "
        f"other work ({machines})."
    )
    return f"{table[1].strip()}\n\n{told}"


def protocol() -> str:
    """What the protocol confirmed."""
    return confirmed("protocol")


def distilpose() -> str:
    """What DistilPose's protocol confirmed, what each part adds to the one before, and how good its teachers are."""
    name = "protocol-distilpose"
    prepared = study(name).prepared
    one, other = (percent(prepared[each]["mean_oks"]) for each in ("token-teacher", "photos-teacher"))
    cells = cells_of(name, "test", ("tokens", "both_2"))
    found = {cell.arm: cell for cell in cells if cell.regime == "labels-400"}
    drawn, full = found["both_2"], found["distilpose_2"]
    return (
        f"{confirmed(name)} The token teachers reach mean OKS {one} on the synthetic people for choosing and {other} "
        f"on the photographs.\n\nPart by part, labels-400: beside the tokens the simulated heatmap adds "
        f"{signed(drawn.gains['tokens'])} mean OKS, and the confidence beside both {signed(full.gains['both_2'])}; it "
        f"brings AP from {percent(drawn.average_precision)} to {percent(full.average_precision)}, since persons are "
        "then ranked by more than their boxes."
    )


def interval(gain: dict[str, Any]) -> str:
    """Points with their interval: +1.2 [+0.8, +1.6]."""
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def gained(name: str, arm: str, regimes: tuple[str, ...] | None = None) -> str:
    """In a sentence, what a confirmed arm gained in each regime, over every control that was confirmed there."""
    titles = {"alone": "alone", "pseudo_label": "pseudo-labels", "longer": "longer", "pkd": "PKD"}
    told = []
    for cell in read(f"{name}/summary")["cells"]["test"]:
        if cell["arm"] == arm and (regimes is None or cell["regime"] in regimes):
            over = [f"{interval(gain)} over {titles[reference]}" for reference, gain in cell["gains"].items()]
            told.append(f"on {cell['regime']} {', '.join(over)}")
    return "; ".join(told)


def distilpose_finding() -> str:
    """In a sentence, what DistilPose gave in both regimes."""
    told = gained("protocol-distilpose", "distilpose_2")
    return f"**DistilPose** gains, in mean OKS: {told} ([its page](docs/distilpose.md))."


def ocd_finding() -> str:
    """In two sentences, what TCD and OCD gave."""
    return (
        f"**TCD** through the teacher's own head gains {gained('protocol-ocd', 'tcd_head')}. **OCD**, which has no "
        f"teacher, gains {gained('protocol-ocd', 'ocd')} ([their page](docs/ocd.md))."
    )


def agentpose_finding() -> str:
    """In a sentence, what AgentPose gave with few labels: by the strongest teacher, and on photographs."""
    told = gained("protocol-agentpose-few", "agentpose", ("few-4", "photos-200"))
    return f"**AgentPose**, its agent dropped, gains {told} ([its page](docs/agentpose.md))."


def distilpose_cost() -> str:
    """What DistilPose's models cost, beside the published figures and a plain implementation."""
    figures = read("distilpose-cost")
    lines = [
        "| model at 256x192 | parameters | operations, counted as published | with attention | published |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in figures["complexity"].items():
        published = "{} M, {} G".format(*row["published"]) if "published" in row else "–"
        lines.append(
            f"| `{name}` | {row['trainable_parameters']:,} | {row['g_operations_as_published']:.3f} G "
            f"| {row['g_macs_with_attention']:.3f} G | {published} |"
        )

    def ratio(part: str, batch: str, pair: str = "plain / ours") -> str:
        found = figures[part][batch][pair]
        return f"{found['median']:.2f} ({found['min']:.2f}–{found['max']:.2f})"

    kept = figures["kept_megabytes_of_the_simulated_heatmap"]
    beside = "tokenpose-hr48 / distilpose-s"
    around = figures["surroundings"]
    told = (
        f"On {figures['threads']} cores, fp32, DistilPose-S beside a plain implementation of the released method "
        "(eager, attention as einsum, losses looped as released), how many times as fast: predicting "
        f"{ratio('forward', '1')} at batch 1 and {ratio('forward', '8')} at batch 8, a training step "
        f"{ratio('training_step', '8')} at batch 8 and {ratio('training_step', '32')} at 32, the published batch of a "
        "process. Beside its teacher, both predicted with the same way, S is "
        f"{ratio('teacher_beside_students', '1', beside)} times as fast at batch 1 and "
        f"{ratio('teacher_beside_students', '8', beside)} at batch 8 (published: 4.9 on a V100, flip test and decoding "
        "included). Medians, ranges over rounds. For its backward pass the simulated heatmap keeps "
        f"{kept['ours']['16']:.1f}, {kept['ours']['64']:.1f} and {kept['ours']['256']:.1f} MB at a batch of 16, 64 and "
        f"256; as released {kept['plain']['16']:.0f} and {kept['plain']['64']:,.0f} MB at 16 and 64. "
        f"`{figures['command']}` ({around['processor']}, torch {around['torch']})."
    )
    return "\n".join([*lines, "", told])


def ocd() -> str:
    """What the protocol of OCD and TCD confirmed, what OCD's parts are worth, and what was screened with one seed."""
    return f"{confirmed('protocol-ocd')}\n\n{ocd_parts()}\n\n{screened('protocol-ocd')}\n\n{wholebody_parts()}"


def beside(name: str, regime: str, reference: str) -> dict[str, Difference]:
    """What a plan's other confirmed arms gained over one of them, by arm."""
    cells = cells_of(name, "test", (reference,))
    return {cell.arm: cell.gains[reference] for cell in cells if cell.regime == regime and cell.arm != reference}


def ocd_parts() -> str:
    """OCD's confirmed parts beside the whole."""
    found = beside("protocol-ocd", "labels-400", "ocd")
    without, left = found["ocd_heatmap"], found["probe"]
    return (
        f"Beside OCD as it is, on labels-400: without the head loss {signed(without)} mean OKS, with features left to "
        f"the heatmap loss {signed(left)} ({without.seeds} seeds)."
    )


def wholebody_parts() -> str:
    """The six evaluations of COCO-WholeBody for each arm of the whole-body regime."""
    parts = ("body", "foot", "face", "lefthand", "righthand")
    plan, rows = plan_of("protocol-ocd"), study("protocol-ocd").rows
    rates = chosen_rates(plan, rows)
    lines = [
        f"| wholebody-1600 | AP | {' | '.join(f'AP {part}' for part in parts)} |",
        "|---|--:|" + "--:|" * len(parts),
    ]
    for row in rows:
        if row["regime"] == "wholebody-1600" and row["learning_rate"] == rates[row["regime"], row["arm"]]:
            figures = [row["metrics"]["AP"], *(row["metrics"][f"AP_{part}"] for part in parts)]
            lines.append(f"| {plan.arms[row['arm']].title} | {' | '.join(percent(each) for each in figures)} |")
    return "\n".join(lines)


def ocd_cost() -> str:
    """What OCD costs beside the plain student, and how soon it is as good."""
    figures = read("ocd-cost")
    told = []
    for count, found in figures["training_step"].items():
        for name, ratio in found.items():
            if "/" in name:
                spread = f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"
                told.append(f"{name.partition(' /')[0]} {spread} at batch {count}")
    quick = figures["quick_session"]

    def mean(name: str, what: str) -> float:
        return sum(row[what] for row in quick[name]) / len(quick[name])

    lengths = [name for name in quick if name.startswith("OCD x")]
    lines = ["| | mean OKS | training s |", "|---|--:|--:|"]
    lines += [
        f"| {name} | {percent(mean(name, 'mean_oks'))} | {mean(name, 'seconds'):.0f} |" for name in ("alone", *lengths)
    ]
    around = figures["surroundings"]
    return "\n".join(
        [
            f"A training step of DeepPose with ResNet-50 at 256x192, times the plain student's: {'; '.join(told)} "
            f"({figures['threads']} cores, fp32, medians and ranges; `{figures['command']}`, {around['processor']}, "
            f"torch {around['torch']}).",
            "",
            f"How soon OCD is as good: the student alone for {quick['steps']} steps, OCD for a share of them "
            f"with its own schedule; 400 labels, synthetic people for choosing, means over seeds {quick['seeds']}:",
            "",
            *lines,
        ]
    )


def agentpose_cost() -> str:
    """A training step beside FitNet's, and what a kept agent adds."""
    figures = read("agentpose-cost")
    told = []
    for found in figures["training_step"].values():
        for name, ratio in found.items():
            if "/" in name:
                spread = f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"
                told.append(f"`{name.partition(' /')[0]}` {spread}")
    kept = [
        f"{100 * (cost['macs / dropped'] - 1):.1f} % ({name.partition(', ')[2]})"
        for name, cost in figures["deployed"].items()
        if name != "dropped"
    ]
    around = figures["surroundings"]
    count = ", ".join(figures["training_step"])
    return (
        f"MobileNetV2 taught by HRNet-W48 at 256x192, batch {count}, a training step times FitNet's: "
        f"{', '.join(told)}. "
        f"A kept agent adds to the student's operations: {', '.join(kept)} (`{figures['command']}`, "
        f"{figures['threads']} cores, {around['processor']}, torch {around['torch']}; medians and ranges)."
    )


def screened(name: str) -> str:
    """What a plan screened on tune, in its own table."""
    text = (ROOT / "results" / name / "table.md").read_text()
    table = re.search(r"## Screened on tune.*?\n\n(.*?)(?:\n\n|\Z)", text, flags=re.S)
    assert table is not None
    return f"Screened on tune, one seed (intervals over persons only):\n\n{table[1].strip()}"


def agentpose() -> str:
    """What AgentPose's protocol confirmed, how its gains change with the teacher's strength, and what was screened."""
    return "\n\n".join(
        [
            confirmed("protocol-agentpose-few"),
            agentpose_beside(),
            gap_slopes(),
            screened("protocol-agentpose-few"),
            f"Other distillers with 1,600 labels, three of four persons of a batch. {screened('protocol-agentpose')}",
        ]
    )


def agentpose_beside() -> str:
    """AgentPose's relatives and controls beside AgentPose itself, with the strongest teacher."""
    name, regime = "protocol-agentpose-few", "few-4"
    arms = plan_of(name).arms
    found = beside(name, regime, "agentpose")
    told = [f"{arms[arm].title} {signed(gain)}" for arm, gain in found.items() if arm not in ("alone", "longer")]
    return f"Over AgentPose, agent dropped, on {regime}, in mean OKS: {'; '.join(told)}."


def gap_slopes() -> str:
    """Points of gain per ten points of the teacher's mean OKS, over regimes that differ in the teacher alone."""
    name = "protocol-agentpose-few"
    plan, rows, teachers = plan_of(name), study(name).rows, study(name).teachers
    rates = chosen_rates(plan, rows)
    regimes = sorted(regime for regime in plan.confirm if "teacher" in plan.regimes[regime].dose)
    strengths = [teachers["test", regime]["metrics"]["mean_oks"] for regime in regimes]
    lines = []
    for arm, reference in (("pkd", "alone"), ("agentpose", "alone"), ("agentpose", "pkd")):
        runs, others = (
            [runs_of(rows, "test", regime, which, rates[regime, which]) for regime in regimes]
            for which in (arm, reference)
        )
        slope = slope_of_gain(runs, others, [10 * each for each in strengths])
        lines.append(f"| {plan.arms[arm].title} over {plan.arms[reference].title} | {slope.seeds} | {signed(slope)} |")
    listed = ", ".join(f"{100 * each:.1f} ({regime})" for regime, each in zip(regimes, strengths, strict=True))
    return "\n".join(
        [
            f"How the gain changes with the teacher, whose mean OKS on test is {listed}:",
            "",
            "| gain of | seeds | points of mean OKS for ten points of the teacher's |",
            "|---|--:|--:|",
            *lines,
        ]
    )


def head_slimming() -> str:
    """Light heads beside full ones."""
    figures = read("head-slimming")
    lines = ["| head | parameters of the head | MACs | AP alone | AP taught by the full one |", "|---|--:|--:|--:|--:|"]
    told = []
    for family, found in figures["families"].items():
        precision: dict[str, list[float]] = {}
        for row in figures["runs"]:
            if row["family"] == family:
                precision.setdefault(row["way"], []).append(row["AP"])
        means = {way: sum(each) / len(each) for way, each in precision.items()}
        for name in ("full", "light"):
            cost = found["cost"][name]
            taught = percent(means["light, taught"]) if name == "light" else "–"
            lines.append(
                f"| {family}, {name}: `{found['heads'][name]}` | {cost['head_parameters']:,} "
                f"| {cost['macs'] / 1e6:.1f} M | {percent(means[name])} | {taught} |"
            )
        lost, alone = found["lost_by_taught"], found["lost_by_light_alone"]
        told.append(
            f"{family}: the taught light head loses {_points(lost)} AP to the full one, the light one alone "
            f"{_points(alone)}; upper bound {100 * found['upper_bound_of_loss']:.1f}, so the claim of less than "
            f"{100 * found['margin']:.0f} {'holds' if found['fulfilled'] else 'does not hold'}"
        )
    seeds = len(precision["full"])
    return "\n".join([*lines, "", f"{'. '.join(told)}. {figures['test']}, {seeds} seeds, 95 % intervals over seeds and "
                                   f"persons; `{figures['command']}`."])  # fmt: skip


def _points(found: dict[str, Any]) -> str:
    return f"{100 * found['mean']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def longer() -> str:
    """What each arm gained over the student alone for twice as long, from the runs themselves."""
    plan = plan_of("protocol")
    arms = [arm for arm in plan.arms if arm not in ("alone", "longer")]
    lines = [
        f"| regime | seeds | {' | '.join(plan.arms[arm].title for arm in arms)} |",
        "|---|--:|" + "--:|" * len(arms),
    ]
    for split in ("test", "tune"):
        cells = cells_of("protocol", split, ("longer",))
        for regime in dict.fromkeys(cell.regime for cell in cells):
            found = {cell.arm: cell for cell in cells if cell.regime == regime}
            told = [signed(found[arm].gains["longer"]) if arm in found else "–" for arm in arms]
            place = f"{regime} ({'confirmed on test' if split == 'test' else 'screened on tune'})"
            lines.append(f"| {place} | {len(found['longer'].seeds)} | {' | '.join(told)} |")
    return "\n".join(lines)


def intervals() -> str:
    """How often the intervals would err, by the spreads measured in each confirmed comparison."""
    lines = [
        "| regime | arm | seeds | persons | spread of seeds | of persons | residual | errs | over persons alone errs |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for cell in read("protocol/summary")["cells"]["test"]:
        if (spreads := cell["spreads"]) is not None:
            gain = cell["gains"]["alone"]
            figures = [f"{100 * spreads[name]:.1f}" for name in ("seed", "person", "residual")]
            rates = [f"{100 * cell[f'false_positive_rate{which}']:.1f} %" for which in ("", "_over_persons_alone")]
            cells = [cell["regime"], cell["arm"], str(gain["seeds"]), f"{gain['persons']:,}", *figures, *rates]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Spreads in points of OKS, of the gain over the student alone."])


def photographs() -> str:
    """The teacher on photographs beside a student that was trained alike."""
    teacher, student = study("protocol").prepared["photos-teacher"], read("photos-student")
    size, people = "x".join(map(str, teacher["conditions"]["input_size"])), teacher["conditions"]["persons"]
    one, other = (f"{percent(each['mean_oks'])} (AP {percent(each['AP'])})" for each in (teacher, student))
    apart = 100 * (teacher["mean_oks"] - student["mean_oks"])
    return (
        f"At {size}, with full augmentation and synthetic people in the place of ImageNet weights, the heatmap teacher "
        f"reaches mean OKS {one} on the {people} photographs for choosing, after {teacher['step']} steps of 64; a "
        f"small coordinate student, trained alike, {other}: {apart:.1f} points apart, one seed each."
    )


def crops() -> str:
    """Crops in memory beside files."""
    figures = read("crops")
    rates, faster = figures["images_per_second"], figures["times_faster"]
    spread = f"{faster['min']:.1f}–{faster['max']:.1f}"
    return (
        f"On lsp-photos at 128x96 one thread cuts {rates['in memory']:,.0f} augmented crops a second from memory and "
        f"{rates['from files']:,.0f} from files: {faster['median']:.1f} times as many ({spread}; "
        f"`{figures['command']}`)."
    )


def finding() -> str:
    """What the quickstart quotes: assets/protocol.json."""
    figures = read("protocol/summary")
    cell = next(each for each in figures["cells"]["test"] if (each["regime"], each["arm"]) == ("labels-400", "tcd"))

    content = {
        "protocol": figures["protocol"],
        "arm": "tcd",
        "labels": 400,
        "seeds": len(cell["seeds"]),
        "persons": cell["gains"]["alone"]["persons"],
        "over_alone": interval(cell["gains"]["alone"]),
        "over_pseudo_label": interval(cell["gains"]["pseudo_label"]),
    }
    return json.dumps(content, indent=2) + "\n"


def students() -> str:
    """One student of each representation."""
    figures = read("students")
    lines = ["| task | student | method | AP | mean OKS | parameters | training s |", "|---|---|---|--:|--:|--:|--:|"]
    for row in figures["rows"]:
        cells = [row["task"], row["representation"], row["method"]]
        cells += [percent(row["metrics"][name]) for name in ("AP", "mean_oks")]
        lines.append(f"| {' | '.join(cells)} | {row['parameters'] / 1e6:.2f} M | {row['training_seconds']:.0f} |")
    one = figures["rows"][0]
    return "\n".join(
        [
            *lines,
            "",
            f"`{figures['command']}`: {one['steps']} steps each, seed {one['seed']} only, one thread, two at a time "
            f"beside other work ({figures['surroundings']['processor']}, torch {figures['surroundings']['torch']}); "
            "ground-truth boxes, flip test.",
        ]
    )


def one_command() -> str:
    """How long the one command took, and what came of it."""
    figures = read("one-command")
    around, held, on_tune = (figures[name] for name in ("surroundings", "held_out", "mean_oks_on_tune"))
    student, teacher = (figures["beside"][name] for name in ("student", "teacher"))
    faster = teacher["milliseconds"] / student["milliseconds"]
    busy = " beside other work" if figures["load_before"] > 1 else ""
    is_random = any(line.startswith("weights: RANDOM") for line in figures["said"])
    weights = "No pretrained weights were at hand, without which a student learns much less: it" if is_random else "It"
    training = figures["seconds_by_stage"]["training"] / 60
    return (
        f"Recorded with {figures['photographs'].split()[0]} photographs of athletes: {figures['minutes']:.0f} minutes "
        f"from start to report on {around['cores']} cores{busy}, {training:.0f} of them for training. The student has "
        f"{student['bytes'] / 1e6:.1f} MB, its teacher {teacher['bytes'] / 1e6:.1f}, and answers {faster:.1f} times as "
        f"fast. {weights} agrees with its teacher to mean OKS {percent(held['mean_oks'])} on {held['people']} pictures "
        f"held out, and reaches {percent(on_tune['student'])} on the labels of {on_tune['persons']} others; its "
        f"teacher {percent(on_tune['teacher'])}."
    )


def file_teachers() -> str:
    """How well published files find the keypoints of photographs, and how long they take."""
    figures = read("file-teachers")
    lines = ["| file | layout | input | mean OKS | ms / person |", "|---|---|---|--:|--:|"]
    for row in figures["rows"]:
        lines.append(
            f"| {row['title']} | `{row['layout']}` | {'x'.join(map(str, row['input']))} "
            f"| {percent(row['mean_oks'])} | {row['milliseconds']:.0f} |"
        )
    around = figures["surroundings"]
    return "\n".join(
        [
            *lines,
            "",
            f"`{figures['command']}`: {figures['data']}, {figures['persons']} persons, boxes: {figures['boxes']}; "
            f"{figures['conditions']} ({around['processor']}).",
        ]
    )


def export() -> str:
    """How the exports of every kind of model agree with PyTorch, and what eight bits cost each."""
    figures = read("export")
    lines = [
        "| model | AP in PyTorch | largest AP change, fp32 | largest median px, fp32 | the same, fp16 "
        "| int8: AP, ONNX Runtime | OpenVINO | int8: x as fast as fp32, ONNX Runtime | OpenVINO |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, found in figures["agreement"].items():
        by = {row["runtime"]: row for row in found["files"]}
        whole, half = ([row for name, row in by.items() if name.endswith(each)] for each in ("fp32", "fp16"))
        cells = [kind, f"{100 * found['pytorch']['AP']:.1f}" if found["labels"] else "agreement only"]
        cells.append(f"{max(abs(row['AP_change']) for row in whole):.5f}")
        cells += [f"{max(row['px_median'] for row in rows):.5f}" for rows in (whole, half)]
        for what in ("AP", "times"):
            for runtime in ("ONNX Runtime", "OpenVINO"):
                row, exact = by.get(f"{runtime} int8"), by[f"{runtime} fp32"]
                if row is None:
                    cells.append("-")
                elif what == "AP":
                    cells.append(f"{100 * row['AP_change']:+.2f}")
                else:
                    cells.append(f"{exact['ms'] / row['ms']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    around = figures["surroundings"]
    runtimes = dict.fromkeys(row["runtime"][:-5] for each in figures["agreement"].values() for row in each["files"])
    return "\n".join(
        [
            *lines,
            "",
            f"`{figures['command']}`: {', '.join(runtimes)}; {figures['models']}; beside other work "
            f"({around['processor']}, {figures['threads']['agreement']} thread). AP as a share, its changes by int8 in "
            "points of 100; px of the crop. Times are medians of 15 turns of a ms or so each: rough.",
        ]
    )


def export_speed() -> str:
    """Large models in every runtime at batch 1, beside eager PyTorch."""
    figures = read("export")
    lines = [
        "| model | runtime | ms | 95 % | turns | x as fast as eager | with its norms folded | MB |",
        "|---|---|--:|--:|---|--:|--:|--:|",
    ]
    for name, rows in figures["speed_at_batch_1"].items():
        for row in rows:
            low, high = row["turns_ms"]
            lines.append(
                f"| {name} | {row['runtime']} | {row['median_ms']:.0f} | {row['p95_ms']:.0f} | {low:.0f} to {high:.0f} "
                f"| {row['times_faster_than_eager']:.1f} | {row['times_faster_than_eager_with_folded_norms']:.1f} "
                f"| {row['size_mb']:.1f} |"
            )
    return "\n".join(
        [
            *lines,
            "",
            f"The same command: {figures['threads']['speed']} threads, all by turns in one run. {figures['load']}",
        ]
    )


def written(text: str) -> str:
    """The README with every marked part made anew."""
    for part in PARTS:
        name = part.__name__.replace("_", "-")
        pattern = rf"(<!-- {name}:begin [^>]*-->\n).*?(<!-- {name}:end -->)"
        text = re.sub(pattern, lambda found, part=part: f"{found[1]}{part()}\n{found[2]}", text, flags=re.S)
    return text


PARTS = (
    one_command, quickstart, sample, students, evaluator, protocol, longer, intervals, photographs, crops,
    distilpose, distilpose_finding, distilpose_cost, ocd, ocd_finding, ocd_cost, head_slimming,
    agentpose, agentpose_finding, agentpose_cost, file_teachers, export, export_speed, loader, step_profile,
)  # fmt: skip
PAGES = (
    "README.md", "docs/measuring.md", "docs/evaluation.md", "docs/distilpose.md", "docs/ocd.md", "docs/agentpose.md",
    "docs/teachers.md", "docs/shipping.md", "docs/performance.md",
)  # fmt: skip
FINDING = ROOT / "src" / "posestill" / "assets" / "protocol.json"


def main() -> None:
    made = {ROOT / page: written((ROOT / page).read_text()) for page in PAGES} | {FINDING: finding()}
    stale = [
        str(path.relative_to(ROOT)) for path, text in made.items() if not path.is_file() or path.read_text() != text
    ]
    if "--check" in sys.argv:
        sys.exit(f"{', '.join(stale)}: not what results/ says: run python benchmarks/readme.py" if stale else 0)
    for path, text in made.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
