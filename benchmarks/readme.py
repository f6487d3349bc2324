"""Write the figures of README, docs and quickstart from the files in results/; `--check` only says whether they agree.

python benchmarks/readme.py [--check]

The prose stands in the Markdown files and is changed there. A figure in a sentence is marked, and written anew between
its marks:   <!--= gain protocol-ocd labels-400 tcd_head alone -->+9.5 [+8.7, +10.4]<!--/-->
The first word names one of FIGURES below, the others are its arguments. A table stands between two lines:
    <!-- head-slimming:begin (written by benchmarks/readme.py from results/head-slimming.json) -->
    <!-- head-slimming:end -->
where the first word names one of TABLES.
"""

from __future__ import annotations

import json
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
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
CONTROLS = {
    "alone": "alone", "pseudo_label": "pseudo-labels", "pseudo": "pseudo-labels",
    "longer": "twice the steps", "pkd": "PKD",
}  # fmt: skip
"""what the tables call the arms that others are compared with"""


@cache
def read(name: str) -> Any:
    """The content of results/NAME.json."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


@cache
def study(name: str) -> Results:
    """The rows of a plan's study."""
    return Results.read(ROOT / "results" / name)


@cache
def plan_of(name: str) -> Plan:
    """The plan that the rows of a study were run by."""
    return plan_as_run(study(name))


@cache
def cells_of(name: str, split: str, controls: tuple[str, ...]) -> list[Cell]:
    """What each arm gained over the baseline and these controls, at the chosen learning rates."""
    plan, rows = plan_of(name), study(name).rows
    return compare_rows(plan.model_copy(update={"controls": controls}), rows, split, chosen_rates(plan, rows))


# Figures in sentences: each function takes the words of its mark.


def value(name: str, path: str, form: str = "", scale: str = "1") -> str:
    """What stands at a dotted path of results/NAME.json, times `scale` where it is a number; lists with commas."""
    found = read(name)
    for part in path.split("."):
        found = found[int(part) if isinstance(found, list) else part]
    each = found if isinstance(found, list) else [found]
    return ", ".join(format(item * float(scale) if form else item, form) for item in each)


def command(name: str) -> str:
    """The command that wrote results/NAME.json, as code."""
    return f"`{read(name)['command']}`"


def ratio(name: str, path: str, form: str = ".2f") -> str:
    """A median with the range of its repetitions: 1.20 (1.10–2.33)."""
    return (
        f"{value(name, f'{path}.median', form)} ({value(name, f'{path}.min', form)}–{value(name, f'{path}.max', form)})"
    )


def gain(name: str, regime: str, arm: str, control: str) -> str:
    """What an arm gained over another on test, in points of mean OKS with its interval: +1.2 [+0.8, +1.6]."""
    return _gain(name, "test", regime, arm, control)


def screened(name: str, regime: str, arm: str, control: str) -> str:
    """The same on the persons for choosing, with the seeds of the choices."""
    return _gain(name, "tune", regime, arm, control)


def _gain(name: str, split: str, regime: str, arm: str, control: str) -> str:
    return signed(_cell(name, split, regime, arm, control).gains[control])


def _cell(name: str, split: str, regime: str, arm: str, *controls: str) -> Cell:
    cells = {(each.regime, each.arm): each for each in cells_of(name, split, controls)}
    if (regime, arm) not in cells:
        raise SystemExit(f"{name}: no arm {arm} of {regime} on {split}; there are {', '.join(map('/'.join, cells))}")
    return cells[regime, arm]


def closed(name: str, regime: str, arm: str, baseline: str) -> str:
    """Which share of the gap between a baseline and the teacher an arm closes on test, in %: 72 [68, 76]."""
    cells = _cells_from(name, regime, baseline)
    return next(_share(cell.gap_closed) for cell in cells if cell.arm == arm)


def _cells_from(name: str, regime: str, baseline: str, controls: tuple[str, ...] = ()) -> list[Cell]:
    """The arms of a regime on test, measured from another arm than the plan's baseline."""
    plan, found = plan_of(name), study(name)
    plan_from = plan.model_copy(update={"baseline": baseline, "controls": controls})
    rows = [row for row in found.rows if row["regime"] == regime]
    return compare_rows(plan_from, rows, "test", chosen_rates(plan, found.rows), found.teachers)


