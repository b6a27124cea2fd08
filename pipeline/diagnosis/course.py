"""Holds the course of a training as arrays: all that a diagnosis uses, whichever tool trained it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import history

Series = NDArray[np.float64]


class CourseError(ValueError):
    """Raised when values cannot be the course of a training."""


@dataclass(frozen=True)
class Course:
    """A training epoch by epoch, with what is known of its data.

    Losses are in nats and accuracies in [0, 1]; series have shape (epochs,). None means unknown or not measured.

    Attributes:
        train_loss: Loss on training images, measured as on validation images.
        train_accuracy: Accuracy on training images, measured likewise.
        val_loss: Loss on validation images.
        val_accuracy: Accuracy on validation images.
        num_train: Number of images behind `train_loss` and `train_accuracy`.
        num_val: Number of validation images.
        num_classes: Number of classes, C.
        clean: Whether training was measured in evaluation mode and without augmentation. Otherwise dropout and augmentation
            make training look worse, and the gap smaller, than it is.
        kept_epoch: Epoch whose weights are used, counted from 1; None: the last epoch.
        kept_training: Accuracy on training images of the weights that are used, measured once on more of them than
            `num_train`, and their number; None: that of the kept epoch in `train_accuracy`.
        majority: Share of the most frequent class; None: 1/C.
        chance_loss: Loss of predicting the shares of the classes; None: ln C.
        reference: Accuracy that a fitted model should reach on the same split, from another model or from the user.
        num_reference: Number of images behind `reference`; None: as many as `num_val`.
        learning_loss: Loss while learning, in training mode.
        learning_accuracy: Accuracy while learning, in training mode.
        num_learning: Number of images of an epoch, behind `learning_accuracy`; None: `num_train`.
        update_ratio: ‖Δw‖/‖w‖ of a step.
        dead_relu: Share of ReLUs that are 0 for all images.
        lr: Learning rate; None also where the history has no value at some epoch.
        penalty_share: Share of the penalties in the objective.
        initial_loss: Loss before the first step.
        learns_one_batch: Whether the untrained network could fit one batch completely.
        duplicates: Share of validation images that are also training images.
        settled: Whether another training has shown that more epochs are no better, whatever the curves promise.
    """

    train_loss: Series
    train_accuracy: Series
    val_loss: Series
    val_accuracy: Series
    num_train: int
    num_val: int
    num_classes: int
    clean: bool = True
    kept_epoch: int | None = None
    kept_training: tuple[float, int] | None = None
    majority: float | None = None
    chance_loss: float | None = None
    reference: float | None = None
    num_reference: int | None = None
    learning_loss: Series | None = None
    learning_accuracy: Series | None = None
    num_learning: int | None = None
    update_ratio: Series | None = None
    dead_relu: Series | None = None
    lr: Series | None = None
    penalty_share: Series | None = None
    initial_loss: float | None = None
    learns_one_batch: bool | None = None
    duplicates: float | None = None
    settled: bool = False
    num_epochs: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_epochs", len(self.train_loss))
        self._check_counts()
        self._check_series()

    @property
    def base(self) -> float:
        """The accuracy of always predicting the most frequent class."""
        return 1 / self.num_classes if self.majority is None else self.majority

    @property
    def guessing_loss(self) -> float:
        """The loss of predicting the shares of the classes."""
        return math.log(self.num_classes) if self.chance_loss is None else self.chance_loss

    def _check_counts(self) -> None:
        for name, least in (("num_train", 1), ("num_val", 1), ("num_classes", 2)):
            if getattr(self, name) < least:
                raise CourseError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not self.num_epochs:
            raise CourseError("a history must have at least one epoch; got none")
        if self.kept_epoch is not None and not 1 <= self.kept_epoch <= self.num_epochs:
            raise CourseError(f"kept_epoch must be one of the {self.num_epochs} epochs; got {self.kept_epoch}")
        for name in ("majority", "reference", "duplicates"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise CourseError(f"{name} must be a share between 0 and 1; got {value}")

    def _check_series(self) -> None:
        diverged = not all(np.isfinite(series).all() for series in (self.train_loss, self.val_loss))
        series_of = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        for name, values in series_of.items():
            if values.shape != (self.num_epochs,):
                raise CourseError(f"{name} must have a value for each of {self.num_epochs} epochs; got {values.shape}")
            if name.endswith("_accuracy") and not diverged and not ((values >= 0) & (values <= 1)).all():
                epoch = int(np.argmin((values >= 0) & (values <= 1)))
                raise CourseError(f"{name} must lie between 0 and 1; got {values[epoch]:g} at epoch {epoch + 1}")


COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    history.CLEAN_LOSS: ("train_clean/loss",),
    history.CLEAN_ACCURACY: ("train_clean/accuracy",),
    history.TRAIN_LOSS: ("train/loss", "train_loss", "loss"),
    history.TRAIN_ACCURACY: (
        *("train/accuracy", "train_accuracy", "train_acc", "accuracy", "acc"),
        *("sparse_categorical_accuracy", "categorical_accuracy"),
    ),
    history.VAL_LOSS: ("val/loss", "val_loss", "valid_loss"),
    history.VAL_ACCURACY: (
        *("val/accuracy", "val_accuracy", "val_acc", "valid_accuracy"),
        *("val_sparse_categorical_accuracy", "val_categorical_accuracy"),
    ),
}
"""Names of the columns in `history.csv` and in the files of Keras' and fastai's `CSVLogger`; the first one present counts."""

LEARNING_RATES = ("lr", "learning_rate")
"""Names of the column of the learning rate; the first one present counts."""

_REQUIRED = {
    history.TRAIN_LOSS: "the training loss",
    history.TRAIN_ACCURACY: "the training accuracy",
    history.VAL_LOSS: "the validation loss",
    history.VAL_ACCURACY: "the validation accuracy",
}
_CLEAN = {history.TRAIN_LOSS: history.CLEAN_LOSS, history.TRAIN_ACCURACY: history.CLEAN_ACCURACY}


def from_rows(
    rows: Sequence[Mapping[str, float]], *, num_train: int, num_val: int, num_classes: int, **known: object
) -> Course:
    """Read the course from a history of this pipeline, Keras, fastai, or any tool that uses one of `COLUMN_ALIASES`.

    Args:
        rows: Rows of the history, one for each epoch, with at least loss and accuracy of training and of validation.
            Accuracies above 1 are read as percent.
        num_train: Number of images on which training is measured.
        num_val: Number of validation images.
        num_classes: Number of classes.
        known: Further attributes of `Course`.

    Raises:
        CourseError: A column is missing, or a value is impossible.
    """
    if not rows:
        raise CourseError("a history must have at least one epoch; got none")
    columns = _columns(list(rows[0]))
    series = {name: np.array([row[column] for row in rows], dtype=np.float64) for name, column in columns.items()}
    accuracies = [name for name in series if name.endswith("/accuracy")]
    finite = (value for value in chain(*(series[name] for name in accuracies)) if math.isfinite(value))
    largest = max(finite, default=0.0)
    if 1 < largest <= 100:
        series |= {name: series[name] / 100 for name in accuracies}
    clean = history.CLEAN_LOSS in series and history.CLEAN_ACCURACY in series
    loss, accuracy = _CLEAN.values() if clean else _CLEAN.keys()
    for key, name in (("learning_accuracy", history.TRAIN_ACCURACY), ("learning_loss", history.TRAIN_LOSS)):
        if clean and name in series:
            known = {key: series[name], **known}
    for key, column in (("update_ratio", history.UPDATE_RATIO), ("dead_relu", history.DEAD_RELU)):
        if column in rows[0]:
            known = {key: np.array([row[column] for row in rows]), **known}
    rates = next((np.array([row[name] for row in rows]) for name in LEARNING_RATES if name in rows[0]), None)
    if rates is not None and np.isfinite(rates).all():
        known = {"lr": rates, **known}
    if history.PENALTY in rows[0] and history.TRAIN_LOSS in series:
        penalty = np.array([row[history.PENALTY] for row in rows])
        known = {"penalty_share": penalty / np.maximum(penalty + series[history.TRAIN_LOSS], 1e-12), **known}
    return Course(
        train_loss=series[loss],
        train_accuracy=series[accuracy],
        val_loss=series[history.VAL_LOSS],
        val_accuracy=series[history.VAL_ACCURACY],
        num_train=num_train,
        num_val=num_val,
        num_classes=num_classes,
        clean=clean,
        **known,  # type: ignore[arg-type]
    )


def _columns(header: Sequence[str]) -> dict[str, str]:
    """The column of each metric, for the metrics that the header has."""
    columns = {
        name: next(column for column in aliases if column in header)
        for name, aliases in COLUMN_ALIASES.items()
        if any(column in header for column in aliases)
    }
    # fastai calls the accuracy of validation "accuracy"
    if "valid_loss" in header and columns.get(history.TRAIN_ACCURACY) == "accuracy":
        del columns[history.TRAIN_ACCURACY]
        columns.setdefault(history.VAL_ACCURACY, "accuracy")
    # a clean loss without a clean accuracy, or the reverse, cannot be used
    if not (history.CLEAN_LOSS in columns and history.CLEAN_ACCURACY in columns):
        columns = {name: column for name, column in columns.items() if name not in _CLEAN.values()}
    missing = [name for name in _REQUIRED if name not in columns and _CLEAN.get(name) not in columns]
    if missing:
        hint = " fastai records it after `learn.recorder.train_metrics = True`." if "valid_loss" in header else ""
        raise CourseError(
            f"a history must have columns for both losses and both accuracies; {_REQUIRED[missing[0]]} is missing "
            f"(looked for {', '.join(COLUMN_ALIASES[missing[0]])}), found {', '.join(header)}.{hint}"
        )
    return columns
