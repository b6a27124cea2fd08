"""Estimates the effect of one change from trainings paired by seed: interval, p value and detectable effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Z = 1.96
"""Standard errors to either side of a mean that hold it with this confidence."""

POWER = 0.80
"""Share of experiments that find a difference of the size called detectable."""

MOST_FLIPPED = 16
"""Largest number of pairs for which all 2ⁿ sign flips are counted; for more, SciPy draws a sample of them."""


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences.

    Attributes:
        mean: Mean of challenger minus baseline.
        low: Lower bound of the 95 % interval of Student's t.
        high: Upper bound.
        n: Number of pairs.
        detectable: True difference that `n` pairs with this spread would find in 80 % of experiments.
    """

    mean: float
    low: float
    high: float
    n: int
    detectable: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; one of no width does not count, as it tells nothing of other seeds."""
        return self.low < self.high and (self.low > 0 or self.high < 0)


def difference(challenger: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The paired t interval (Student 1908): mean ± t·s/√n of the differences, with n − 1 degrees of freedom.

    If all differences are equal, the interval has no width.

    Args:
        challenger: Values of the changed training, one for each seed.
        baseline: Values of the baseline, for the same seeds in the same order.

    Raises:
        ValueError: There are fewer than two pairs, or the numbers of values differ.

    >>> gain = difference([0.80, 0.83, 0.81], [0.78, 0.80, 0.80])
    >>> round(gain.mean, 3), round(gain.low, 3), round(gain.high, 3)
    (0.02, -0.005, 0.045)
    """
    from scipy import stats

    if len(challenger) != len(baseline) or len(challenger) < 2:
        raise ValueError(
            f"a paired difference needs two pairs or more; got {len(challenger)} values and {len(baseline)} of the baseline"
        )
    changes = [new - old for new, old in zip(challenger, baseline, strict=True)]
    n, mean, spread = len(changes), fmean(changes), stdev(changes)
    margin = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * spread / sqrt(n)
    return Difference(mean, mean - margin, mean + margin, n, spread * detectable_effect(n))


def over_folds(challenger: Sequence[float], baseline: Sequence[float], changes: NDArray[np.float64]) -> Difference:
    """The interval of values from the folds of a cross-validation: the wider one of two.

    One is that of `difference` over the folds, which holds how trainings differ. The other is ± 1.96 standard errors of the
    change over the images (Bayle et al. 2020, "Cross-validation confidence intervals for test error"), below which no number
    of repeats on the same images leads. Nadeau and Bengio's correction for training images that folds share is far wider than
    either: their values spread little more together than one by one (`benchmarks/folds.py`).

    Args:
        challenger: Values of the challenger, one for each fold.
        baseline: Values of the baseline on the same folds in the same order.
        changes: For each image, in how many more of the repeats the challenger is right, as a share of them; see `by_image`.
    """
    plain = difference(challenger, baseline)
    error = float(changes.std(ddof=1)) / sqrt(len(changes))
    margin = (plain.high - plain.low) / 2
    widest = max(margin, Z * error)
    detectable = plain.detectable * (widest / margin if margin else 1.0)
    return Difference(plain.mean, plain.mean - widest, plain.mean + widest, plain.n, detectable)