def _share(found: Difference | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found.mean:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def reached(name: str, regime: str, arm: str, what: str = "mean_oks") -> str:
    """The mean OKS (or `average_precision`) of an arm on test, x 100."""
    return percent(getattr(_cell(name, "test", regime, arm), what))


def tried(name: str, regime: str, arm: str) -> str:
    """The mean OKS of an arm on the persons for choosing, x 100."""
    return percent(_cell(name, "tune", regime, arm).mean_oks)


def prepared(name: str, model: str, what: str = "mean_oks") -> str:
    """What a model that a study prepared reached on the persons for choosing, x 100."""
    return percent(study(name).prepared[model][what])


def times_as_long(name: str, regime: str, arm: str, other: str) -> str:
    """How many times as long an arm trained as another: medians over seeds, beside other work."""
    one, two = (_cell(name, "test", regime, which).training_seconds for which in (arm, other))
    return f"{one / two:.1f}"


def step_ratio(name: str, regime: str, arm: str) -> str:
    """How many times a step of the baseline a step takes of the method whose time this control was given."""
    return f"{study(name).lengths[regime, arm]['ratio']:.2f}"


def times_as_fast() -> str:
    """How many times as fast the student of the one command answers as its teacher."""
    beside = read("one-command")["beside"]
    return f"{beside['teacher']['milliseconds'] / beside['student']['milliseconds']:.1f}"


# Tables.


def confirmed(name: str, regimes: tuple[str, ...], controls: tuple[str, ...]) -> str:
    """The arms of a study that were confirmed on test, with their gains over these controls."""
    plan = plan_of(name)
    titles = " | ".join(f"over {CONTROLS[each]}" for each in controls)
    lines = [f"| regime | arm | mean OKS | {titles} | AP |", "|---|---|--:|" + "--:|" * (len(controls) + 1)]
    for cell in cells_of(name, "test", controls):
        if cell.regime in regimes:
            gains = [_starred(cell.gains.get(each)) for each in controls]
            oks = f"{percent(cell.mean_oks)} ± {percent(cell.spread)}"
            cells = [cell.regime, plan.arms[cell.arm].title, oks, *gains, percent(cell.average_precision)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _starred(found: Difference | None) -> str:
    return "–" if found is None else signed(found)


def study_protocol() -> str:
    """What the first protocol confirmed."""
    return confirmed("protocol", ("labels-400", "photos-2000"), ("alone", "pseudo_label", "longer"))


def study_distilpose() -> str:
    """What DistilPose's study confirmed."""
    return confirmed("protocol-distilpose", ("labels-400", "photos-2000"), ("alone", "pseudo_label", "longer"))


def study_ocd() -> str:
    """What the study of OCD and TCD confirmed."""
    regimes = ("labels-400", "rle-400", "simcc-400", "photos-2000")
    return confirmed("protocol-ocd", regimes, ("alone", "pseudo_label", "longer"))


def study_agentpose() -> str:
    """What AgentPose's study confirmed, with the strongest teacher and on photographs."""
    return confirmed("protocol-agentpose-few", ("few-4", "photos-200"), ("alone", "pseudo_label", "longer", "pkd"))


def agentpose_teachers() -> str:
    """AgentPose and PKD with each of four teachers, and how the gains change with the teacher's strength."""
    name = "protocol-agentpose-few"
    plan, rows, teachers = plan_of(name), study(name).rows, study(name).teachers
    rates = chosen_rates(plan, rows)
    regimes = sorted(regime for regime in plan.confirm if "teacher" in plan.regimes[regime].dose)
    strengths = [teachers["test", regime]["metrics"]["mean_oks"] for regime in regimes]
    pairs = (("pkd", "alone"), ("agentpose", "alone"), ("agentpose", "pkd"))
    lines = ["| | the teacher's mean OKS | PKD over alone | AgentPose over alone | AgentPose over PKD |"]
    lines.append("|---|--:|--:|--:|--:|")
    for regime, strength in zip(regimes, strengths, strict=True):
        told = [gain(name, regime, arm, reference) for arm, reference in pairs]
        lines.append(f"| {regime} | {percent(strength)} | {' | '.join(told)} |")
    slopes = []
    for arm, reference in pairs:
        runs, others = (
            [runs_of(rows, "test", regime, which, rates[regime, which]) for regime in regimes]
            for which in (arm, reference)
        )
        slopes.append(signed(slope_of_gain(runs, others, [10 * each for each in strengths])))
    return "\n".join([*lines, f"| change for ten points of the teacher's | | {' | '.join(slopes)} |"])


GAINS = (
    ("DistilPose", "none, on photos", "photographs-distilpose", "good-tokens", "distilpose"),
    ("AgentPose", "none, on photos", "photographs", "good", "agentpose"),
    ("PKD", "none, on photos", "photographs", "good", "pkd"),
    ("PKD and OCD", "none, on photos", "photographs", "good", "pkd_ocd"),
    ("OCD (no teacher)", "none, on photos", "photographs", "good", "ocd"),
    ("TCD", "none, on photos", "photographs", "good", "tcd"),
    ("DistilPose", "400 drawn", "protocol-distilpose", "labels-400", "distilpose_2"),
    ("DistilPose", "2,000 photos", "protocol-distilpose", "photos-2000", "distilpose_2"),
    ("TCD", "400 drawn", "protocol-ocd", "labels-400", "tcd_head"),
    ("TCD", "2,000 photos", "protocol-ocd", "photos-2000", "tcd_head"),
    ("OCD (no teacher)", "400 drawn", "protocol-ocd", "labels-400", "ocd"),
    ("OCD (no teacher)", "2,000 photos", "protocol-ocd", "photos-2000", "ocd"),
    ("PKD", "100 drawn", "protocol-agentpose-few", "few-4", "pkd"),
    ("AgentPose", "100 drawn", "protocol-agentpose-few", "few-4", "agentpose"),
    ("PKD", "200 photos", "protocol-agentpose-few", "photos-200", "pkd"),
    ("AgentPose", "200 photos", "protocol-agentpose-few", "photos-200", "agentpose"),
)
"""method, labels, and where it was confirmed: study, regime, arm"""


def gains_of_the_methods() -> str:
    """What each method gained over its controls in its own study: the table of the choice of a method."""
    return _gains(GAINS)


def gains_on_photographs() -> str:
    """The same with no label but a published network's answers: the table of README."""
    lines = ["| method | over pseudo-labels | over twice the steps |", "|---|--:|--:|"]
    for title, labels, name, regime, arm in GAINS:
        if labels == "none, on photos":
            found = _cell(name, "test", regime, arm, "pseudo", "longer").gains
            lines.append(f"| {title} | {signed(found['pseudo'])} | {signed(found['longer'])} |")
    return "\n".join(lines)


def _gains(rows: Sequence[tuple[str, str, str, str, str]]) -> str:
    lines = ["| method | labels | over alone | over pseudo-labels | over twice the steps |", "|---|---|--:|--:|--:|"]
    for title, labels, name, regime, arm in rows:
        # Without labels the baseline itself learns from pseudo-labels, and `longer` for twice as long.
        controls = ("alone", "pseudo" if plan_of(name).baseline == "pseudo" else "pseudo_label", "longer")
        found = _cell(name, "test", regime, arm, *controls).gains
        told = [signed(found[each]) if each in found else "–" for each in controls]
        lines.append(f"| {title} | {labels} | {' | '.join(told)} |")
    return "\n".join(lines)


def quickstart_sentence() -> str:
    """What one recorded quickstart found."""
    figures = read("quickstart")
    took = f"It took {figures['minutes']:.1f} minutes on {figures['surroundings']['cores']} cores."
    return f"> {figures['sentence']}\n\n{took}"


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
            f"> {figures['sentence']} {figures['study']}",
            "",
            f"`{figures['command']}`: {figures['minutes']:.1f} minutes on {around['cores']} cores "
            f"({around['processor']}, torch {around['torch']}); {figures['conditions']} ms: batch 1, one thread.",
        ]
    )


