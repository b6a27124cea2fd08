"""A cross-validation is judged on the images of all its folds."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.diagnosis import CourseError, diagnose
from pipeline.diagnosis.pooling import pooled
from tests import courses


def folds(*accuracies: float, gap: float = 0.01, images: int = 80) -> list[courses.Course]:
    return [
        courses.course(
            courses.rising(0.4, value + gap, 20 + number), courses.rising(0.4, value, 20 + number), num_train=4 * images,
            num_val=images, kept_epoch=18 + number,
        )
        for number, value in enumerate(accuracies)
    ]  # fmt: skip


def test_folds_that_are_inconclusive_alone_settle_it_together() -> None:
    each = folds(0.92, 0.94, 0.93, 0.91, 0.93)
    assert {diagnose(course).verdict for course in each} == {"inconclusive"}
    together = pooled(each)
    assert diagnose(together).verdict == "good_fit"
    assert (together.num_val, together.num_train, together.num_epochs, together.kept_epoch) == (400, 400, 20, 20)


def test_accuracies_are_the_means_of_the_epochs_that_the_folds_kept() -> None:
    each = folds(0.5, 0.7, 0.9)
    together = pooled(each)
    assert together.kept_epoch is not None
    kept = [course.val_accuracy[(course.kept_epoch or 1) - 1] for course in each]
    assert together.val_accuracy[together.kept_epoch - 1] == pytest.approx(np.mean(kept))


def test_folds_that_differ_by_more_than_chance_widen_the_interval() -> None:
    alike, apart = pooled(folds(0.8, 0.8, 0.8, 0.8)), pooled(folds(0.6, 0.98, 0.6, 0.98))
    assert alike.num_val == 320 and apart.num_val < 20
    assert diagnose(apart).verdict == "inconclusive"


def test_what_cannot_be_pooled_is_refused() -> None:
    first, second = folds(0.8, 0.8)
    with pytest.raises(CourseError, match="^a cross-validation must have two folds or more; got 1$"):
        pooled([first])
    with pytest.raises(CourseError, match="^all folds must have learning_accuracy, or none; some have it$"):
        pooled([first, replace(second, learning_accuracy=second.train_accuracy)])
