"""Tests the figures of a sweep for any values, and the scale of each axis."""

import io

import matplotlib.image
import numpy as np
import pytest

from pipeline.plotting import sweep
from pipeline.plotting.sweep import importances, parallel_coordinates

LISTS = [
    "[{HorizontalFlip:{p:0.5}},{Pad:{padding:size/16}}]",
    "[{HorizontalFlip:{p:0.5}},{Pad:{padding:size/16}},{Affine:{rotate:[-10,10]}}]",
    "",
]


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer.lr": ["1e-4", "1e-3", "0.01"], "model": ["lenet", "convnet", "lenet"]},
        {"augment.transforms": LISTS, "train.early_stopping.patience": ["null", "5", "10"]},
        {"seed": ["1", "1", "1"]},
        {"regularization.l1": ["0", "1e-6", "1e-4"]},
    ],
    ids=["numbers and words", "free lists and null", "all alike", "zero beside orders of magnitude"],
)
def test_jobs_are_drawn_whatever_their_values(settings: dict[str, list[str]]) -> None:
    drawn = pixels(parallel_coordinates(settings, [0.3, 0.2, 0.2], "val/loss", higher_is_better=False))
    assert drawn.shape[1] > drawn.shape[0] > 300 and drawn.std() > 0.01


def test_the_same_jobs_give_the_same_bytes() -> None:
    settings = {"model.dropout": ["0", "0.3"]}
    one, two = (parallel_coordinates(settings, [0.3, 0.2], "val/loss", higher_is_better=False) for _ in range(2))
    assert one == two


def test_the_better_job_is_blue_whichever_way_the_metric_points() -> None:
    def blue_on_top(*, higher_is_better: bool) -> bool:
        drawn = pixels(
            parallel_coordinates({"a": ["0", "1"]}, [1.0, 2.0], "metric", higher_is_better=higher_is_better)
        )[..., :3]
        strong = drawn.max(-1) - drawn.min(-1) > 0.3
        right_half = strong & (np.arange(drawn.shape[1]) > drawn.shape[1] / 2)
        blue = np.argwhere(right_half & (drawn.argmax(-1) == 2))[:, 0]
        orange = np.argwhere(right_half & (drawn.argmax(-1) == 0))[:, 0]
        return bool(blue.min() < orange.min())

    assert blue_on_top(higher_is_better=True) and blue_on_top(higher_is_better=False)


def test_values_over_orders_of_magnitude_get_a_logarithmic_axis_and_others_do_not() -> None:
    assert sweep._looks_logarithmic([1e-4, 1e-3, 1e-2])
    assert not sweep._looks_logarithmic([0.0, 1e-3, 1e-2]), "zero has no logarithm"
    assert not sweep._looks_logarithmic([1, 2, 3])


def test_few_values_are_all_marked_and_many_by_five() -> None:
    few = sweep._number_ticks([0.3, 0.0, 0.3, 0.1], log=False)
    assert few == [(0.0, "0"), (pytest.approx(1 / 3), "0.1"), (1.0, "0.3")]
    many = sweep._number_ticks([10.0**-exponent for exponent in range(9)], log=True)
    assert [text for _, text in many] == ["1e-08", "1e-06", "0.0001", "0.01", "1"]


def test_long_values_are_shortened_in_the_middle_so_that_they_stay_apart() -> None:
    first, second = (sweep._shortened(text) for text in LISTS[:2])
    assert first != second and max(len(first), len(second)) <= 24
    assert first.startswith("[{HorizontalFli…") and first.endswith("size/16}}]"[-8:])
    assert sweep._shortened("standard") == "standard"


def test_jobs_with_one_value_lie_side_by_side_and_in_the_order_of_their_results() -> None:
    heights, worst_first = np.array([0.25, 0.75, 0.25, 0.25]), np.array([3, 1, 0, 2])
    offsets = sweep._apart(heights, worst_first)
    assert offsets[3] < offsets[0] < offsets[2] and offsets[1] == 0
    assert abs(offsets).max() <= 0.03


def test_words_stand_after_numbers_which_stand_in_their_order() -> None:
    assert sorted(["null", "10", "5"], key=sweep._numbers_first) == ["5", "10", "null"]


def test_importance_that_was_not_learned_is_drawn_in_grey() -> None:
    def colourful(explained: float) -> float:
        drawn = pixels(importances({"model.dropout": 0.8}, {"model.dropout": 0.1}, explained, 12, "val/loss"))[..., :3]
        return float((drawn.max(-1) - drawn.min(-1) > 0.3).mean())

    assert colourful(0.7) > 0.05 and colourful(-0.1) == 0
