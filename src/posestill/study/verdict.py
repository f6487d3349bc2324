"""What a study found, in plain sentences: which arm comes first in each regime, and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence

from posestill.study.gains import Cell, signed
from posestill.study.plan import Plan

ALPHA = 0.05
"""Holm's p-value below which a gain is taken for one"""
MOST_REGIMES = 4
"""of which each gets its own sentence; more of them are counted"""


def verdict_of(plan: Plan, cells: Sequence[Cell], *, split: str) -> list[str]:
    """The verdict over the cells of one split, the first sentence first; what it is worth comes last."""
    regimes = list(dict.fromkeys(cell.regime for cell in cells))
    if len(regimes) <= MOST_REGIMES:
        sentences = [_of_regime(plan, [cell for cell in cells if cell.regime == regime]) for regime in regimes]
    else:
        sentences = _counted(plan, cells, len(regimes))
    return [*sentences, _worth(plan, cells, split)]


def is_gain(cell: Cell, reference: str) -> bool:
    """Whether an arm's gain over another is above nothing, by more than one seed and Holm's p-value."""
    gain = cell.gains.get(reference)
    return gain is not None and gain.mean > 0 and gain.seeds > 1 and cell.adjusted[reference] < ALPHA


def _of_regime(plan: Plan, cells: Sequence[Cell]) -> str:
    """Which arm comes first in one regime, and which references it beats."""
    best = max(cells, key=lambda cell: cell.mean_oks)
    where = f"In {best.regime}, {_title(plan, best.arm)}"
    figure = f"mean OKS {100 * best.mean_oks:.1f}"
    if len(cells) == 1:
        return f"{where} reaches {figure}; no other arm has run there yet."
    compared = [reference for reference in dict.fromkeys((plan.baseline, *plan.controls)) if reference in best.gains]
    if best.arm == plan.baseline:
        return f"{where}, which all others are measured from, comes first with {figure}: nothing gained over it."
    told = [_compared(plan, best, reference) for reference in compared]
    return f"{where} comes first with {figure}{': ' if told else ''}{', and '.join(told)}."


def _compared(plan: Plan, cell: Cell, reference: str) -> str:
    gain, other = cell.gains[reference], _title(plan, reference)
    if is_gain(cell, reference):
        return f"a gain of {signed(gain)} over {other}"
    if gain.seeds > 1:
        return f"not to be told from {other} ({signed(gain)})"
    return f"{signed(gain)} over {other} with one seed"


def _counted(plan: Plan, cells: Sequence[Cell], regimes: int) -> list[str]:
    """Of many regimes: in how many each arm gains over the baseline, the most frequent first."""
    baseline = _title(plan, plan.baseline)
    found = []
    for arm in plan.arms:
        own = [cell for cell in cells if cell.arm == arm and plan.baseline in cell.gains]
        if own:
            found.append((sum(is_gain(cell, plan.baseline) for cell in own), len(own), arm))
    if not found:
        return [f"No arm can be compared with {baseline} yet."]
    found.sort(key=lambda each: -each[0])
    first, *others = [
        f"{_title(plan, arm)} gains over {baseline} in {gained} of {ran} regimes" for gained, ran, arm in found
    ]
    return [f"Over {regimes} regimes: {first}.", *([f"{'; '.join(others)}."] if others else [])]


def _worth(plan: Plan, cells: Sequence[Cell], split: str) -> str:
    """What the sentences before are worth: seeds, intervals, and which persons judged."""
    seeds = max(len(cell.seeds) for cell in cells)
    if split == "tune":
        return "This is a screening, judged by the persons that learning rates were chosen by" + (
            " and with one seed: another may differ by more than the intervals say." if seeds == 1 else "."
        )
    told = (
        f"up to {seeds} seeds, 95 % intervals over seeds and persons; a gain counts where Holm's p-value over the arms "
        f"of its regime is below {ALPHA:g}"
    )
    apart = [name for name in dict.fromkeys(cell.regime for cell in cells) if not plan.regimes[name].test]
    judged = "Confirmed on test" if not apart else "Repeated, but not on persons of their own"
    return f"{judged}: {told}."


def _title(plan: Plan, arm: str) -> str:
    return plan.arms[arm].title
