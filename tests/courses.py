"""Makes synthetic courses of trainings, at least one for each verdict."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.diagnosis import Course

Series = np.ndarray


def course(train: Series, val: Series, **changes: Any) -> Course:
    """A course with these accuracies and losses that match them."""
    known: dict[str, Any] = {
        "train_loss": 2.3 * (1 - train) + 0.05,
        "train_accuracy": train,
        "val_loss": 2.3 * (1 - val) + 0.05,
        "val_accuracy": val,
        "num_train": 2000,
        "num_val": 2000,
        "num_classes": 10,
    }
    return Course(**{**known, **changes})


def rising(start: float, end: float, epochs: int, rate: float = 0.5) -> Series:
    """A curve from `start` towards `end` that settles in the last half."""
    return end - (end - start) * np.exp(-rate * np.arange(epochs))


def good_fit(epochs: int = 30, **changes: Any) -> Course:
    return course(rising(0.5, 0.93, epochs), rising(0.5, 0.915, epochs), **changes)


def overfitting(epochs: int = 30, **changes: Any) -> Course:
    return course(rising(0.5, 1.0, epochs), rising(0.5, 0.82, epochs), **changes)


def overtrained(epochs: int = 30, **changes: Any) -> Course:
    val = rising(0.5, 0.97, epochs, 1.0) - np.linspace(0, 0.05, epochs)
    val_loss = 0.2 + 1.5 * np.exp(-np.arange(epochs)) + np.linspace(0, 0.4, epochs)
    return course(rising(0.5, 0.955, epochs, 1.0), val, val_loss=val_loss, **changes)


def overconfident(epochs: int = 30, **changes: Any) -> Course:
    val_loss = 0.2 + 1.5 * np.exp(-np.arange(epochs)) + np.linspace(0, 0.4, epochs)
    return course(rising(0.5, 0.93, epochs), rising(0.5, 0.92, epochs), val_loss=val_loss, **changes)


def underfitting(epochs: int = 30, **changes: Any) -> Course:
    given = {"reference": 0.9, "num_reference": 2000, **changes}
    return course(rising(0.2, 0.62, epochs), rising(0.2, 0.615, epochs), **given)


def straight(end: float, epochs: int = 20) -> Series:
    return np.linspace(0.15, end, epochs)


def still_learning(epochs: int = 20, **changes: Any) -> Course:
    return course(straight(0.7, epochs), straight(0.7, epochs) - 0.01, **changes)


def not_learning(epochs: int = 20, **changes: Any) -> Course:
    flat, loss = np.full(epochs, 0.1), np.full(epochs, np.log(10))
    return course(flat, flat, **{"train_loss": loss, "val_loss": loss, **changes})


def no_signal(epochs: int = 30, **changes: Any) -> Course:
    return course(rising(0.1, 0.9, epochs), np.full(epochs, 0.1), **changes)


def unstable(epochs: int = 30, **changes: Any) -> Course:
    shaken = 0.8 + 0.1 * (-1.0) ** np.arange(epochs)
    return course(shaken, shaken - 0.01, **changes)


def unstable_from_the_start(epochs: int = 20, **changes: Any) -> Course:
    return not_learning(epochs, update_ratio=np.full(epochs, 3.0), **changes)


def split_mismatch(epochs: int = 30, **changes: Any) -> Course:
    return course(rising(0.5, 0.85, epochs), rising(0.5, 0.93, epochs), **changes)


def eval_mismatch(epochs: int = 30, **changes: Any) -> Course:
    low = rising(0.1, 0.4, epochs)
    return course(low, low, learning_accuracy=rising(0.3, 0.98, epochs), **changes)


def leak_suspected(epochs: int = 30, **changes: Any) -> Course:
    return good_fit(epochs, duplicates=0.02, **changes)


def diverged(epochs: int = 12, **changes: Any) -> Course:
    loss = np.linspace(2, 1, epochs)
    loss[-3:] = np.nan
    return course(rising(0.1, 0.5, epochs), rising(0.1, 0.5, epochs), train_loss=loss, **changes)


EXAMPLES: dict[str, tuple[Callable[..., Course], str]] = {
    "diverged": (diverged, "diverged"),
    "leak": (leak_suspected, "leak_suspected"),
    "modes apart": (eval_mismatch, "eval_mismatch"),
    "stuck": (not_learning, "not_learning"),
    "random labels": (no_signal, "no_signal"),
    "jumping": (unstable, "unstable"),
    "thrown off": (unstable_from_the_start, "unstable"),
    "validation ahead": (split_mismatch, "split_mismatch"),
    "cut short": (still_learning, "still_learning"),
    "too small": (underfitting, "underfitting"),
    "by heart": (overfitting, "overfitting"),
    "too long": (overtrained, "overfitting"),
    "fits": (good_fit, "good_fit"),
}
"""Synthetic courses, each with the verdict that it must get."""
