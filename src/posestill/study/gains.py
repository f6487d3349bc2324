"""What the runs of a plan say: gains with intervals over seeds and persons, from their rows alone."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from posestill.study.intervals import Difference, Spreads, difference, holm, share_of_gap, spreads_of
from posestill.study.lines import Row

if TYPE_CHECKING:
    from posestill.study.plan import Plan


@dataclass(frozen=True)
class Cell:
    """One arm in one regime: its figures over seeds, and what it gained."""

    regime: str
    arm: str
    learning_rate: float
    seeds: tuple[int, ...]
    mean_oks: float
    """over seeds and persons"""
    spread: float | None
    """standard deviation of mean OKS over seeds; None for one seed"""
    average_precision: float
    training_seconds: float
    """median over seeds"""
    gains: Mapping[str, Difference]
    """of mean OKS, by the arm that it is measured from, over the seeds that both have"""
    adjusted: Mapping[str, float]
    """p-values of the gains by Holm's method, over the arms of the regime that are measured from the same arm"""
    gap_closed: Difference | None
    """its share of the way from the baseline to the teacher; None where no teacher was measured, or it is not above"""
    spreads: Spreads | None
    """of the gain over the baseline, between seeds, between persons and what is left; None for one seed"""
    per_keypoint: Mapping[str, float]
    """PCK, mean over seeds"""


def runs_of(rows: Sequence[Row], split: str, regime: str, arm: str, rate: float | None) -> dict[int, Row]:
    """An arm's runs in one regime by seed, at one learning rate; None: at any."""
    return {
        row["seed"]: row
        for row in rows
        if (row["split"], row["regime"], row["arm"]) == (split, regime, arm) and rate in (None, row["learning_rate"])
    }


def compare_rows(
    plan: Plan,
    rows: Sequence[Row],
    split: str,
    rates: Mapping[tuple[str, str], float],
    teachers: Mapping[tuple[str, str], Row] = MappingProxyType({}),
) -> list[Cell]:
    """The cells of one split, in the plan's order: runs at the chosen learning rates only."""
    cells = []
    for regime in plan.regimes:
        arms = {arm: runs_of(rows, split, regime, arm, rates.get((regime, arm))) for arm in plan.arms_of(regime)}
        arms = {arm: runs for arm, runs in arms.items() if runs}
        gains: dict[str, dict[str, Difference]] = {arm: {} for arm in arms}
        adjusted: dict[str, dict[str, float]] = {arm: {} for arm in arms}
        for reference in (plan.baseline, *plan.controls):
            found = {
                arm: gain_over(runs, arms[reference])
                for arm, runs in arms.items()
                if arm != reference and reference in arms and set(runs) & set(arms[reference])
            }
            for arm, value in holm({arm: gain.p for arm, gain in found.items()}).items():
                gains[arm][reference], adjusted[arm][reference] = found[arm], value
        for arm, runs in arms.items():
            spreads = None
            if plan.baseline in gains[arm] and gains[arm][plan.baseline].seeds > 1:
                spreads = spreads_of(*paired(runs, arms[plan.baseline]))
            closed = None
            if plan.baseline in gains[arm] and (split, regime) in teachers:
                closed = _gap_closed(runs, arms[plan.baseline], teachers[split, regime])
            cells.append(_cell(regime, arm, runs, gains[arm], adjusted[arm], closed, spreads))
    return cells


def gain_over(runs: Mapping[int, Row], others: Mapping[int, Row]) -> Difference:
    """The difference in mean OKS of two arms' runs by seed, over the seeds that both have."""
    return difference(*paired(runs, others))


def paired(runs: Mapping[int, Row], others: Mapping[int, Row]) -> tuple[np.ndarray, np.ndarray]:
    """OKS (S, N) of both arms over the seeds that both have."""
    shared = sorted(set(runs) & set(others))
    return _oks_of(runs, shared), _oks_of(others, shared)


def slope_of_gain(
    runs: Sequence[Mapping[int, Row]], others: Sequence[Mapping[int, Row]], at: Sequence[float]
) -> Difference:
    """By how much the gain of an arm's runs over others' changes when `at` grows by 1: the least-squares line.

    `runs` and `others` hold one regime each, by seed; `at` is where the regimes lie, such as the teacher's mean OKS.
    Regimes must share their persons; seeds are those that all have. What both arms share over regimes cancels.
    """
    places = np.array(at, dtype=float)
    if len(set(places)) < 2:
        raise ValueError(f"a slope needs regimes at two places, not at {sorted(set(places))}")
    shares = (places - places.mean()) / ((places - places.mean()) ** 2).sum()
    seeds = sorted(set.intersection(*(set(each) for each in (*runs, *others))))

    def weighed(regimes: Sequence[Mapping[int, Row]]) -> np.ndarray:
        tables = np.stack([_oks_of(regime, seeds) for regime in regimes])  # (R, S, N)
        return np.tensordot(shares, tables, axes=1)

    return difference(weighed(runs), weighed(others))


def _oks_of(runs: Mapping[int, Row], seeds: Sequence[int]) -> np.ndarray:
    return np.stack([unpack_similarity(runs[seed]["similarity"]) for seed in seeds])


def _gap_closed(runs: Mapping[int, Row], others: Mapping[int, Row], teacher: Row) -> Difference | None:
    try:
        return share_of_gap(*paired(runs, others), unpack_similarity(teacher["similarity"]))
    except ValueError:  # the teacher is no better than the student alone
        return None


def signed(gain: Difference) -> str:
    """A difference in points with its interval: +1.2 [+0.8, +1.6]."""
    return f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def pack_similarity(similarity: np.ndarray) -> str:
    """OKS (N,) as text: base64 of zlib-compressed 16-bit numbers, little-endian, of ten-thousandths; -1 where there is
    none.
    """
    whole = np.where(np.isnan(similarity), -1, np.round(10000 * similarity)).astype("<i2")
    return base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode("ascii")


def unpack_similarity(text: str) -> np.ndarray:
    """(N,) OKS, to a ten-thousandth; also of text with the numbers themselves, as rows had it at first."""
    if text.replace(" ", "").replace("-", "").isdigit() or not text.strip("- "):
        return np.array([np.nan if each == "-" else int(each) / 10000 for each in text.split()])
    whole = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i2")
    return np.where(whole < 0, np.nan, whole / 10000)


def _cell(
    regime: str,
    arm: str,
    runs: Mapping[int, Row],
    gains: Mapping[str, Difference],
    adjusted: Mapping[str, float],
    gap_closed: Difference | None,
    spreads: Spreads | None,
) -> Cell:
    every = list(runs.values())
    means = [row["metrics"]["mean_oks"] for row in every]
    return Cell(
        regime=regime,
        arm=arm,
        learning_rate=every[0]["learning_rate"],
        seeds=tuple(sorted(runs)),
        mean_oks=float(np.mean(means)),
        spread=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        average_precision=float(np.mean([row["metrics"]["AP"] for row in every])),
        training_seconds=float(np.median([row["training_seconds"] for row in every])),
        gains=gains,
        adjusted=adjusted,
        gap_closed=gap_closed,
        spreads=spreads,
        per_keypoint={
            name: float(np.mean([row["per_keypoint"][name]["PCK"] for row in every]))
            for name in every[0]["per_keypoint"]
        },
    )
