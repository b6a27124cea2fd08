"""Computes confidence intervals of proportions, of their differences and of their means, also for few images."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of one proportion (Wilson 1927).

    It keeps its coverage near 0 and 1 and for small `n`, unlike p ± z·√(p(1 − p)/n). SciPy's `binomtest(k, n).proportion_ci`
    agrees to the last digit or two, but first computes a p value, which takes 180 times as long.

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
    # Rounding errors must not exclude the proportion itself, which may be 0 or 1.
    return max(0.0, min(proportion, center - margin)), min(1.0, max(proportion, center + margin))


def newcombe(successes_1: int, n_1: int, successes_2: int, n_2: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of p₁ − p₂ for two independent samples, from their Wilson intervals (Newcombe 1998, method 10).

    Raises:
        ValueError: A sample is empty, or has more successes than members.

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
    """The interval of the mean of proportions of independent samples, such as the recalls of classes.

    The method adds 2/m successes and 2/m failures to each of the m samples, then uses the delta method (Price and Bonett
    2004, "An improved confidence interval for a linear function of binomial proportions", Computational Statistics & Data
    Analysis 45). So proportions of 0 and 1, usual in small classes, keep some variance. The delta method alone and the
    bootstrap give them none: for two classes with 5 and 1,000 images and recalls near 0.95, their 95 % intervals cover the
    mean in 28 of 100 test splits.

    Raises:
        ValueError: There is no sample, or a sample is empty or has more successes than members.

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