def study_photographs() -> str:
    """What the studies with a published teacher confirmed, a study after the other."""
    lines = list(_HEADERS)
    for name, regime, student in PHOTOGRAPHS:
        lines += [f"| **{student}** |" + " |" * 7, *_confirmed_with_teacher(name, regime)]
    return "\n".join(lines)


def study_small_student() -> str:
    """What the study of a far smaller student confirmed."""
    return "\n".join([*_HEADERS, *_confirmed_with_teacher("photographs-small", "small")])


def study_heatmap_student() -> str:
    """What the study of MoveNet Thunder's own features confirmed."""
    headers = ["| | seeds | mean OKS | over pseudo-labels | over twice the steps | AP | PCK |", "|---|" + "--:|" * 6]
    plan, found = plan_of("photographs-thunder"), study("photographs-thunder")
    cells = compare_rows(plan, found.rows, "test", chosen_rates(plan, found.rows), found.teachers)
    return "\n".join([*headers, *(_beside_controls(plan, cell, ("pseudo", "longer")) for cell in cells)])


_HEADERS = (
    "| | seeds | mean OKS | over pseudo-labels | over twice the steps | gap closed, % | AP | PCK |",
    "|---|--:|--:|--:|--:|--:|--:|--:|",
)


def _confirmed_with_teacher(name: str, regime: str) -> list[str]:
    plan, found = plan_of(name), study(name)
    cells = compare_rows(plan, found.rows, "test", chosen_rates(plan, found.rows), found.teachers)
    return [_with_teacher(plan, cell, ("pseudo", "longer")) for cell in cells if cell.regime == regime]


