"""Write the README's figures from the files in results/; `--check` only says whether they agree.

python benchmarks/readme.py [--check]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from posestill.report import percent

ROOT = Path(__file__).parents[1]


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


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
    return (
        f"On {figures['images']:,} images with {figures['people']:,} people the ten numbers {agreement}, in "
        f"{seconds['posestill']['median']:.2f} s "
        f"against {seconds['pycocotools']['median']:.2f} s ({faster['median']:.0f} times faster, {faster['min']:.0f}–"
        f"{faster['max']:.0f} over five pairs; `{figures['command']}`). A test holds it to 1e-10 on 200 random crowds."
    )


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


def written(text: str) -> str:
    """The README with every marked part made anew."""
    for part in (quickstart, sample, students, evaluator):
        name = part.__name__
        pattern = rf"(<!-- {name}:begin [^>]*-->\n).*?(<!-- {name}:end -->)"
        text = re.sub(pattern, lambda found, part=part: f"{found[1]}{part()}\n{found[2]}", text, flags=re.S)
    return text


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    made = written(text)
    if "--check" in sys.argv:
        sys.exit(0 if made == text else "README.md does not say what results/ says: run python benchmarks/readme.py")
    path.write_text(made)


if __name__ == "__main__":
    main()
