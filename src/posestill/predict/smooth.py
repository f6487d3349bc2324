"""The One-Euro filter: less trembling where a person stands still, little lag where it moves.

Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012.
"""

from __future__ import annotations

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat

from posestill.schema import Config


class OneEuroConfig(Config):
    """These settings say how keypoints of a video are smoothed."""

    min_cutoff: PositiveFloat = 1.0
    """The cutoff frequency in Hz where nothing moves. A lower one trembles less and lags more in slow movements."""
    beta: NonNegativeFloat = 5.0
    """By how many Hz the cutoff rises at a speed of one person's size (the longer side of its box) a second. A larger
    one lags less in fast movements and trembles more there; at 0 the cutoff stays where it is."""
    derivative_cutoff: PositiveFloat = 1.0
    """The cutoff frequency in Hz of the speed itself. A higher one notices sooner that a movement begins or ends, and
    takes more trembling for movement."""


class OneEuro:
    """The filter of one person's keypoints."""

    def __init__(self, config: OneEuroConfig) -> None:
        self.config = config
        self._seconds = 0.0
        self._places: np.ndarray | None = None
        """(K, 2) filtered, image px"""
        self._speed = np.zeros(0)
        """(K, 2) filtered, image px a second"""

    def __call__(self, places: np.ndarray, seconds: float, *, size: float) -> np.ndarray:
        """(K, 2) filtered places for places (K, 2) image px at a time; `size` is the person's, image px."""
        if self._places is None or seconds <= self._seconds:  # the first ones, or a clock that was put back
            self._places, self._speed, self._seconds = places.copy(), np.zeros_like(places), seconds
            return places.copy()
        step = seconds - self._seconds
        speed = (places - self._places) / step
        speed = self._speed + _share(self.config.derivative_cutoff, step) * (speed - self._speed)
        cutoff = self.config.min_cutoff + self.config.beta * np.abs(speed) / max(size, 1.0)
        filtered = self._places + _share(cutoff, step) * (places - self._places)
        lost = ~np.isfinite(filtered)  # begins anew with the next place
        self._places, self._speed = np.where(lost, places, filtered), np.where(lost, 0.0, speed)
        self._seconds = seconds
        return self._places.copy()


def _share(cutoff: float | np.ndarray, step: float) -> np.ndarray:
    """How much a first-order low-pass of a cutoff (Hz) takes of a new value after `step` seconds (eq. 4 and 5)."""
    turn = 2 * np.pi * np.asarray(cutoff) * step
    share: np.ndarray = turn / (turn + 1)
    return share
