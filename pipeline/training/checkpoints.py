"""Writes and reads the checkpoints from which a training that was killed goes on."""

import io
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from pipeline.metrics import history
from pipeline.model import checkpoint
from pipeline.storage import atomic

LAST, BEST = "last.ckpt", "best.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, on the disk where they belong, and flushed to it; reads them without code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        atomic.write_bytes(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        content: dict[str, Any] = checkpoint.load_content(Path(path))
        return content


def saving(folder: Path, monitor: str) -> list[ModelCheckpoint]:
    """Keeps `best.ckpt`, the best epoch by `monitor`, and `last.ckpt`, from which a killed run goes on.

    Two callbacks, as `save_last` of one writes only in epochs that are also the best so far.
    """
    mode = "max" if history.higher_is_better(monitor) else "min"
    every_epoch = partial(ModelCheckpoint, folder, enable_version_counter=False, save_on_train_epoch_end=True)
    best = every_epoch(BEST.removesuffix(".ckpt"), monitor, mode=mode)
    return [best, every_epoch(LAST.removesuffix(".ckpt"))]


def load(path: Path) -> dict[str, Any] | None:
    """The content of a checkpoint; None where there is none.

    Raises:
        ValueError: It is damaged, or no checkpoint of a training; the message is a clause.
    """
    if not path.exists():
        return None
    content = checkpoint.load_content(path)
    if not isinstance(content, dict) or "History" not in content.get("callbacks", ()):
        raise ValueError("it holds something else than the checkpoint of a training")
    return content


def repair(folder: Path) -> None:
    """Make sure that a training in `folder` can go on or start afresh, whatever became of its checkpoints, and say so.

    Where only `last.ckpt` is damaged, the best epoch takes its place. Without whole best weights the training starts afresh:
    no later epoch would bring them back.
    """
    reasons = {name: reason for name in (LAST, BEST) if (reason := _damage(folder / name)) is not None}
    if not reasons:
        return
    told = " and ".join(f"{folder / name} is damaged ({reason})" for name, reason in reasons.items())
    if BEST in reasons or not (folder / BEST).exists():
        for name in (LAST, BEST):
            (folder / name).unlink(missing_ok=True)
        print(f"{told}: the training starts afresh")
    else:
        shutil.copy2(folder / BEST, folder / f".{LAST}.copy.partial")
        (folder / f".{LAST}.copy.partial").replace(folder / LAST)
        print(f"{told}: the training goes on from its best epoch")


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, as a clause; None for a whole one, and where there is none."""
    try:
        load(path)
    except ValueError as error:
        return str(error)
    return None
