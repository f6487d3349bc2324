"""Whether a difference between two arms is more than luck: over seeds and persons together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from posestill.study.t_distribution import Errors, t_quantile


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and a two-sided interval around it."""

    mean: float
    low: float
    high: float
    p: float
    """two-sided, against no difference: below 0.05 where the 95 % interval leaves 0 out"""
    seeds: int
    """with 1 the interval is over persons only, for these two models: it says nothing of another seed"""
    persons: int
    standard_error: float
    degrees_of_freedom: float
    """of the one Student t that gives this interval"""
    errors: Errors


@dataclass(frozen=True)
class MeanSquares:
    """Of a crossed table without repeats, (...) each; the residual is 0 with one seed."""

    seed: np.ndarray
    person: np.ndarray
    residual: np.ndarray

    @property
    def person_beyond_residual(self) -> np.ndarray:
        return np.maximum(self.person - self.residual, 0)


@dataclass(frozen=True)
class Spreads:
    """Standard deviations of the differences: between seeds, between persons, and of what is left."""

    seed: float
    person: float
    residual: float


def difference(after: np.ndarray, before: np.ndarray, *, confidence: float = 0.95) -> Difference:
    """The mean of after - before, both (S, N) over the same seeds and persons, for other seeds and persons like these.

    Seeds and persons are crossed random effects. The variance of the mean is A + B with A = MS_seed / (S N) and
    B = max(MS_person - MS_residual, 0) / (S N); the half-width is sqrt(t(S - 1)^2 A + t(N - 1)^2 B). Whichever part
    prevails, it leaves 0 out no more often than it says, as the distribution function of a squared normal is concave
    (Banerjee, Sankhya 22, 1960; for B, a difference of two mean squares, a close approximation); with 2 or 3 seeds
    less often. (One t with Satterthwaite's degrees of freedom would leave it out too often there.) One seed: the
    paired t interval over persons.
    Persons NaN anywhere are left out. ValueError for unequal shapes and fewer than two persons.
    """
    gain = _gain(after, before)
    squares = mean_squares(gain)
    (seeds, persons), mean = gain.shape, float(gain.mean())
    by_seed, by_person = (math.sqrt(each / gain.size) for each in (squares.seed, squares.person_beyond_residual))
    errors = Errors(seed=by_seed, person=by_person, seeds=seeds, persons=persons)
    reach = errors.reach((1 - confidence) / 2)
    return Difference(
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        p=2 * errors.tail(abs(mean)),
        seeds=seeds,
        persons=persons,
        standard_error=math.hypot(by_seed, by_person),
        degrees_of_freedom=errors.degrees((1 - confidence) / 2),
        errors=errors,
    )


def share_of_gap(after: np.ndarray, before: np.ndarray, above: np.ndarray, *, confidence: float = 0.95) -> Difference:
    """How much of the way from `before` to `above` was gone: the mean gain over the mean room, as a fraction.

    after and before are (S, N) over seeds and persons, above (N,) is the one model to be reached. The interval is that
    of `difference` on the ratio's linearisation (delta method): it holds where the room is wide beside its own error.
    ValueError where `above` does not lie above `before` on average.
    """
    room = np.broadcast_to(above, before.shape) - before
    known = np.isfinite(after + room).all(axis=0)
    gain, room = (after - before)[:, known], room[:, known]
    if room.mean() <= 0:
        raise ValueError(f"there is no gap to close: what is to be reached lies {-room.mean():.4g} below")
    ratio = gain.mean() / room.mean()
    linear = ratio + (gain - ratio * room) / room.mean()
    return difference(linear, np.zeros_like(linear), confidence=confidence)


def lower_bound(found: Difference, *, confidence: float = 0.95) -> float:
    """What the difference exceeds with this confidence, one-sided; with the sign turned, the upper bound of a loss."""
    return found.mean - found.errors.reach(1 - confidence)