def two_gaps() -> str:
    """What methods gained with the larger student and with the far smaller one."""
    lines = ["| over pseudo-labels | larger student | far smaller student |", "|---|--:|--:|"]
    for arm, title in IN_BOTH.items():
        gains = [gain(name, regime, arm, "pseudo") for name, regime in BOTH]
        lines.append(f"| {title} | {' | '.join(gains)} |")
    return "\n".join(lines)


IN_BOTH = {
    "ocd": "OCD", "tcd": "TCD", "agentpose": "AgentPose", "pkd": "PKD", "pkd_ocd": "PKD and OCD",
    "longer": "pseudo-labels for twice as long",
}  # fmt: skip
"""arms that both students were trained by, and their titles"""
BOTH = (("photographs", "good"), ("photographs-small", "small"))
"""study and regime of the larger student and of the far smaller one"""


def _with_teacher(plan: Plan, cell: Cell, controls: tuple[str, ...]) -> str:
    """The row of an arm beside its teacher: what it reached, its gains, and how much of the gap they close."""
    return _beside_controls(plan, cell, controls, _share(cell.gap_closed))


def _beside_controls(plan: Plan, cell: Cell, controls: tuple[str, ...], *more: str) -> str:
    """The row of an arm: what it reached, its gains over the controls, what `more` there is to say, AP and PCK."""
    oks = percent(cell.mean_oks) + ("" if cell.spread is None else f" ± {percent(cell.spread)}")
    gains = [_starred(cell.gains.get(each)) for each in controls]
    told = [plan.arms[cell.arm].title, str(len(cell.seeds)), oks, *gains, *more]
    told += [percent(cell.average_precision), percent(statistics.mean(cell.per_keypoint.values()))]
    return f"| {' | '.join(told)} |"


PHOTOGRAPHS = (
    ("photographs-distilpose", "good-tokens", "token student"),
    ("photographs", "good", "coordinate student"),
)
"""study, regime, and what its student is called in the table"""


def study_few_labels() -> str:
    """The same with labels of 400 people, measured from the student alone on these."""
    controls = ("people", "people_longer", "pseudo")
    cells = _cells_from("photographs", "good-400", controls[0], controls[1:])
    titles = "over alone | over alone for twice the steps | over pseudo-labels"
    lines = [f"| | seeds | mean OKS | {titles} | gap closed, % | AP | PCK |", "|---|" + "--:|" * 8]
    lines += [_with_teacher(plan_of("photographs"), cell, controls) for cell in cells]
    return "\n".join(lines)


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
    return "\n".join(lines)


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

    return "\n".join(lines)


def ocd_quick() -> str:
    """How soon OCD is as good as the student alone."""
    quick = read("ocd-cost")["quick_session"]

    def mean(name: str, what: str) -> float:
        return sum(row[what] for row in quick[name]) / len(quick[name])

    names = ["alone", *(name for name in quick if name.startswith("OCD x"))]
    lines = ["| | mean OKS | training s |", "|---|--:|--:|"]
    lines += [f"| {name} | {percent(mean(name, 'mean_oks'))} | {mean(name, 'seconds'):.0f} |" for name in names]
    return "\n".join(lines)


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


def head_slimming() -> str:
    """Light heads beside full ones."""
    figures = read("head-slimming")
    lines = ["| head | parameters of the head | MACs | AP alone | AP taught by the full one |", "|---|--:|--:|--:|--:|"]
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
    return "\n".join(lines)


