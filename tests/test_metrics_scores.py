import math

import numpy as np
import pytest
from sklearn import metrics

from pipeline.metrics import scores
from pipeline.metrics.intervals import wilson
from pipeline.metrics.scores import ClassScore, Labels, Probabilities


def drawn(num_classes: int, dtype: type = np.float64) -> tuple[Labels, Probabilities]:
    random = np.random.default_rng(num_classes)
    labels = random.integers(0, num_classes, 300)
    logits = random.normal(size=(300, num_classes)) + 2 * np.eye(num_classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(dtype)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_agree_with_scikit_learn(num_classes: int, dtype: type) -> None:
    labels, probabilities = drawn(num_classes, dtype)
    predicted = probabilities.argmax(axis=1)
    assert scores.accuracy(labels, probabilities) == pytest.approx(metrics.accuracy_score(labels, predicted))
    balanced = metrics.balanced_accuracy_score(labels, predicted)
    assert scores.balanced_accuracy(labels, probabilities) == pytest.approx(balanced)
    precision = metrics.precision_score(labels, predicted, average="macro")
    assert scores.precision_macro(labels, probabilities) == pytest.approx(precision)
    f1 = metrics.f1_score(labels, predicted, average="macro")
    assert scores.f1_macro(labels, probabilities) == pytest.approx(f1)
    exact = probabilities.astype(np.float64)
    loss = metrics.log_loss(labels, exact / exact.sum(axis=1, keepdims=True))
    assert scores.negative_log_likelihood(labels, probabilities) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_array_equal(
        scores.confusion(labels, probabilities), metrics.confusion_matrix(labels, predicted, labels=range(num_classes))
    )
    expected = np.array(metrics.precision_recall_fscore_support(labels, predicted, labels=range(num_classes))).T
    rows = [(score.precision, score.recall, score.f1, score.count) for score in scores.per_class(labels, probabilities)]
    np.testing.assert_allclose(rows, expected)


def test_rows_of_the_confusion_are_true_classes() -> None:
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert scores.confusion(labels, probabilities).tolist() == [[1, 1], [0, 1]]


def test_a_class_that_neither_occurs_nor_is_predicted_changes_no_mean() -> None:
    labels, probabilities = drawn(3)
    wider = np.hstack([probabilities, np.zeros((300, 2))])
    for score in (
        scores.accuracy,
        scores.balanced_accuracy,
        scores.balanced_accuracy_interval,
        scores.precision_macro,
        scores.f1_macro,
        scores.negative_log_likelihood,
        scores.expected_calibration_error,
    ):
        assert score(labels, wider) == score(labels, probabilities)
    nothing = scores.per_class(labels, wider)[3]
    assert nothing == ClassScore(count=0, predicted=0, correct=0, recall=0, precision=0, f1=0)
    assert nothing.recall_interval() == nothing.precision_interval() == (0, 1)
    assert scores.confusion(labels, wider).shape == (5, 5)


def test_a_class_without_images_that_is_predicted_is_left_out_too() -> None:
    labels, probabilities = np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]])
    assert scores.f1_macro(labels, probabilities) == pytest.approx(2 / 3)
    assert scores.balanced_accuracy(labels, probabilities) == 0.5
    assert scores.precision_macro(labels, probabilities) == 1.0


def test_intervals_of_a_class_are_those_of_its_shares() -> None:
    labels, probabilities = drawn(3)
    for score in scores.per_class(labels, probabilities):
        assert score.recall_interval() == wilson(score.correct, score.count)
        assert score.precision_interval() == wilson(score.correct, score.predicted)
        assert score.recall_interval()[0] < score.recall < score.recall_interval()[1]
    low, high = scores.balanced_accuracy_interval(labels, probabilities)
    assert low < scores.balanced_accuracy(labels, probabilities) < high


def test_a_sure_mistake_costs_a_finite_loss() -> None:
    labels, probabilities = np.array([1, 0]), np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert scores.negative_log_likelihood(labels, probabilities) == pytest.approx(12 * math.log(10) / 2)


def test_calibration_error_is_the_weighted_distance_of_confidence_and_accuracy() -> None:
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.62, 0.38], [0.62, 0.38]])
    # two at 0.9, both right: 0.1 apart; two at 0.62, one right: 0.12 apart
    assert scores.expected_calibration_error(labels, probabilities) == pytest.approx((2 * 0.1 + 2 * 0.12) / 4)


def test_calibration_error_puts_a_confidence_on_an_edge_into_the_lower_bin() -> None:
    # 9/15 belongs to (8/15, 9/15] and 0.601 to the next bin; in one bin their errors of opposite sign would cancel
    labels, probabilities = np.array([0, 1]), np.array([[9 / 15, 6 / 15], [0.601, 0.399]])
    assert scores.expected_calibration_error(labels, probabilities) == pytest.approx((0.4 + 0.601) / 2)


def test_sure_and_right_predictions_are_calibrated() -> None:
    labels = np.array([0, 1, 2])
    assert scores.expected_calibration_error(labels, np.eye(3)) == 0.0


def test_calibrated_predictions_have_an_error_near_zero() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 200_000)
    labels = (random.uniform(size=confidence.size) > confidence).astype(np.int64)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    assert scores.expected_calibration_error(labels, probabilities) < 0.01
    assert scores.expected_calibration_error(1 - labels, probabilities) > 0.4
