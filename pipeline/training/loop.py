"""Trains a network from its first epoch, or from the last whole checkpoint, to its best weights."""

import logging
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from torch import distributed

from pipeline.errors import TrainingError
from pipeline.metrics import history
from pipeline.metrics.early_stopping import StoppingRule
from pipeline.training import callbacks, checkpoints, parallel
from pipeline.training.batches import ImageBatches
from pipeline.training.module import TrainingModule

BEST_BY_VAL_LOSS = StoppingRule(history.VAL_LOSS, restore_best=True)


@dataclass(frozen=True)
class Outcome:
    """Result of a training.

    Attributes:
        state: Weights of the network that are kept, by name.
        rows: History, one row for each epoch.
        times_ms: Time at which each epoch ended, in milliseconds since 1970.
        best_epoch: Epoch of these weights, counted from 1.
        stop_reason: Clause that follows "stopped because".
        saved_epochs: Number of epochs that early stopping left out.
        saved_seconds: Estimated seconds of those, each as long as the median of the epochs that ran.
    """

    state: dict[str, torch.Tensor]
    rows: list[callbacks.Row]
    times_ms: list[int]
    best_epoch: int
    stop_reason: str
    saved_epochs: int
    saved_seconds: float


def train_epochs(
    module: TrainingModule, batches: ImageBatches, folder: Path, *, seed: int, max_epochs: int,
    rule: StoppingRule = BEST_BY_VAL_LOSS, ema_decay: float = 0.0, gradient_clip_norm: float | None = None,
    accelerator: str = "auto", precision: Any = "32-true", on_row: callbacks.OnRow = lambda row, time_ms: None,
    extra_callbacks: Sequence[pl.Callback] = (),
) -> Outcome:  # fmt: skip
    """Train until `max_epochs`, or until `rule` stops it; go on from `folder` where it holds a checkpoint.

    Order, augmentation and dropout depend on the seed and the epoch alone, so a training that was killed and taken up
    again ends with the same weights, on one kind of machine bit for bit, as one that was left alone.

    Each of several processes calls this; only the one of rank 0 prints, writes and calls `on_row`.

    Raises:
        TrainingError: A loss was not finite. `folder` keeps the last good weights.
    """
    recorder = callbacks.History(folder / "history.csv", on_row, _print_row(max_epochs))
    averaging = [callbacks.Average(ema_decay)] if ema_decay else []
    bar = [RichProgressBar(refresh_rate=10)] if sys.stdout.isatty() and parallel.rank() == 0 else []
    last = _load(folder / checkpoints.LAST)
    if last is None or rule.stops_after(last["callbacks"]["History"]["rows"]) is None:
        if last is not None and parallel.rank() == 0:
            print(f"going on after epoch {last['epoch'] + 1} of an interrupted training in {folder}")
        with _quiet():
            trainer = pl.Trainer(
                accelerator=accelerator,
                precision=precision,
                # Without it, kernels of the GPU add up in any order, and a training that goes on ends elsewhere.
                deterministic="warn" if accelerator != "cpu" and torch.cuda.is_available() else None,
                **parallel.trainer_settings(),
                max_epochs=max_epochs,
                callbacks=[
                    callbacks.EpochSeeds(seed, batches),
                    recorder,
                    callbacks.EarlyStoppingCallback(recorder, rule),
                    *averaging,
                    *([parallel.KeepSignalHandler()] if distributed.is_initialized() else []),
                    *bar,
                    *extra_callbacks,
                    *checkpoints.saving(folder, rule.monitor),
                ],
                gradient_clip_val=gradient_clip_norm,
                plugins=[checkpoints.AtomicCheckpoints()],
                logger=False,
                enable_progress_bar=bool(bar),
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                default_root_dir=folder,
            )
            try:
                trainer.fit(module, batches, ckpt_path=None if last is None else str(folder / checkpoints.LAST))
            except SystemExit:  # Lightning turns a signal into it
                raise KeyboardInterrupt from None
            except TrainingError as error:
                raise TrainingError(f"{error} {_remedy(module, folder)}") from None
        last = _load(folder / checkpoints.LAST)
    kept = _load(folder / checkpoints.BEST) if rule.restore_best else last
    if last is None or kept is None:
        raise TrainingError(f"{folder} must hold the best weights after training; found none. Train again.")
    state = last["callbacks"]["History"]
    rows = state["rows"]
    saved_epochs = max_epochs - len(rows) if rule.stops_after(rows) else 0
    return Outcome(
        state={name.removeprefix("network."): value for name, value in kept["state_dict"].items()},
        rows=rows,
        times_ms=state["times_ms"],
        best_epoch=kept["epoch"] + 1,
        stop_reason=rule.reason() if saved_epochs else "it reached train.max_epochs",
        saved_epochs=saved_epochs,
        saved_seconds=round(saved_epochs * statistics.median(row["seconds"] for row in rows), 4),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Lightning's messages about itself, and its advice that does not hold here."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The loader gives whole batches from memory, which more processes would slow down.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
            # What is logged has been reduced over all processes.
            warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
            # It is not used because train.accelerator says so.
            warnings.filterwarnings("ignore", message="GPU available but not used.*")
            # The strides of filters with one input channel have two spellings.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            # torch 2.13 has another name for it, which older ones do not know.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers. is deprecated.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _load(path: Path) -> Any:
    """A checkpoint; None where there is none. One that is damaged after `checkpoints.repair` is an error, not a fresh start."""
    try:
        return checkpoints.load(path)
    except ValueError as error:
        raise TrainingError(
            f"{path} must be a whole checkpoint; {error}. `rm -r {path.parent}`, and the training starts afresh."
        ) from None


def _remedy(module: TrainingModule, folder: Path) -> str:
    best = _load(folder / checkpoints.BEST)
    kept = f"The weights of epoch {best['epoch'] + 1} are in {folder / checkpoints.BEST}. " if best else ""
    return f"{kept}Lower optimizer.lr (it is {module.lr:g}) or the penalties."


def _print_row(max_epochs: int) -> Callable[[callbacks.Row], None]:
    def report(row: callbacks.Row) -> None:
        if sys.stdout.isatty():
            return  # the progress bar shows the same
        print(
            f"epoch {row['epoch']:3d}/{max_epochs}  "
            f"training {row[history.CLEAN_LOSS]:.4f} ({row[history.CLEAN_ACCURACY]:.4f})  "
            f"validation {row[history.VAL_LOSS]:.4f} ({row[history.VAL_ACCURACY]:.4f})  {row['seconds']:.1f} s",
            flush=True,
        )

    return report