def lost(family: str, which: str) -> str:
    """Points of AP that a light head (`lost_by_taught`, `lost_by_light_alone`) loses to the full one."""
    found = read("head-slimming")["families"][family][which]
    return f"{100 * found['mean']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def over_lightning(people: str, student: str) -> str:
    """By how much a student of MoveNet Thunder differs from MoveNet Lightning on some people: +1.2 [+0.8, +1.6]."""
    return _interval(read("lightning")[people][student]["over_lightning"])


def beside_lightning() -> str:
    """Students of MoveNet Thunder beside MoveNet Lightning: what each costs, and by how much they differ."""
    found = read("lightning")
    costs, test = found["costs"], found["test"]
    lines = ["| network | crops | parameters | multiply-adds | ms | seeds | mean OKS | over Lightning |",
             "|---|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for name, title in (("equal", "student at equal cost"), ("third", "student at a third of the cost")):
        oks = test[name]["mean_oks"]
        reached = f"{percent(statistics.mean(oks))} ± {percent(statistics.stdev(oks))}"
        told = [title, "x".join(map(str, costs[name]["size"])), *_sizes(costs[name])]
        told += [f"{costs[name]['milliseconds']['student']:.1f}", str(len(oks)), reached, over_lightning("test", name)]
        lines.append(f"| {' | '.join(told)} |")
    for name, side, time in (
        ("lightning", 192, f"{costs['equal']['milliseconds']['lightning']:.1f}"), ("thunder", 256, "–"),
    ):  # fmt: skip
        told = [f"MoveNet {name.capitalize()}", f"{side}x{side}", *_sizes(costs[name]), time, "–"]
        lines.append(f"| {' | '.join([*told, percent(test[name]['mean_oks']), '–'])} |")
    return "\n".join(lines)


def _sizes(cost: Mapping[str, Any]) -> list[str]:
    """Parameters and multiply-adds in words."""
    return [f"{cost['parameters'] / 1e6:.2f} M", f"{cost['multiply_adds'] / 1e9:.3f} G"]


def file_teachers() -> str:
    """How well published files find the keypoints of photographs, and how long they take."""
    figures = read("file-teachers")
    lines = ["| file | layout | input | mean OKS | ms / person |", "|---|---|---|--:|--:|"]
    for row in figures["rows"]:
        lines.append(
            f"| {row['title']} | `{row['layout']}` | {'x'.join(map(str, row['input']))} "
            f"| {percent(row['mean_oks'])} | {row['milliseconds']:.0f} |"
        )
    return "\n".join(lines)


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
    return "\n".join(lines)


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
    return "\n".join(lines)


def exported_to() -> str:
    """The runtimes that results/export.json has files of."""
    rows = (row for each in read("export")["agreement"].values() for row in each["files"])
    return ", ".join(dict.fromkeys(row["runtime"][:-5] for row in rows))


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


def kept_memory() -> str:
    """How much faster a training step on a CPU is that keeps its freed memory."""
    figures = read("allocator")
    lines = ["| student | ms a step, glibc's default | kept | times as fast |", "|---|--:|--:|--:|"]
    for student, found in figures["students"].items():
        default, kept = (f"{found['milliseconds_a_step'][way]:.0f}" for way in ("default", "kept"))
        lines.append(f"| {student} | {default} | {kept} | {ratio('allocator', f'students.{student}.times_as_fast')} |")
    told = "The last column is the median (and range) of the rounds' own ratios, not that of the two times."
    return "\n".join([*lines, "", f"`{figures['command']}`: batch 32, one thread. {told}"])


def shared_kills() -> str:
    """What work that two machines share survived."""
    kinds = read("kills-sharded")["kinds"]
    study, labels = kinds["study"], kinds["labels"]
    safe = all(each["nothing lost"] and each["nothing published twice"] for each in (study, labels))
    same = (
        study["the same rows as one process's, bit for bit, but for times"]
        and labels["the same labels as those of shards that nothing happened to"]
    )
    return (
        f"A study of {study['rows']} runs was killed {len(study['kills'])} times from its first run to its last, "
        f"labels of {labels['persons']} pictures {len(labels['kills'])} times: "
        f"{'nothing was lost or published twice' if safe else 'something was lost or published twice'}, and both ended "
        f"{'the same bit for bit' if same else 'otherwise'} (`python benchmarks/kills_sharded.py`)."
    )


def label_throughput() -> str:
    """What labels cost in one process and in two shards."""
    figures = read("label-throughput")
    one, two = (figures["ways"][name] for name in ("one process", "two shards"))
    spent = [statistics.median(each["processor_seconds"] for each in way["rounds"]) for way in (one, two)]
    return (
        f"With a tiny teacher {figures['pictures']:,} pictures took {spent[0]:.0f} processor seconds in one process "
        f"and {spent[1]:.0f} in two shards, which start twice: {one['pictures_per_second']:.0f} and "
        f"{two['pictures_per_second']:.0f} pictures a second on two cores busy with much else "
        "(`python benchmarks/label_throughput.py`)."
    )


def browser() -> str:
    """How far the page's keypoints lie from Python's, and what a network costs there."""
    figures = read("browser")
    costs = [
        f"{row['browser_ms']:.0f} ms beside {row['python_ms']:.0f} ms for {row['size'][0]}x{row['size'][1]} px and "
        f"{row['macs'] / 1e9:.2f} G multiply-adds ({row['times_slower']['min']:.1f} to "
        f"{row['times_slower']['max']:.1f} times as long)"
        for row in figures["speed"]
    ]
    return (
        f"Keypoints lie within {max(figures['sample_px']['max'], 0.01):.2f} px of Python's on the sample, and within "
        f"{figures['clip_px']['max']:.2f} px over {figures['clip_px']['frames']} frames of a camera. A crop takes in "
        f"Chromium, beside ONNX Runtime in Python: {'; '.join(costs)}. WebAssembly, one thread each, by turns, on a "
        "busy machine."
    )


def finding() -> str:
    """What the quickstart quotes: assets/protocol.json."""
    figures = read("protocol-distilpose/summary")
    wanted = ("labels-400", "distilpose_2")
    cell = next(each for each in figures["cells"]["test"] if (each["regime"], each["arm"]) == wanted)
    content = {
        "protocol": figures["protocol"],
        "arm": "distilpose",
        "labels": 400,
        "seeds": len(cell["seeds"]),
        "persons": cell["gains"]["alone"]["persons"],
        "over_alone": _interval(cell["gains"]["alone"]),
        "over_longer": _interval(cell["gains"]["longer"]),
        "over_pseudo_label": _interval(cell["gains"]["pseudo_label"]),
    }
    return json.dumps(content, indent=2) + "\n"


def _interval(gain: dict[str, Any]) -> str:
    """Points with their interval: +1.2 [+0.8, +1.6]."""
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def written(text: str) -> str:
    """A page with every marked figure and table made anew."""
    for table in TABLES:
        name = table.__name__.replace("_", "-")
        pattern = rf"(<!-- {name}:begin [^>]*-->\n).*?(<!-- {name}:end -->)"
        text = re.sub(pattern, lambda found, made=table: f"{found[1]}{_block(made())}{found[2]}", text, flags=re.S)
    return re.sub(
        r"<!--= ([^>]*?) -->.*?<!--/-->", lambda found: f"<!--= {found[1]} -->{figure(found[1])}<!--/-->", text
    )


def _block(content: str) -> str:
    """A table on lines of its own; nothing where there is none yet."""
    return f"{content}\n" if content else ""


def figure(mark: str) -> str:
    """The figure that the words of a mark ask for."""
    name, *words = shlex.split(mark)
    if name not in FIGURES:
        raise SystemExit(f"<!--= {mark} -->: no figure {name}; there are {', '.join(FIGURES)}")
    return FIGURES[name](*words)


FIGURES: Mapping[str, Callable[..., str]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        value, command, ratio, gain, screened, reached, tried, prepared, times_as_long, step_ratio, times_as_fast, lost,
        exported_to, closed, over_lightning,
    )
}  # fmt: skip
TABLES = (
    quickstart, quickstart_sentence, study_protocol, study_distilpose, study_ocd, study_agentpose,
    agentpose_teachers, gains_of_the_methods, gains_on_photographs, study_photographs, study_few_labels,
    study_small_student, study_heatmap_student, two_gaps, longer, beside_lightning,
    intervals, distilpose_cost, ocd_quick, wholebody_parts, head_slimming, file_teachers, export, export_speed,
    evaluator, loader, step_profile, kept_memory, shared_kills, label_throughput, browser,
)  # fmt: skip
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
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
