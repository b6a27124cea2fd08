"""Diagnoses any Lightning training from a callback: remarks after each epoch, a verdict at the end."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from pipeline.diagnosis import Course, CourseError, Diagnosis, Thresholds, diagnose, from_rows
from pipeline.diagnosis.remarks import Watch


class WatchFit(pl.Callback):
    """Remarks on the loss and the accuracy that a module logs after each epoch, and diagnoses the training at its end.

        trainer = pl.Trainer(callbacks=[WatchFit(num_train=50_000, num_val=10_000, num_classes=10)])

    The module logs `train_loss`, `train_accuracy`, `val_loss` and `val_accuracy` for each epoch, or uses other names of
    `pipeline.diagnosis.course.COLUMN_ALIASES`. If it also logs `train_clean/loss` and `train_clean/accuracy`, measured in
    evaluation mode, these replace the pair of training.

    Args:
        num_train: Number of images on which training is measured.
        num_val: Number of validation images.
        num_classes: Number of classes.
        thresholds: Thresholds of the rules; None: the defaults.
        say: Function that takes each line, called in the first process only.
        known: Further attributes of `pipeline.diagnosis.Course`, such as `reference` and `majority`.

    Attributes:
        diagnosis: Diagnosis of the training; None before its end, or if too little was logged.
    """

    def __init__(
        self, *, num_train: int, num_val: int, num_classes: int, thresholds: Thresholds | None = None,
        say: Callable[[str], None] = print, **known: Any,
    ) -> None:  # fmt: skip
        self.known = {"num_train": num_train, "num_val": num_val, "num_classes": num_classes, **known}
        self.thresholds, self.say = thresholds or Thresholds(), say
        self.watch = Watch(self.thresholds)
        self.rows: list[dict[str, float]] = []
        self.diagnosis: Diagnosis | None = None
        self._failed = False  # a column is missing, as has been said

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Record the metrics of the epoch. A callback that logs some of them must come before this one."""
        metrics = {key: value for key, value in trainer.callback_metrics.items() if value.numel() == 1}
        values = torch.stack([value.detach().double().cpu() for value in metrics.values()]).tolist() if metrics else []
        self.rows.append(dict(zip(metrics, values, strict=True)))
        if trainer.is_global_zero:
            self._remark(trainer.current_epoch + 1)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.rows and not self._failed and trainer.is_global_zero:
            self.diagnosis = diagnose(self._course(self.rows), self.thresholds)
            self.say(f"diagnosis: {self.diagnosis.sentence}")

    def _remark(self, epoch: int) -> None:
        if self._failed:
            return
        try:
            remarks = self.watch.remarks(self._course(self.rows))
        except CourseError as error:
            self._failed = True
            self.say(f"WatchFit sees nothing: {error}")
            return
        for remark in remarks:
            self.say(f"epoch {epoch}: {remark}")

    def _course(self, rows: Sequence[dict[str, float]]) -> Course:
        return from_rows(rows, **self.known)
