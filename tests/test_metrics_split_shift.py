"""Splits whose class shares differ."""

import numpy as np
import pytest

from pipeline.metrics.intervals import newcombe
from pipeline.metrics.split_shift import split_shifts


def test_the_largest_difference_comes_first_with_its_interval() -> None:
    counts = {"train": [800, 200], "val": [60, 40], "confirm": [81, 19], "test": [20, 80]}
    test, val = split_shifts(counts)
    assert (test.split, test.label, test.share, test.train_share) == ("test", 0, 0.2, 0.8)
    assert (test.low, test.high) == newcombe(20, 100, 800, 1000)
    assert val.split == "val" and test.p < val.p < 0.001


def test_small_differences_among_many_images_do_not_matter() -> None:
    assert split_shifts({"train": [505_000, 495_000], "test": [495_000, 505_000]}) == []


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.06, 0.04], np.full(200, 1 / 200)])
def test_splits_drawn_alike_are_almost_never_told(shares: list[float]) -> None:
    generator = np.random.default_rng(0)
    sizes = {"train": 700, "val": 90, "confirm": 90, "test": 120}
    drawn = [{name: generator.multinomial(n, shares).tolist() for name, n in sizes.items()} for _ in range(1000)]
    assert sum(bool(split_shifts(counts)) for counts in drawn) <= 5


def test_an_empty_split_and_classes_without_images_say_nothing() -> None:
    assert split_shifts({"train": [50, 50, 0], "val": [10, 10, 0], "confirm": [0, 0, 0], "test": [0, 0, 0]}) == []
    assert split_shifts({"train": [50], "test": [5]}) == []
