"""The course of a training as arrays: what a diagnosis may know, whoever trained it and with which tool."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import history

Series = NDArray[np.float64]


class CourseError(ValueError):
    """What was given is no course of a training."""


@dataclass(frozen=True)
class Course:
    """A training, epoch by epoch, and what is known of its data.

    Attributes:
        train_loss: Of the training images, measured as validation is, in nats; shape (epochs,).
        train_accuracy: Likewise, in [0, 1].
        val_loss: Of the validation images; shape (epochs,).
        val_accuracy: Likewise.
        num_train: Images that `train_loss` and `train_accuracy` are means of.
        num_val: Images of validation.
        num_classes: C.
        clean: Whether training was measured in evaluation mode and without augmentation; where it was not, dropout and
            augmentation make it look worse, and a gap smaller, than it is.
        kept_epoch: Whose weights are used, counted from 1; None: the last one's.
        majority: Share of the commonest class; None: 1/C.
        chance_loss: Of guessing by the classes' shares, in nats; None: ln C.
        reference: An accuracy on the same split that a fitted model ought to reach, from another model or the user.
        num_reference: Images that `reference` is a mean of; None: it is taken as exact.
        learning_loss: Measured while learning, in training mode; shape (epochs,).
        learning_accuracy: Likewise.
        num_learning: Images of an epoch, that `learning_accuracy` is a mean of; None: as many as `num_train`.
        update_ratio: ‖Δw‖/‖w‖ of a step; shape (epochs,).
        dead_relu: Share of ReLUs that answer to no image; shape (epochs,).
        penalty_share: Of the penalties in the objective; shape (epochs,).
        initial_loss: Before the first step.
        learns_one_batch: Whether the untrained network could learn one batch by heart.
        duplicates: Share of validation images that are also training images.
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
    majority: float | None = None
    chance_loss: float | None = None
    reference: float | None = None
    num_reference: int | None = None
    learning_loss: Series | None = None
    learning_accuracy: Series | None = None
    num_learning: int | None = None
    update_ratio: Series | None = None
    dead_relu: Series | None = None
    penalty_share: Series | None = None
    initial_loss: float | None = None
    learns_one_batch: bool | None = None
    duplicates: float | None = None
    num_epochs: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_epochs", len(self.train_loss))
        self._check_counts()
        self._check_series()

    @property
    def base(self) -> float:
        """The accuracy of always guessing the commonest class."""
        return 1 / self.num_classes if self.majority is None else self.majority

    @property
    def guessing_loss(self) -> float:
        """The loss of guessing by the classes' shares."""
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


NAMES: dict[str, tuple[str, ...]] = {
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
"""What the columns of `history.csv` are called there, by Keras' `CSVLogger` and by fastai's; the first that is there counts."""

_NEEDED = {
    history.TRAIN_LOSS: "the training loss",
    history.TRAIN_ACCURACY: "the training accuracy",
    history.VAL_LOSS: "the validation loss",
    history.VAL_ACCURACY: "the validation accuracy",
}
_INSTEAD = {history.TRAIN_LOSS: history.CLEAN_LOSS, history.TRAIN_ACCURACY: history.CLEAN_ACCURACY}


def from_rows(
    rows: Sequence[Mapping[str, float]], *, num_train: int, num_val: int, num_classes: int, **known: object
) -> Course:
    """The course that a history tells of: ours, Keras', fastai's, or any with such columns.

    Args:
        rows: One for each epoch. Needed are loss and accuracy of training and of validation. Accuracies above 1 are read as
            percent.
        num_train: Images that training is measured on.
        num_val: Images of validation.
        num_classes: C.
        known: Further attributes of `Course`.

    Raises:
        CourseError: A column is missing or holds what it cannot.
    """
    if not rows:
        raise CourseError("a history must have at least one epoch; got none")
    found = _columns(list(rows[0]))
    series = {name: np.array([row[column] for row in rows], dtype=np.float64) for name, column in found.items()}
    accuracies = [name for name in series if name.endswith("/accuracy")]
    most = max((value for value in chain(*(series[name] for name in accuracies)) if math.isfinite(value)), default=0.0)
    if 1 < most <= 100:
        series |= {name: series[name] / 100 for name in accuracies}
    clean = history.CLEAN_LOSS in series and history.CLEAN_ACCURACY in series
    loss, accuracy = (
        (history.CLEAN_LOSS, history.CLEAN_ACCURACY) if clean else (history.TRAIN_LOSS, history.TRAIN_ACCURACY)
    )
    for key, name in (("learning_accuracy", history.TRAIN_ACCURACY), ("learning_loss", history.TRAIN_LOSS)):
        if clean and name in series:
            known = {key: series[name], **known}
    for key, column in (("update_ratio", history.UPDATE_RATIO), ("dead_relu", history.DEAD_RELU)):
        if column in rows[0]:
            known = {key: np.array([row[column] for row in rows]), **known}
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
    """Which column holds what, of what is there."""
    found = {
        name: next(column for column in aliases if column in header)
        for name, aliases in NAMES.items()
        if any(column in header for column in aliases)
    }
    if "valid_loss" in header and found.get(history.TRAIN_ACCURACY) == "accuracy":  # fastai's is that of validation
        del found[history.TRAIN_ACCURACY]
        found.setdefault(history.VAL_ACCURACY, "accuracy")
    if not (
        history.CLEAN_LOSS in found and history.CLEAN_ACCURACY in found
    ):  # one of them alone has nothing to stand beside
        found = {name: column for name, column in found.items() if name not in _INSTEAD.values()}
    missing = [name for name in _NEEDED if name not in found and _INSTEAD.get(name) not in found]
    if missing:
        hint = " fastai records it after `learn.recorder.train_metrics = True`." if "valid_loss" in header else ""
        raise CourseError(
            f"a history must have columns for both losses and both accuracies; {_NEEDED[missing[0]]} is missing "
            f"(looked for {', '.join(NAMES[missing[0]])}), found {', '.join(header)}.{hint}"
        )
    return found