def by_image(challenger: Sequence[Mapping[str, float]], baseline: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """The mean change of each image over the repeats of a cross-validation, of shape (n,).

    Args:
        challenger: For each fold, 1 for each of its images that the challenger classifies rightly, 0 for the others.
        baseline: Likewise for the baseline, on the same folds in the same order.

    Raises:
        ValueError: A fold has not the same images in both.

    >>> by_image([{"a": 1, "b": 1}, {"a": 1, "b": 0}], [{"a": 0, "b": 1}, {"a": 1, "b": 1}]).tolist()
    [0.5, -0.5]
    """
    changes: dict[str, list[float]] = {}
    for new, old in zip(challenger, baseline, strict=True):
        if new.keys() != old.keys():
            raise ValueError(
                f"a fold must have the same images in both; {len(new.keys() ^ old.keys())} are in one alone"
            )
        for image in old:
            changes.setdefault(image, []).append(new[image] - old[image])
    return np.array([fmean(each) for each in changes.values()])


def t_p(found: Difference) -> float:
    """The two-sided p value of Student's t test that belongs to an interval, that of `over_folds` included.

    >>> round(t_p(difference([0.80, 0.83, 0.81], [0.78, 0.80, 0.80])), 3)
    0.074
    """
    from scipy import stats

    margin = (found.high - found.low) / 2
    if not margin:
        return float(found.mean == 0)
    statistic = abs(found.mean) / margin * stats.t.ppf(0.5 + CONFIDENCE / 2, found.n - 1)
    return float(2 * stats.t.sf(statistic, found.n - 1))


def detectable_effect(n: int) -> float:
    """The true mean, in standard deviations of the paired differences, that the t test on `n` pairs finds with `POWER`.

    Solved for the noncentral t distribution (Cohen 1988, "Statistical power analysis", section 2.2).

    >>> round(detectable_effect(6), 2), round(detectable_effect(20), 2)
    (1.43, 0.66)
    """
    from scipy import optimize, stats

    freedom = n - 1
    critical = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
    estimate = critical + float(stats.t.ppf(POWER, freedom))  # exact for many pairs, 20 % too low for two

    def excess_power(shift: float) -> float:
        return float(stats.nct.sf(critical, freedom, shift)) - POWER  # the other tail adds less than 1e-6

    return float(optimize.brentq(excess_power, estimate / 2, estimate * 2)) / sqrt(n)


def sign_flip_p(challenger: Sequence[float], baseline: Sequence[float]) -> float:
    """The two-sided p value of the sign-flip test: the share of sign flips with a mean as far from 0 (Fisher 1935).

    Its smallest possible value is 2/2ⁿ.

    >>> sign_flip_p([1.0, 2.0, 3.0, 2.0, 1.5], [0.0, 0.0, 0.0, 0.0, 0.0])
    0.0625
    """
    from scipy import stats

    changes = [new - old for new, old in zip(challenger, baseline, strict=True)]
    num_ways = 2 ** len(changes) if len(changes) <= MOST_FLIPPED else 100_000
    flipped = stats.permutation_test(
        (changes,), np.mean, permutation_type="samples", n_resamples=num_ways, vectorized=True, rng=0
    )
    return float(flipped.pvalue)


def can_correct(n: int, num_tests: int) -> bool:
    """Whether a sign-flip test of `n` pairs can be significant after Holm's correction for `num_tests` tests.

    >>> can_correct(6, 9), can_correct(10, 9)
    (False, True)
    """
    return 2 / 2**n * num_tests < 1 - CONFIDENCE


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for the number of tests (Holm 1979), in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class PairedShares:
    """Two classifiers on the same n images.

    Attributes:
        n: Number of images.
        gained: Number of images that only the challenger classifies rightly.
        lost: Number of images that only the baseline classifies rightly.
        difference: Accuracy of the challenger less that of the baseline.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        p: Two-sided p value of the exact McNemar test: how often images that differ would split so unevenly by chance.
    """

    n: int
    gained: int
    lost: int
    difference: float
    low: float
    high: float
    p: float

    @property
    def is_clear(self) -> bool:
        """Whether the test tells the two apart."""
        return self.p < 1 - CONFIDENCE


def paired_shares(challenger: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> PairedShares:
    """Compare two classifiers on the same images: exact McNemar test (1947), and Tango's score interval.

    The interval inverts the score test of the difference, and keeps its coverage where few images differ (Tango 1998,
    "Equivalence test and confidence interval for the difference in proportions for the paired-sample design", Statistics in
    Medicine 17). The exact interval that belongs to the McNemar test takes the number of images that differ for known; where
    one is right alone on 2 % of 300 images and the other on none, it covers the difference in 55 of 100 experiments.

    Args:
        challenger: Whether the challenger classifies each image rightly, of shape (n,), n >= 1.
        baseline: Likewise for the baseline.

    >>> right, wrong = np.ones(9, bool), np.zeros(9, bool)
    >>> paired_shares(right, wrong).p, paired_shares(right, right).difference
    (0.00390625, 0.0)
    """
    from scipy import optimize, stats

    n = len(baseline)
    gained, lost = int((challenger & ~baseline).sum()), int((baseline & ~challenger).sum())
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    difference, quantile = (gained - lost) / n, float(stats.norm.ppf(0.5 + CONFIDENCE / 2))

    def score(delta: float) -> float:
        """The standardised distance of the observed difference from `delta`."""
        b = -gained - lost + (2 * n - gained + lost) * delta
        lost_share = (sqrt(max(0.0, b * b + 8 * n * lost * delta * (1 - delta))) - b) / (4 * n)
        variance = n * (2 * lost_share + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance / sqrt(variance) if variance > 0 else float(np.sign(distance)) * 1e9

    edge = 1 - 1e-9
    low = optimize.brentq(lambda delta: score(delta) - quantile, -edge, difference) if difference > -edge else -1.0
    high = optimize.brentq(lambda delta: score(delta) + quantile, difference, edge) if difference < edge else 1.0
    return PairedShares(n, gained, lost, difference, float(low), float(high), p)
