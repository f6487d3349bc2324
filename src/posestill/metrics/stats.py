"""Whether a difference is more than luck: intervals over the persons of one evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and an interval around it."""

    mean: float
    low: float
    high: float


def paired_difference(
    after: np.ndarray, before: np.ndarray, *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Difference:
    """The mean of after - before, both (N,) over the same persons, with a bootstrap interval over persons.

    The interval holds for other persons like these and for *these two models*: it says nothing of another seed. Persons
    that are NaN in either are left out.
    """
    if after.shape != before.shape:
        raise ValueError(f"the same persons are wanted: {after.shape} and {before.shape} values")
    gain = (after - before)[np.isfinite(after - before)]  # (N,)
    rng = np.random.default_rng(seed)
    means = np.array([gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(draws)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(mean=float(gain.mean()), low=float(low), high=float(high))
