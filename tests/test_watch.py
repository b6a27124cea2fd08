"""Tests the remarks on a running training: on synthetic courses, and from the callback in a plain Lightning module."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from pipeline.diagnosis import Course
from pipeline.diagnosis.remarks import Watch
from pipeline.watch import WatchFit
from tests import courses


def said(made: Course) -> dict[int, list[str]]:
    """The remarks by epoch, counted from 1, as the course grows."""
    watch, found = Watch(), {}
    for epochs in range(1, made.num_epochs + 1):
        part = {
            name: value[:epochs] if isinstance(value, np.ndarray) else value
            for name, value in vars(made).items()
            if name != "num_epochs"
        }
        found[epochs] = watch.remarks(Course(**part))
    return {epoch: remarks for epoch, remarks in found.items() if remarks}


def test_a_good_fit_passes_without_a_word() -> None:
    assert said(courses.good_fit()) == {}


def test_a_rising_validation_loss_is_told_once_it_has_risen_for_four_epochs() -> None:
    val_loss = np.array([1.0, 0.6, 0.5, 0.52, 0.55, 0.6, 0.66, 0.7])
    train = np.linspace(0.8, 0.95, 8)
    found = said(courses.course(train, train - 0.02, val_loss=val_loss, train_loss=np.linspace(0.9, 0.2, 8)))
    assert found == {7: ["validation loss has risen for 4 epochs, by 0.160 from its least; training loss falls on"]}


def test_a_gap_is_told_when_it_opens_and_again_only_if_it_had_closed() -> None:
    train, val = np.full(12, 0.9), np.full(12, 0.88)
    val[4:7], val[9:] = 0.75, 0.75
    epochs = [
        epoch for epoch, remarks in said(courses.course(train, val)).items() if "ahead of validation" in remarks[0]
    ]
    assert len(epochs) == 2 and epochs[0] in (5, 6) and epochs[1] in (10, 11), epochs


def test_guessing_and_a_loss_that_is_no_number_are_told() -> None:
    stuck = said(courses.not_learning())
    assert list(stuck) == [5] and "and guessing gives 0.100" in stuck[5][0]
    loss = np.array([1.0, 0.9, np.nan])
    flat = np.full(3, 0.5)
    assert said(courses.course(flat, flat, train_loss=loss)) == {3: ["a loss is no longer finite"]}


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*many workers", "ignore:.*logging interval")
"""Warnings of Lightning itself."""


class Anybodys(pl.LightningModule):
    """A module that logs metrics as most modules do."""

    def __init__(self, *, accuracy: bool = True) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(20, 256), torch.nn.ReLU(), torch.nn.Linear(256, 2))
        self.accuracy = accuracy

    def _step(self, batch: list[torch.Tensor], name: str) -> torch.Tensor:
        logits = self.layers(batch[0])
        loss = torch.nn.functional.cross_entropy(logits, batch[1])
        self.log(f"{name}_loss", loss, on_step=False, on_epoch=True)
        if self.accuracy or name == "val":
            self.log(f"{name}_acc", (logits.argmax(1) == batch[1]).float().mean(), on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self._step(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[WatchFit, list[str]]]:
    """Trains until random images are memorised; returns the callback and its lines."""

    def run(**options: bool) -> tuple[WatchFit, list[str]]:
        torch.manual_seed(0)
        images, labels = torch.randn(400, 20), torch.randint(0, 2, (400,))
        lines: list[str] = []
        watch = WatchFit(num_train=100, num_val=300, num_classes=2, say=lines.append)
        trainer = pl.Trainer(
            max_epochs=20, accelerator="cpu", callbacks=[watch], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        loaders = [
            DataLoader(TensorDataset(images[part], labels[part]), batch_size=50)
            for part in (slice(100), slice(100, None))
        ]
        trainer.fit(Anybodys(**options), *loaders)
        return watch, lines

    return run


def test_anybodys_training_is_watched_and_diagnosed(train: Callable[..., tuple[WatchFit, list[str]]]) -> None:
    watch, lines = train()
    assert len(watch.rows) == 20 and watch.diagnosis is not None
    assert watch.diagnosis.verdict == "no_signal" and lines[-1] == f"diagnosis: {watch.diagnosis.sentence}"
    assert any("training is ahead of validation by" in line for line in lines[:-1])
    assert any("validation loss has risen for 4 epochs" in line for line in lines[:-1])


def test_a_module_that_logs_too_little_is_told_what_is_missing_once(
    train: Callable[..., tuple[WatchFit, list[str]]],
) -> None:
    watch, lines = train(accuracy=False)
    assert watch.diagnosis is None and len(lines) == 1
    assert lines[0].startswith("WatchFit sees nothing: a history must have columns for both losses and both accuracies")
