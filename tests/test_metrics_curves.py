"""Curves over all thresholds, and reliability."""

import numpy as np
import pytest

from pipeline.metrics.curves import MOST_POINTS, precision_recall, reliability, roc
from pipeline.metrics.scores import expected_calibration_error

IS_CLASS = np.array([True, True, False, True, False])
PROBABILITY = np.array([0.9, 0.8, 0.7, 0.6, 0.1])


def test_roc_goes_from_no_alarm_to_all_of_them() -> None:
    curve = roc(IS_CLASS, PROBABILITY)
    points = list(zip(curve.x, curve.y, strict=True))
    assert points[0] == (0, 0) and points[-1] == (1, 1) and (0.0, pytest.approx(2 / 3)) in points
    assert curve.area == pytest.approx(5 / 6)  # five of six pairs stand in the right order


def test_precision_is_that_of_the_images_above_each_threshold() -> None:
    curve = precision_recall(IS_CLASS, PROBABILITY)
    points = [(pytest.approx(x), pytest.approx(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    assert (1 / 3, 1.0) in points and (1.0, 3 / 4) in points and (1.0, 3 / 5) in points
    assert curve.area == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_a_class_whose_surest_image_is_wrong_begins_at_the_bottom() -> None:
    curve = precision_recall(np.array([False, True]), np.array([0.9, 0.2]))
    assert (curve.x[0], curve.y[0]) == (0.0, 0.0), "scikit-learn's point for no image at all is left out"


def test_curves_of_many_images_stay_short_and_keep_their_ends() -> None:
    generator = np.random.default_rng(0)
    is_class = generator.random(20_000) < 0.3
    probability = np.clip(0.4 * is_class + generator.random(20_000) * 0.7, 0, 1)
    for curve in (roc(is_class, probability), precision_recall(is_class, probability)):
        assert len(curve.x) <= MOST_POINTS and curve.x == sorted(curve.x)
        assert curve.x[-1] == 1
    assert roc(is_class, probability).x[0] == 0


def test_bins_hold_every_image_and_give_the_calibration_error() -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet([0.5, 0.5, 0.5], 500)
    labels = generator.integers(0, 3, 500)
    bins = reliability(labels, probabilities)
    assert sum(each.count for each in bins) == 500
    error = sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / 500
    assert error == pytest.approx(expected_calibration_error(labels, probabilities))
    assert all(each.low <= each.accuracy <= each.high for each in bins)
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
