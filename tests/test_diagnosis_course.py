"""Tests reading a course from the histories of several tools, and the messages for those that cannot be read."""

from typing import Any

import numpy as np
import pytest

from pipeline.diagnosis import Course, CourseError, from_rows
from pipeline.metrics import history

ABOUT: dict[str, Any] = {"num_train": 100, "num_val": 50, "num_classes": 10}
OURS = {
    history.CLEAN_LOSS: 0.4, history.CLEAN_ACCURACY: 0.9, history.VAL_LOSS: 0.6, history.VAL_ACCURACY: 0.8,
    history.TRAIN_LOSS: 0.9, history.TRAIN_ACCURACY: 0.7, history.PENALTY: 0.1, history.UPDATE_RATIO: 0.01,
}  # fmt: skip
KERAS = {"epoch": 0, "accuracy": 0.7, "loss": 0.9, "val_accuracy": 0.8, "val_loss": 0.6}
FASTAI = {"epoch": 0, "train_loss": 0.9, "train_accuracy": 0.7, "valid_loss": 0.6, "valid_accuracy": 0.8}


def test_our_history_is_read_with_its_clean_probe_and_its_signals() -> None:
    made = from_rows([OURS], **ABOUT)
    assert made.clean and made.train_accuracy.tolist() == [0.9] and made.val_accuracy.tolist() == [0.8]
    assert made.learning_accuracy is not None and made.learning_accuracy.tolist() == [0.7]
    assert made.penalty_share is not None and made.penalty_share.tolist() == pytest.approx([0.1])


def test_the_learning_rate_is_read_where_each_epoch_has_one() -> None:
    rows = [{**OURS, "lr": 0.1}, {**OURS, "lr": 0.05}]
    made = from_rows(rows, **ABOUT)
    assert made.lr is not None and made.lr.tolist() == [0.1, 0.05]
    of_keras = from_rows([{**KERAS, "learning_rate": 0.1}], **ABOUT)
    assert of_keras.lr is not None and of_keras.lr.tolist() == [0.1]
    assert from_rows([OURS], **ABOUT).lr is None
    assert from_rows([*rows, {**OURS, "lr": float("nan")}], **ABOUT).lr is None


@pytest.mark.parametrize("row", [KERAS, FASTAI], ids=["Keras", "fastai"])
def test_without_a_clean_probe_what_was_measured_while_learning_counts(row: dict[str, float]) -> None:
    made = from_rows([row], **ABOUT)
    assert not made.clean and made.learning_accuracy is None
    assert (made.train_loss[0], made.train_accuracy[0]) == (0.9, 0.7)
    assert (made.val_loss[0], made.val_accuracy[0]) == (0.6, 0.8)


def test_percent_are_read_as_percent() -> None:
    rows = [{**KERAS, "accuracy": 10.0, "val_accuracy": 0.5}, {**KERAS, "accuracy": 70.0, "val_accuracy": 80.0}]
    made = from_rows(rows, **ABOUT)
    assert made.train_accuracy.tolist() == [0.1, 0.7] and made.val_accuracy.tolist() == [0.005, 0.8]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0}, "the validation accuracy is missing"),
        ({"loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}, "the training accuracy is missing"),
        ({"epoch": 1.0}, "the training loss is missing"),
        ({**KERAS, "accuracy": 101.0}, "train_accuracy must lie between 0 and 1; got 101 at epoch 1"),
        ({**KERAS, "val_accuracy": float("nan")}, "val_accuracy must lie between 0 and 1; got nan at epoch 1"),
    ],
)
def test_what_is_missing_or_impossible_is_named(row: dict[str, float], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        from_rows([row], **ABOUT)


def test_fastai_is_told_how_to_record_the_accuracy_of_training() -> None:
    with pytest.raises(CourseError, match=r"training accuracy is missing.*learn\.recorder\.train_metrics = True"):
        from_rows([{"train_loss": 1.0, "valid_loss": 1.0, "accuracy": 0.5}], **ABOUT)


def test_a_history_without_epochs_is_none() -> None:
    with pytest.raises(CourseError, match="at least one epoch"):
        from_rows([], **ABOUT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_val": 0}, "num_val must be at least 1; got 0"),
        ({"num_classes": 1}, "num_classes must be at least 2; got 1"),
        ({"kept_epoch": 3}, "kept_epoch must be one of the 2 epochs; got 3"),
        ({"majority": 31}, "majority must be a share between 0 and 1; got 31"),
        ({"val_loss": np.ones(3)}, "val_loss must have a value for each of 2 epochs"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    two = np.full(2, 0.5)
    given = {"train_loss": two, "train_accuracy": two, "val_loss": two, "val_accuracy": two, **ABOUT}
    with pytest.raises(CourseError, match=message):
        Course(**{**given, **change})


def test_half_a_clean_probe_is_none() -> None:
    rows = [{"train_clean/loss": 0.1, "loss": 0.2, "accuracy": 0.9, "val_loss": 0.3, "val_accuracy": 0.8}]
    course = from_rows(rows, num_train=100, num_val=100, num_classes=10)
    assert not course.clean and course.train_loss.tolist() == [0.2]
    with pytest.raises(CourseError, match="the training accuracy is missing"):
        from_rows([{"train_clean/loss": 0.1, "loss": 0.2, "val_loss": 0.3, "val_accuracy": 0.8}],
                  num_train=100, num_val=100, num_classes=10)  # fmt: skip
