"""What pairs of trainings tell: the difference that one change made, seed by seed, and how sure one may be of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.80
"""Of the difference that is called detectable: the share of experiments that would find it."""

MOST_FLIPPED = 16
"""Pairs up to which all 2ⁿ ways to flip the signs are counted; beyond, SciPy draws from them."""


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences.

    Attributes:
        mean: Of challenger minus baseline.
        low: Lower end of the 95 % interval of Student's t.
        high: Upper end.
        n: Pairs.
        detectable: The true difference that so many pairs with this spread would find in 80 % of experiments.
    """

    mean: float
    low: float
    high: float
    n: int
    detectable: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval claims a difference; pairs without any spread say nothing of what other seeds would do."""
        return self.low < self.high and (self.low > 0 or self.high < 0)


def difference(challenger: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The paired t interval (Student 1908): mean ± t·s/√n of the differences, with n − 1 degrees of freedom.

    Pairs without any spread have an interval of no width.

    Args:
        challenger: One value for each seed.
        baseline: Likewise, with the same seeds in the same order.

    Raises:
        ValueError: There are fewer than two pairs, or not as many of the one as of the other.

    >>> found = difference([0.80, 0.83, 0.81], [0.78, 0.80, 0.80])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.02, -0.005, 0.045)
    """
    if len(challenger) != len(baseline) or len(challenger) < 2:
        raise ValueError(
            f"a paired difference needs two pairs or more; got {len(challenger)} values and {len(baseline)} of the baseline"
        )
    changes = [new - old for new, old in zip(challenger, baseline, strict=True)]
    n, mean, spread = len(changes), fmean(changes), stdev(changes)
    margin = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * spread / sqrt(n)
    return Difference(mean, mean - margin, mean + margin, n, spread * detectable_effect(n))


def detectable_effect(n: int) -> float:
    """The true mean, in standard deviations of the paired differences, that the t test on `n` pairs finds with `POWER`.

    Solved for the noncentral t distribution (Cohen 1988, "Statistical power analysis", section 2.2).

    >>> round(detectable_effect(6), 2), round(detectable_effect(20), 2)
    (1.43, 0.66)
    """
    freedom = n - 1
    critical = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
    estimate = critical + float(stats.t.ppf(POWER, freedom))  # exact for many pairs, 20 % too low for two

    def lacking(shift: float) -> float:
        return float(stats.nct.sf(critical, freedom, shift)) - POWER  # the other tail adds less than 1e-6

    return float(optimize.brentq(lacking, estimate / 2, estimate * 2)) / sqrt(n)


def sign_flip_p(challenger: Sequence[float], baseline: Sequence[float]) -> float:
    """The two-sided p value of the sign-flip test: how often a mean as far from 0 comes of random signs (Fisher 1935).

    Its least value is 2/2ⁿ.

    >>> sign_flip_p([1.0, 2.0, 3.0, 2.0, 1.5], [0.0, 0.0, 0.0, 0.0, 0.0])
    0.0625
    """
    changes = [new - old for new, old in zip(challenger, baseline, strict=True)]
    num_ways = 2 ** len(changes) if len(changes) <= MOST_FLIPPED else 100_000
    flipped = stats.permutation_test(
        (changes,), np.mean, permutation_type="samples", n_resamples=num_ways, vectorized=True, rng=0
    )
    return float(flipped.pvalue)


def can_correct(n: int, num_tests: int) -> bool:
    """Whether `n` pairs can give a sign-flip p that survives Holm's correction for `num_tests` tests.

    >>> can_correct(6, 9), can_correct(10, 9)
    (False, True)
    """
    return 2 / 2**n * num_tests < 1 - CONFIDENCE


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for their number (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
