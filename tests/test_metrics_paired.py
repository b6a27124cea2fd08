"""Tests paired differences: coverage of the intervals, exact p values, and detectable effects."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.metrics import paired
from pipeline.metrics.paired import PairedShares, paired_shares

VALUES = st.lists(st.floats(-10, 10).map(lambda value: round(value, 3)), min_size=2, max_size=7)


def test_the_interval_is_that_of_a_t_test_on_pairs() -> None:
    """Student 1908, "The probable error of a mean", section IX: hours of sleep gained with two drugs by ten patients."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired.difference(second, first)
    assert (found.mean, found.n) == (pytest.approx(1.58), 10)
    assert (found.low, found.high) == (pytest.approx(0.7001, abs=1e-4), pytest.approx(2.4599, abs=1e-4))
    assert found.excludes_zero


def test_six_pairs_of_noise_are_covered_in_95_of_100_experiments() -> None:
    draws = np.random.default_rng(0).normal(size=(1500, 6))
    covered = np.mean([not paired.difference(list(row), [0.0] * 6).excludes_zero for row in draws])
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("n", [2, 6, 30])
def test_a_detectable_difference_is_found_in_80_of_100_experiments(n: int) -> None:
    draws = np.random.default_rng(1).normal(paired.detectable_effect(n), size=(4000, n))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.80, abs=0.025)


def test_folds_of_other_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"^a fold must have the same images in both; 2 are in one alone$"):
        paired.by_image([{"a": 1, "b": 0}], [{"a": 1, "c": 0}])


def test_pairs_without_spread_have_an_interval_of_no_width() -> None:
    found = paired.difference([1.5, 2.5, 3.5], [1.0, 2.0, 3.0])
    assert (found.low, found.mean, found.high, found.detectable) == (0.5, 0.5, 0.5, 0.0)
    assert not found.excludes_zero, "two seeds that happen to agree are no proof"


@pytest.mark.parametrize(("challenger", "baseline"), [([1.0], [2.0]), ([1.0, 2.0], [1.0])])
def test_too_few_pairs_are_refused(challenger: list[float], baseline: list[float]) -> None:
    with pytest.raises(ValueError, match=r"needs two pairs or more; got \d values and \d of the baseline"):
        paired.difference(challenger, baseline)


@given(VALUES)
def test_the_sign_flip_p_counts_all_ways_to_flip(changes: list[float]) -> None:
    ways = [np.mean(np.multiply(signs, changes)) for signs in product((-1, 1), repeat=len(changes))]
    as_far = np.mean([abs(mean) >= abs(np.mean(changes)) - 1e-9 for mean in ways])
    p = paired.sign_flip_p(changes, [0.0] * len(changes))
    assert p == pytest.approx(min(1.0, as_far), abs=1e-9)
    assert p >= 2 / 2 ** len(changes) or p == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_keeps_the_order_and_never_lessens_a_p_value(p_values: list[float]) -> None:
    adjusted = paired.holm(p_values)
    assert all(raw <= corrected <= 1 for raw, corrected in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)


def test_six_seeds_are_too_few_for_a_corrected_test_of_nine_arms() -> None:
    assert not paired.can_correct(6, 9)
    assert not paired.can_correct(8, 9) and paired.can_correct(9, 9)
    best = paired.sign_flip_p([1.0] * 9, [0.0] * 9)
    assert paired.holm([best, *[1.0] * 8])[0] < 0.05


def of(gained: int, lost: int, n: int) -> PairedShares:
    """The first is right alone on `gained` images, the second on `lost`."""
    place = np.arange(n)
    return paired_shares(place < gained, (place >= gained) & (place < gained + lost))


def test_paired_shares_count_the_images_on_which_one_alone_is_right() -> None:
    found = of(12, 5, 100)
    assert (found.n, found.gained, found.lost, found.difference) == (100, 12, 5, 0.07)
    assert found.p == pytest.approx(stats.binomtest(12, 17).pvalue)
    assert found.low < 0 < 0.07 < found.high and not found.is_clear


@pytest.mark.parametrize(("gained", "lost"), [(12, 5), (7, 0), (1, 9)])
def test_each_bound_is_as_far_away_as_the_score_test_allows(gained: int, lost: int) -> None:
    n, found = 60, of(gained, lost, 60)
    for bound, quantile in ((found.low, 1.959964), (found.high, -1.959964)):
        # The share of images on which the second alone is right, by maximum likelihood where the difference is the bound.
        shares = np.linspace(max(0, -bound), (1 - bound) / 2, 400_001)[1:-1]
        likelihood = (
            gained * np.log(shares + bound)
            + lost * np.log(shares)
            + (n - gained - lost) * np.log1p(-2 * shares - bound)
        )
        share = shares[likelihood.argmax()]
        distance = gained - lost - n * bound
        assert distance / np.sqrt(n * (2 * share + bound - bound**2)) == pytest.approx(quantile, abs=2e-3)


def test_changing_sides_changes_the_sign() -> None:
    one, other = of(9, 3, 40), of(3, 9, 40)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low)) and one.p == other.p


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (0, 5), (2, 3)])
def test_the_interval_holds_the_difference_and_stays_in_range(gained: int, lost: int) -> None:
    found = of(gained, lost, 5)
    assert -1 <= found.low <= found.difference <= found.high <= 1 and found.low < found.high


@pytest.mark.parametrize(("only_first", "only_second"), [(0.02, 0.0), (0.1, 0.05), (0.3, 0.02)])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(only_first: float, only_second: float) -> None:
    generator, hits = np.random.default_rng(0), 0
    drawn = generator.multinomial(300, [only_first, only_second, 1 - only_first - only_second], 400)
    for gained, lost, _ in drawn:
        found = of(gained, lost, 300)
        hits += found.low <= only_first - only_second <= found.high
    assert 0.92 <= hits / 400 <= 0.99
