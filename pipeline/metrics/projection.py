"""Projects how far a falling curve will fall if the training goes on, with an interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

NUM_RESAMPLES = 200
SKIPPED = 4
"""The first of so many parts of the epochs is left out: the beginning follows another law."""

FEWEST = 8
"""Smallest number of epochs that a projection is made from."""

_POWERS = np.geomspace(0.1, 2.0, 31)
_TIMES = np.geomspace(0.08, 4.0, 31)
"""Exponents of the power laws; time constants of the exponentials, as multiples of the number of epochs."""


class Fall(NamedTuple):
    """A projected fall and its 95 % interval."""

    value: float
    low: float
    high: float


def projected_fall(curve: Sequence[float] | Series, times: float = 2.0) -> Fall | None:
    """How much further a curve falls until `times` its number of epochs.

    A floor with a power law, floor + a·epoch^(−p), and a floor with an exponential, floor + a·exp(−epoch/τ), are fitted to the
    last three quarters of the curve by least squares, with a ≥ 0 and floor ≥ 0; the family that better forecasts the last fifth
    of these epochs from those before gives the value (such tails of learning curves: Domhan et al. 2015, "Speeding up
    automatic hyperparameter optimization"). The interval holds what both families give for resampled residuals.

    Args:
        curve: A loss, or a share of mistakes, epoch by epoch.
        times: Multiple of the number of epochs to project to.

    Returns:
        The fall from the fitted curve's end; None with fewer than `FEWEST` epochs.

    >>> fall = projected_fall(0.5 + 2 / np.arange(1, 21))
    >>> round(fall.value, 3), projected_fall(np.full(20, 0.5)).high
    (0.05, 0.0)
    """
    values = np.asarray(curve, dtype=np.float64)
    number = len(values)
    if number < FEWEST:
        return None
    epochs = np.arange(1, number + 1)
    begin = min(number // SKIPPED, number - FEWEST)
    families = [_powers(number), _times(number)]
    tail, at = values[begin:], epochs[begin:] - 1
    held_out = max(2, len(tail) // 5)
    ends = np.array([number - 1, round(times * number) - 1])
    errors, falls, fitted = [], [], []
    for family in families:
        basis = family[:, at]
        floor, scale, best = _fit(basis[:, :-held_out], tail[None, :-held_out])
        forecast = floor[0] + scale[0] * basis[best[0], -held_out:]
        errors.append(float(((forecast - tail[-held_out:]) ** 2).sum()))
        floor, scale, best = _fit(basis, tail[None])
        fitted.append(floor[0] + scale[0] * basis[best[0]])
        falls.append(float(scale[0] * -np.diff(family[best[0], ends])[0]))
    chosen = int(np.argmin(errors))
    residuals = tail - fitted[chosen]
    spread = np.sqrt(len(tail) / (len(tail) - 3))
    drawn = np.random.default_rng(0).choice(residuals, (NUM_RESAMPLES, len(tail))) * spread
    resampled = []
    for family, fit in zip(families, fitted, strict=True):
        _, scale, best = _fit(family[:, at], fit + drawn)
        resampled.append(scale * -np.diff(family[best][:, ends], axis=1)[:, 0])
    low, high = np.quantile(np.concatenate(resampled), [0.025, 0.975])
    value = falls[chosen]
    return Fall(value, min(float(low), value), max(float(high), value))


def _powers(number: int) -> Series:
    """The power laws, of shape (exponents, epochs up to ten times as many)."""
    epochs = np.arange(1, 10 * number + 1)
    return np.stack([epochs**-power for power in _POWERS])


def _times(number: int) -> Series:
    epochs = np.arange(1, 10 * number + 1)
    return np.stack([np.exp(-epochs / (time * number)) for time in _TIMES])


def _fit(basis: Series, curves: Series) -> tuple[Series, Series, NDArray[np.int64]]:
    """Fit floor + scale·basis to each curve with the basis that fits it best.

    Args:
        basis: Shape (bases, epochs).
        curves: Shape (curves, epochs).

    Returns:
        Floors, scales, and the numbers of the bases, each of shape (curves,).
    """
    mean_basis, mean_curve = basis.mean(axis=1), curves.mean(axis=1)
    centred = basis - mean_basis[:, None]
    scale = np.maximum(0.0, (curves - mean_curve[:, None]) @ centred.T / (centred**2).sum(axis=1))
    floor = mean_curve[:, None] - scale * mean_basis
    below = floor < 0
    through_zero = (curves @ basis.T) / (basis**2).sum(axis=1)
    scale, floor = np.where(below, through_zero, scale), np.where(below, 0.0, floor)
    errors = ((floor[..., None] + scale[..., None] * basis - curves[:, None]) ** 2).sum(axis=2)
    best = errors.argmin(axis=1)
    rows = np.arange(len(curves))
    return floor[rows, best], scale[rows, best], best
