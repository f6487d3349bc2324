"""What more a student of pseudo-labels could gain: the figures of one study, for reports of runs without labels."""

from __future__ import annotations

from collections.abc import Mapping

STUDY = "docs/studies/photographs.md"
GAINS: Mapping[str, str] = {
    "longer": "+5.9 [+4.0, +7.9]",
    "pkd_ocd": "+9.1 [+8.2, +10.0]",
}
"""by the arm's name: points of mean OKS over pseudo-labels on test, with 95 % intervals (results/photographs)"""


def expected() -> str:
    """How far pseudo-labels are from what else was tried with one published teacher, in sentences."""
    return (
        f"How much more is there to gain? In a study of posestill ({STUDY}) a small student learned, as here, from a "
        "published network's answers about photographs of athletes alone. In points of mean OKS, with 95 % intervals, "
        f"it gained {GAINS['longer']} from twice as many steps, and {GAINS['pkd_ocd']} from PKD with OCD in as many "
        "steps, for which a teacher with features had been trained on the same answers. It had few steps and a head "
        "of coordinates, which learns more slowly than one that draws heatmaps, so that it had more to gain than most."
    )
