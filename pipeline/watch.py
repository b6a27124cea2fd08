"""A Lightning callback that says early what it sees of a fit, for this pipeline's trainings and for anybody's."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from pipeline.diagnosis import CourseError, Diagnosis, Thresholds, diagnose, from_rows
from pipeline.diagnosis.remarks import Watch


class WatchFit(pl.Callback):
    """Reads loss and accuracy of both splits off the metrics that a module logs, tells what is new after each epoch, and
    diagnoses at the end.

        trainer = pl.Trainer(callbacks=[WatchFit(num_train=50_000, num_val=10_000, num_classes=10)])

    The module logs them by epoch, as `train_loss`, `train_accuracy`, `val_loss` and `val_accuracy`, or under another of the
    names in `pipeline.diagnosis.course.NAMES`. A `train_clean/…` pair, measured in evaluation mode, is better than `train_…`.

    Args:
        num_train: Images that training is measured on.
        num_val: Images of validation.
        num_classes: C.
        thresholds: Where the rules draw their lines; None: the default ones.
        say: Takes each line; only of the first process.
        known: Further attributes of `pipeline.diagnosis.Course`, such as `reference` and `majority`.

    Attributes:
        diagnosis: Of the whole training, once it has ended; None before, and where nothing was logged.
    """

    def __init__(
        self,
        *,
        num_train: int,
        num_val: int,
        num_classes: int,
        thresholds: Thresholds | None = None,
        say: Callable[[str], None] = print,
        **known: Any,
    ) -> None:
        self.about = {"num_train": num_train, "num_val": num_val, "num_classes": num_classes, **known}
        self.thresholds, self.say = thresholds or Thresholds(), say
        self.watch = Watch(self.thresholds)
        self.rows: list[dict[str, float]] = []
        self.diagnosis: Diagnosis | None = None
        self._complained = False

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the epoch's metrics. Where they are logged by another callback, that one must stand first."""
        metrics = {key: value for key, value in trainer.callback_metrics.items() if value.numel() == 1}
        values = torch.stack([value.detach().double().cpu() for value in metrics.values()]).tolist() if metrics else []
        self.rows.append(dict(zip(metrics, values, strict=True)))
        if trainer.is_global_zero:
            self._tell(trainer.current_epoch + 1)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.rows and not self._complained and trainer.is_global_zero:
            self.diagnosis = diagnose(self._course(self.rows), self.thresholds)
            self.say(f"diagnosis: {self.diagnosis.sentence}")

    def _tell(self, epoch: int) -> None:
        if self._complained:
            return
        try:
            remarks = self.watch.remarks(self._course(self.rows))
        except CourseError as error:
            self._complained = True
            self.say(f"WatchFit sees nothing: {error}")
            return
        for remark in remarks:
            self.say(f"epoch {epoch}: {remark}")

    def _course(self, rows: Sequence[dict[str, float]]) -> Any:
        return from_rows(rows, **self.about)
