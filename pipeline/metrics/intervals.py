"""Intervals for accuracies, for the difference of two and for the mean of several, as few images as there may be."""

from collections.abc import Sequence
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
    _check(successes, n)
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


def mean_of_proportions(
    successes: Sequence[int], sizes: Sequence[int], confidence: float = 0.95
) -> tuple[float, float]:
    """The interval for the mean of proportions, each of an independent sample, such as the recalls of classes.

    2/m successes and 2/m failures are added to each of the m samples, and the delta method is used on these (Price and
    Bonett 2004, "An improved confidence interval for a linear function of binomial proportions", Computational Statistics &
    Data Analysis 45). So proportions of 0 and 1, usual in small classes, keep some variance, of which the delta method alone
    and the bootstrap see none: of two classes with 5 and 1,000 images and recalls near 0.95 their intervals cover the mean
    in 28 of 100 test splits, not in 95.

    Raises:
        ValueError: There is no sample, or one is empty or has more successes than members.

    >>> low, high = mean_of_proportions([5, 940], [5, 1000])
    >>> round(low, 3), round(high, 3)
    (0.768, 1.0)
    """
    if not sizes:
        raise ValueError("sizes must hold at least one sample; got none")
    added = 2 / len(sizes)
    center = variance = mean = 0.0
    for hits, size in zip(successes, sizes, strict=True):
        _check(hits, size)
        share = (hits + added) / (size + 2 * added)
        center += share / len(sizes)
        variance += share * (1 - share) / (size + 2 * added) / len(sizes) ** 2
        mean += hits / size / len(sizes)
    margin = NormalDist().inv_cdf(0.5 + confidence / 2) * sqrt(variance)
    return max(0.0, min(mean, center - margin)), min(1.0, max(mean, center + margin))


def _check(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n, and n >= 1; got {successes} of {n}")
