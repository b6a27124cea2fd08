"""Callbacks of Lightning: the history, the seeds of each epoch, early stopping, and averages of weights."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging

from pipeline.metrics import history
from pipeline.metrics.early_stopping import StoppingRule
from pipeline.seeds import derive_seed
from pipeline.storage import atomic
from pipeline.training.batches import ImageBatches
from pipeline.training.module import TrainingModule

Row = dict[str, float]
OnRow = Callable[[Row, int], None]
"""Takes a row of the history and the Unix time in milliseconds at which its epoch ended."""


class History(pl.Callback):
    """Collects one row for each epoch, keeps them in the checkpoint, and writes `history.csv` anew each time.

    A row is passed on to `on_row` only once the checkpoint that holds it is saved, so that an epoch which a kill undoes
    is never reported; after a restart all earlier rows are passed on again with the times they had. Of several processes,
    only the first one writes and passes on.
    """

    def __init__(self, path: Path, on_row: OnRow, report: Callable[[Row], None]) -> None:
        self.path, self.on_row, self.report = path, on_row, report
        self.rows: list[Row] = []
        self.times_ms: list[int] = []
        self.num_passed_on = 0
        self.begin = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "times_ms": self.times_ms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.times_ms = list(state["rows"]), list(state["times_ms"])

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._pass_on(trainer)
        self.begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch + 1, "lr": float(lr), **module.epoch_row()}
        row["seconds"] = round(time.perf_counter() - self.begin, 4)
        for metric in history.METRICS:
            module.log(metric, row[metric], prog_bar=metric in (history.CLEAN_LOSS, history.VAL_LOSS))
        self.rows.append(row)
        self.times_ms.append(int(time.time() * 1000))
        if trainer.is_global_zero:
            atomic.write_text(self.path, history.to_csv(self.rows))
            self.report(row)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._pass_on(trainer)

    def _pass_on(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        for row, time_ms in zip(self.rows[self.num_passed_on :], self.times_ms[self.num_passed_on :], strict=True):
            self.on_row(row, time_ms)
        self.num_passed_on = len(self.rows)


class EpochSeeds(pl.Callback):
    """Makes order and dropout depend on the seed and the epoch alone: a resumed epoch repeats its draws."""

    def __init__(self, seed: int, batches: ImageBatches) -> None:
        self.seed, self.batches = seed, batches

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.batches.start_at(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        torch.manual_seed(derive_seed(self.seed, f"epoch {trainer.current_epoch} of process {trainer.global_rank}"))


class EarlyStoppingCallback(pl.Callback):
    """Stops a training by a rule of `pipeline.metrics.early_stopping`.

    It keeps no state: the rule looks at the rows of the history, so that a resumed training decides the same.
    """

    def __init__(self, history: History, rule: StoppingRule) -> None:
        self.history, self.rule = history, rule

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.rule.stops_after(self.history.rows):
            trainer.should_stop = True


class Average(WeightAveraging):
    """Averages weights and batch statistics exponentially; the average is what is measured and kept.

    The decay is min(decay, (1 + n)/(10 + n)) after n steps, so that the average is not dominated for long by
    the untrained network (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, decay: float) -> None:
        def blend(averages: Any, currents: Any, num_averaged: Any) -> None:
            if not averages[0].is_floating_point():  # number of batches that a normalisation has seen
                torch._foreach_copy_(averages, currents)
                return
            now = min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
            torch._foreach_lerp_(averages, currents, 1 - now)

        super().__init__(use_buffers=True, multi_avg_fn=blend)
