from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.metrics.intervals import mean_of_proportions, newcombe, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_published_by_newcombe(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("successes_1", "n_1", "successes_2", "n_2", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_newcombe_gives_the_published_values(
    successes_1: int, n_1: int, successes_2: int, n_2: int, low: float, high: float
) -> None:
    """Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10."""
    assert newcombe(successes_1, n_1, successes_2, n_2) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("n_probe", "n_val", "half_width"), [(60, 60, 0.113), (60, 500, 0.069), (200, 200, 0.059), (359, 359, 0.044)]
)
def test_the_gap_of_few_images_is_known_only_roughly(n_probe: int, n_val: int, half_width: float) -> None:
    low, high = newcombe(round(0.95 * n_probe), n_probe, round(0.85 * n_val), n_val)
    assert (high - low) / 2 == pytest.approx(half_width, abs=5e-4)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (1, 3), (81, 263), (297, 298), (59_000, 60_000)])
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), rel=0, abs=1e-15)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_stays_within_0_and_1(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))


def test_more_confidence_takes_a_wider_interval() -> None:
    assert wilson(8, 10, confidence=0.99)[0] < wilson(8, 10)[0] < wilson(8, 10, confidence=0.5)[0]
    assert newcombe(8, 10, 5, 10, confidence=0.99)[0] < newcombe(8, 10, 5, 10)[0]


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    message = f"successes must be between 0 and n, and n >= 1; got {successes} of {n}"
    with pytest.raises(ValueError, match=message):
        wilson(successes, n)
    with pytest.raises(ValueError, match=message):
        newcombe(1, 2, successes, n)
    with pytest.raises(ValueError, match=message):
        mean_of_proportions([1, successes], [2, n])


def test_a_mean_of_no_proportions_is_refused() -> None:
    with pytest.raises(ValueError, match="sizes must hold at least one sample; got none"):
        mean_of_proportions([], [])


@pytest.mark.parametrize(("hits", "sizes"), [((56, 48), (70, 80)), ((9, 3), (10, 10)), ((5, 0), (56, 29))])
def test_of_two_samples_it_is_the_interval_of_agresti_and_caffo(hits: tuple[int, int], sizes: tuple[int, int]) -> None:
    """As p₁ − p₂ is twice the mean of p₁ and 1 − p₂, less 1; theirs adds a success and a failure to each sample."""
    (p, q), (n, m) = ((hit + 1) / (size + 2) for hit, size in zip(hits, sizes, strict=True)), sizes
    margin = 1.959964 * sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    low, high = mean_of_proportions([hits[0], sizes[1] - hits[1]], sizes)
    assert (2 * low - 1, 2 * high - 1) == pytest.approx((p - q - margin, p - q + margin), abs=1e-6)


@given(
    st.lists(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=9)
)
def test_the_interval_of_a_mean_holds_it_and_stays_within_0_and_1(samples: list[tuple[int, int]]) -> None:
    low, high = mean_of_proportions(*zip(*samples, strict=True))
    assert 0 <= low <= sum(hits / size for hits, size in samples) / len(samples) + 1e-12 and high <= 1
    assert high >= sum(hits / size for hits, size in samples) / len(samples) - 1e-12


@pytest.mark.parametrize(
    ("sizes", "recalls"),
    [([5, 1000], [0.98, 0.95]), ([10, 20, 50, 100, 500], [0.5, 0.7, 0.9, 0.95, 0.99]), ([20] * 40, [0.97] * 40)],
)
def test_the_interval_of_a_mean_covers_it_as_often_as_it_says(sizes: list[int], recalls: list[float]) -> None:
    draws = np.random.default_rng(0).binomial(sizes, recalls, size=(2000, len(sizes)))
    intervals = np.array([mean_of_proportions(draw.tolist(), sizes) for draw in draws])
    covered = (intervals[:, 0] <= np.mean(recalls)) & (np.mean(recalls) <= intervals[:, 1])
    assert covered.mean() > 0.93
