"""Student's t with real degrees of freedom, alone and as the sum of two, to about 1e-8 and without scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache


def t_tail(value: float, degrees: float) -> float:
    """The probability that Student's t with `degrees` > 0 of freedom exceeds `value`.

    Half the regularised incomplete beta function I_x(degrees / 2, 1 / 2) at x = degrees / (degrees + value^2), by its
    continued fraction (Abramowitz & Stegun 26.5.8 and 26.7.1); the normal distribution's tail from 1e9 degrees on.
    """
    if not degrees > 0:
        raise ValueError(f"degrees of freedom are above 0: {degrees}")
    if value <= 0:
        return 0.5 if value == 0 else 1 - t_tail(-value, degrees)
    if degrees > 1e9:
        return math.erfc(value / math.sqrt(2)) / 2
    ratio, half = value * value / degrees, degrees / 2
    front = math.exp(math.log(value) + _log_density(value, degrees))
    if 1 / (1 + ratio) < (half + 1) / (half + 2.5):  # else the fraction is slow: take the other side's
        return front * _beta_fraction(half, 0.5, x=1 / (1 + ratio)) / degrees
    return 0.5 - front * _beta_fraction(0.5, half, x=ratio / (1 + ratio))


@lru_cache(maxsize=65536)  # a study asks for the same few thousands of times, and Newton's last digits take long
def t_quantile(probability: float, degrees: float) -> float:
    """The value that Student's t with `degrees` > 0 of freedom stays below with `probability`, 0 < probability < 1."""
    if not 0 < probability < 1:
        raise ValueError(f"a probability between 0 and 1 is wanted: {probability}")
    if probability >= 0.5:
        return -t_quantile(1 - probability, degrees) if probability > 0.5 else 0.0
    position = 0.0  # log t; the log tail is concave over it, so Newton's steps come to the root from the right
    for _ in range(2000):
        value = math.exp(position)
        tail = t_tail(value, degrees)
        step = math.log(tail / probability) * tail / (value * math.exp(_log_density(value, degrees)))
        position += min(step, 0.5)  # the first steps, from the left, would leave the numbers there are
        if abs(step) < 1e-14:
            break
    return -math.exp(position)


@dataclass(frozen=True)
class Errors:
    """The standard error of a mean over seeds and persons in its two independent parts, each with a t of its own."""

    seed: float
    """what more seeds would shrink (their residual included); seeds - 1 degrees of freedom"""
    person: float
    """what only more persons would shrink; persons - 1 degrees of freedom"""
    seeds: int
    persons: int

    def reach(self, tail: float) -> float:
        """The distance by which the mean is too high with a probability of at most `tail`: a one-sided half-width."""
        by_seed = self.seed * t_quantile(tail, self.seeds - 1) if self.seed else 0.0
        return math.hypot(by_seed, self.person * t_quantile(tail, self.persons - 1))

    def tail(self, distance: float) -> float:
        """The `tail` whose `reach` is `distance` (which may be negative): a one-sided p-value."""
        if distance < 0:
            return 1 - self.tail(-distance)
        if not (self.seed or self.person):
            return 0.0 if distance else 0.5
        return math.exp(_turn(lambda log_tail: self.reach(math.exp(log_tail)) > distance, -300, math.log(0.5)))

    def degrees(self, tail: float) -> float:
        """The degrees of freedom of the one t that has this `reach` on the whole standard error."""
        if not (self.seed and self.person):
            return float(self.seeds - 1 if self.seed else self.persons - 1)
        ends = sorted((math.log(self.seeds - 1), math.log(self.persons - 1)))
        ratio = self.reach(tail) / math.hypot(self.seed, self.person)
        return math.exp(_turn(lambda log_degrees: -t_quantile(tail, math.exp(log_degrees)) > ratio, *ends))


def _turn(before: Callable[[float], bool], low: float, high: float) -> float:
    """Where `before` turns from true to false, between `low` and `high`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return (low + high) / 2


def _log_density(value: float, degrees: float) -> float:
    degrees = min(degrees, 1e10)
    return -(degrees + 1) / 2 * math.log1p(value * value / degrees) - _log_beta(degrees / 2) - math.log(degrees) / 2


def _log_beta(half: float) -> float:
    """The logarithm of the beta function B(half, 1 / 2)."""
    if half < 100:
        return math.lgamma(half) + math.lgamma(0.5) - math.lgamma(half + 0.5)
    return math.log(math.pi / half) / 2 + 1 / (8 * half) - 1 / (192 * half**3)  # lgamma would lose digits


def _beta_fraction(a: float, b: float, *, x: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    ahead, behind = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    product = behind
    for m in range(1, 10000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for each in (even, odd):
            ahead, behind = 1 + each / ahead, 1 / (1 + each * behind)
            product *= ahead * behind
        if abs(ahead * behind - 1) < 1e-15:
            break
    return product
