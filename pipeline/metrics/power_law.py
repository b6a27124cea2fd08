"""Fits the power law by which the error falls with the number of training images, and forecasts the accuracy with more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

NUM_RESAMPLES = 400
_LARGEST_EXPONENT = 2.0
"""Upper bound of the exponent; no image classifier is known to improve faster."""


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + scale·n^(−exponent), the form of Hestness et al. 2017 (https://arxiv.org/abs/1712.00409).

    It is one of the best that Viering and Loog 2022 compare (https://doi.org/10.1109/TPAMI.2022.3220744).

    Attributes:
        floor: Error that remains with any number of images.
        scale: Factor of the term that falls.
        exponent: Speed at which it falls.
    """

    floor: float
    scale: float
    exponent: float

    def error(self, num_images: float) -> float:
        """The error with `num_images` training images."""
        return self.floor + self.scale * num_images**-self.exponent


@dataclass(frozen=True)
class Forecast:
    """An accuracy predicted by the power law, with the 95 % interval of a bootstrap over the seeds."""

    num_images: int
    accuracy: float
    low: float
    high: float


def fit(errors: Mapping[int, float]) -> PowerLaw:
    """Fits the power law by least squares of relative residuals, with floor ≥ 0 and 0 ≤ exponent ≤ 2.

    Args:
        errors: Mean error, keyed by the number of training images.

    Raises:
        ValueError: There are fewer than three numbers of images, for the law has three parameters.

    >>> law = fit({n: 0.05 + 2.0 * n**-0.5 for n in (100, 200, 400, 1000)})
    >>> round(law.floor, 3), round(law.scale, 2), round(law.exponent, 2)
    (0.05, 2.0, 0.5)
    """
    if len(errors) < 3:
        raise ValueError(f"a power law needs three numbers of images or more; got {len(errors)}")
    sizes = np.array(sorted(errors), dtype=np.float64)
    measured = np.array([max(errors[size], 1e-6) for size in sorted(errors)])
    relative = sizes / sizes[-1]  # so that all three parameters have the same order of magnitude

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        floor, falling, exponent = parameters
        return (floor + falling * relative**-exponent) / measured - 1

    last = measured[-1]
    starts = [(share * last, (1 - share) * last, exponent) for share in (0.0, 0.5, 0.9) for exponent in (0.2, 0.6)]
    bounds = ([0, 0, 0], [1, 1, _LARGEST_EXPONENT])
    fitted = [optimize.least_squares(residuals, start, bounds=bounds) for start in starts]
    floor, falling, exponent = min(fitted, key=lambda result: result.cost).x
    return PowerLaw(float(floor), float(falling * sizes[-1] ** exponent), float(exponent))


def forecast(accuracies: Mapping[int, Sequence[float]], num_images: int) -> Forecast:
    """Predicts the accuracy with `num_images` training images from those of each seed, keyed by the number of images.

    Raises:
        ValueError: There are fewer than three numbers of images.
    """
    generator = np.random.default_rng(0)
    measured = {size: np.asarray(values, dtype=np.float64) for size, values in accuracies.items()}
    law = fit({size: 1 - float(values.mean()) for size, values in measured.items()})
    predicted = []
    for _ in range(NUM_RESAMPLES):
        resampled = {size: 1 - float(generator.choice(values, len(values)).mean()) for size, values in measured.items()}
        predicted.append(1 - fit(resampled).error(num_images))
    low, high = np.percentile(predicted, [2.5, 97.5])
    value = 1 - law.error(num_images)
    return Forecast(num_images, value, min(float(low), value), max(float(high), value))