def non_inferiority(found: Difference, *, margin: float) -> float:
    """The one-sided p-value against a loss of `margin` or more: below 0.05 where `lower_bound` is above -margin."""
    return found.errors.tail(found.mean + _positive(margin))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values adjusted so that all comparisons together err at their level (Holm, 1979), in the order given."""
    if not all(0 <= p <= 1 for p in p_values.values()):
        raise ValueError(f"p-values lie between 0 and 1: {dict(p_values)}")
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda each: p_values[each])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def spreads_of(after: np.ndarray, before: np.ndarray) -> Spreads:
    """The spreads of after - before, both (S, N), from the mean squares, 0 where they come out below it; S >= 2."""
    gain = _gain(after, before)
    seeds, persons = gain.shape
    if seeds < 2:
        raise ValueError(f"seed and residual cannot be told apart with {seeds} seed: two or more are wanted")
    squares = mean_squares(gain)
    between_seeds = max(float(squares.seed - squares.residual), 0.0) / persons
    between_persons = float(squares.person_beyond_residual) / seeds
    return Spreads(math.sqrt(between_seeds), math.sqrt(between_persons), math.sqrt(squares.residual))


def false_positive_rate(
    spreads: Spreads,
    *,
    seeds: int,
    persons: int,
    trials: int,
    rng: np.random.Generator,
    over_seeds: bool = True,
) -> float:
    """How often the 95 % interval leaves out 0 where there is no difference, on simulated normal effects.

    With `over_seeds` false: that of the interval over persons alone, a paired t on each person's mean over seeds.
    """
    wrong = 0
    by_seed = t_quantile(0.975, seeds - 1) ** 2 if over_seeds and seeds > 1 else 0.0
    by_person = t_quantile(0.975, persons - 1) ** 2
    chunk = max(1, 1_000_000 // (seeds * persons))
    for start in range(0, trials, chunk):
        count = min(chunk, trials - start)
        gain = spreads.residual * rng.standard_normal((count, seeds, persons))
        gain += spreads.seed * rng.standard_normal((count, seeds, 1))
        gain += spreads.person * rng.standard_normal((count, 1, persons))
        squares = mean_squares(gain)
        persons_part = squares.person_beyond_residual if over_seeds else squares.person
        reach = np.sqrt((by_seed * squares.seed + by_person * persons_part) / (seeds * persons))
        wrong += int((np.abs(gain.mean((1, 2))) > reach).sum())
    return wrong / trials


def mean_squares(gain: np.ndarray) -> MeanSquares:
    """The mean squares of differences (..., S, N), seeds by persons."""
    seeds, persons = gain.shape[-2:]
    mean = gain.mean((-2, -1), keepdims=True)  # (..., 1, 1)
    by_seed = gain.mean(-1, keepdims=True) - mean  # (..., S, 1)
    by_person = gain.mean(-2, keepdims=True) - mean  # (..., 1, N)
    rest = gain - by_seed - by_person - mean  # (..., S, N)
    others = seeds - 1 or math.inf  # with one seed there is neither a seed's part nor a residual
    return MeanSquares(
        seed=persons * (by_seed**2).sum((-2, -1)) / others,
        person=seeds * (by_person**2).sum((-2, -1)) / (persons - 1),
        residual=(rest**2).sum((-2, -1)) / (others * (persons - 1)),
    )


def _gain(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """After - before, (S, N) without the persons that are NaN anywhere."""
    if after.shape != before.shape or after.ndim != 2:
        raise ValueError(f"(seeds, persons) alike are wanted on both sides: {after.shape} and {before.shape}")
    gain = after - before
    gain = gain[:, np.isfinite(gain).all(0)]
    if gain.shape[0] < 1 or gain.shape[1] < 2:
        raise ValueError(f"at least 1 seed and 2 persons are wanted: {gain.shape} without NaN of {after.shape}")
    return gain


def _positive(margin: float) -> float:
    if not margin > 0:
        raise ValueError(f"a margin is above 0: {margin}")
    return margin
