"""Pools the trainings of a cross-validation into one course, so that all their images count."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.diagnosis.course import Course, CourseError

_SERIES = (
    "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_loss", "learning_accuracy", "update_ratio",
    "dead_relu", "lr", "penalty_share",
)  # fmt: skip


def pooled(courses: Sequence[Course]) -> Course:
    """The mean course of the trainings of all folds, with as many validation images as all of them have.

    The number of images is lowered to that which gives the spread between the folds, where it is above that of chance: with
    mean accuracy p, N images, k folds and the excess variance v of their accuracies, p(1 − p)/n = p(1 − p)/N + v/k. The
    training images of the folds overlap, so they count as often as there are images in all. At the kept epoch, the median of
    theirs, stand the means of each fold's own kept epoch; after the shortest training the mean course ends.

    Args:
        courses: Courses of the folds of one cross-validation.

    Raises:
        CourseError: There are fewer than two, or they measured different things.
    """
    if len(courses) < 2:
        raise CourseError(f"a cross-validation must have two folds or more; got {len(courses)}")
    first, kept = courses[0], [course.kept_epoch or course.num_epochs for course in courses]
    num_epochs = min(course.num_epochs for course in courses)
    epoch = min(num_epochs, round(float(np.median(kept))))
    changes: Any = {}
    for name in _SERIES:
        values = [getattr(course, name) for course in courses]
        if len({value is None for value in values}) > 1:
            raise CourseError(f"all folds must have {name}, or none; some have it")
        if values[0] is None:
            continue
        mean = np.mean([value[:num_epochs] for value in values], axis=0)
        mean[epoch - 1] = fmean(float(value[at - 1]) for value, at in zip(values, kept, strict=True))
        changes[name] = mean
    num_val = sum(course.num_val for course in courses)
    measured = [course.kept_training for course in courses if course.kept_training is not None]
    if len(measured) == len(courses):
        num_images = min(num_val, sum(number for _, number in measured))
        changes["kept_training"] = (fmean(accuracy for accuracy, _ in measured), num_images)
    else:
        changes["kept_training"] = None
    accuracies = [float(course.val_accuracy[at - 1]) for course, at in zip(courses, kept, strict=True)]
    for name in ("majority", "chance_loss", "reference", "initial_loss", "duplicates"):
        values = [getattr(course, name) for course in courses]
        changes[name] = None if None in values else fmean(values)
    return replace(
        first, **changes, kept_epoch=epoch, num_val=_effective(accuracies, num_val),
        num_train=min(num_val, sum(course.num_train for course in courses)),
        num_reference=None if changes["reference"] is None else num_val,
        learns_one_batch=None if first.learns_one_batch is None else all(bool(course.learns_one_batch) for course in courses),
    )  # fmt: skip


def _effective(accuracies: Sequence[float], num_images: int) -> int:
    """The number of independent images whose mean accuracy would spread as that of the folds does.

    >>> _effective([0.80, 0.81, 0.79, 0.80], 400), _effective([0.6, 1.0, 0.6, 1.0], 400)
    (400, 12)
    """
    mean, folds = fmean(accuracies), len(accuracies)
    of_chance = mean * (1 - mean) / (num_images / folds)
    excess = max(0.0, float(np.var(accuracies, ddof=1)) - of_chance)
    if not mean * (1 - mean):
        return num_images
    return max(2, round(mean * (1 - mean) / (mean * (1 - mean) / num_images + excess / folds)))
