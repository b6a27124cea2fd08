"""Intervals for accuracies and for the difference of two, as few images as there may be."""

from math import sqrt
from statistics import NormalDist


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval for one proportion (Wilson 1927).

    It keeps its coverage near 0 and 1 and for small `n`, where p ± z·√(p(1 − p)/n) does not.

    Raises:
        ValueError: `n` is below 1, or `successes` is not between 0 and `n`.

    >>> low, high = wilson(81, 263)
    >>> round(low, 4), round(high, 4)
    (0.2553, 0.3662)
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n, and n >= 1; got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    proportion = successes / n
    center = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    # Without rounding errors the interval would hold the proportion, 0 and 1 included.
    return max(0.0, min(proportion, center - margin)), min(1.0, max(proportion, center + margin))


def newcombe(successes_1: int, n_1: int, successes_2: int, n_2: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval for p₁ − p₂ of two independent samples (Newcombe 1998, method 10), from their Wilson intervals.

    Raises:
        ValueError: One of the samples is empty, or has more successes than members.

    >>> low, high = newcombe(56, 70, 48, 80)
    >>> round(low, 4), round(high, 4)
    (0.0524, 0.3339)
    """
    low_1, high_1 = wilson(successes_1, n_1, confidence)
    low_2, high_2 = wilson(successes_2, n_2, confidence)
    proportion_1, proportion_2 = successes_1 / n_1, successes_2 / n_2
    difference = proportion_1 - proportion_2
    below = sqrt((proportion_1 - low_1) ** 2 + (high_2 - proportion_2) ** 2)
    above = sqrt((high_1 - proportion_1) ** 2 + (proportion_2 - low_2) ** 2)
    return difference - below, difference + above
