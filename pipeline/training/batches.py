"""Batches of images for training and for measuring, drawn as pure functions of a seed and the epoch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.data.seeds import derive_seed

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images uint8 (batch, height, width, channels) and labels int64 (batch,)."""

Augment = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Augments images uint8 (batch, height, width, channels), given their labels int64 (batch,) and a seed."""

MEASURING_BATCH_SIZE = 512


class EpochOrder(Sampler[tuple[int, int, np.ndarray]]):
    """The batches of one epoch as (epoch, number, indices), in an order that depends on seed and epoch alone.

    All batches of an epoch are of one size, or of two that differ by 1: a last batch of a single image would leave
    batch normalisation without a variance. Several processes get disjoint slices of one common order.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_images, self.seed, self.rank, self.world_size = num_images, seed, rank, world_size
        self.num_batches = -(-num_images // (batch_size * world_size))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order the next iteration gives. Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[tuple[int, int, np.ndarray]]:
        epoch = self.epoch
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
        mine = order[self.rank :: self.world_size]
        for number, indices in enumerate(np.array_split(mine, self.num_batches)):
            yield epoch, number, indices


class TrainingImages(Dataset[Batch]):
    """Whole batches of training images, each image as one version among the original and its augmented copies.

    Args:
        images: uint8 of shape (n, height, width, channels).
        labels: int64 of shape (n,).
        copies: uint8 of shape (copies, n, height, width, channels); may hold no copy.
        seed: Decides, with epoch and batch, which version of each image is drawn.
        augment: Applied to each batch on the fly, for `augment.mode=online`.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, copies: np.ndarray, seed: int, augment: Augment | None = None
    ) -> None:
        self.images, self.labels, self.copies = images, labels, copies
        self.seed, self.augment = seed, augment

    def __getitem__(self, key: tuple[int, int, np.ndarray]) -> Batch:
        epoch, number, indices = key
        images, labels = self.images[indices], self.labels[indices]
        if len(self.copies):
            draw = np.random.default_rng([self.seed, epoch, number])
            versions = draw.integers(0, len(self.copies) + 1, len(indices))
            augmented = versions > 0
            images[augmented] = self.copies[versions[augmented] - 1, indices[augmented]]
        if self.augment is not None:
            images = self.augment(images, labels, derive_seed(self.seed, f"{epoch}/{number}"))
        return torch.from_numpy(images), torch.from_numpy(labels)


class MeasuredImages(Dataset[Batch]):
    """Images in their stored order, in whole batches, for measuring in evaluation mode."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return -(-len(self.labels) // MEASURING_BATCH_SIZE)

    def __getitem__(self, number: int) -> Batch:
        part = slice(number * MEASURING_BATCH_SIZE, (number + 1) * MEASURING_BATCH_SIZE)
        return torch.from_numpy(np.array(self.images[part])), torch.from_numpy(self.labels[part])


class ImageBatches(pl.LightningDataModule):
    """The batches that a fit needs: training, then validation and the clean training probe for measuring.

    Args:
        prepared: Output of the prepare stage, of which only `train/` and `val/` are opened.
        augmented: Output of the augment stage.
        batch_size: Training images for each step, in each process.
        seed: The training's seed.
        loader_workers: Processes that make batches; 0 makes them in the training process.
        augment: For `augment.mode=online`.
    """

    def __init__(
        self,
        prepared: Path,
        augmented: Path,
        *,
        batch_size: int,
        seed: int,
        loader_workers: int = 0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        images, labels = _split(prepared, "train")
        self.val = MeasuredImages(*_split(prepared, "val"))
        self.probe_indices = probe_indices(len(labels), len(self.val.labels), derive_seed(seed, "probe"))
        self.probe = MeasuredImages(images[self.probe_indices], labels[self.probe_indices])
        copies = np.load(augmented / "images.npy", mmap_mode="r")
        self.train = TrainingImages(images, labels, copies, derive_seed(seed, "versions"), augment)
        self.batch_size, self.seed, self.loader_workers = batch_size, seed, loader_workers
        self.first_epoch = 0
        self.order: EpochOrder | None = None

    def train_dataloader(self) -> DataLoader[Batch]:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        num_images, seed = len(self.train.labels), derive_seed(self.seed, "order")
        self.order = EpochOrder(num_images, self.batch_size, seed, rank, world_size)
        self.order.set_epoch(self.first_epoch)
        return _loader(
            self.train,
            sampler=self.order,
            num_workers=self.loader_workers,
            persistent_workers=self.loader_workers > 0,
        )

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return [_loader(self.val), _loader(self.probe)]

    def start_at(self, epoch: int) -> None:
        """Make `epoch`, counted from 0, the first one. A resumed training says so before any batch is drawn: Lightning
        makes the first iterator before it calls `set_epoch`, and its workers would draw the order of epoch 0."""
        self.first_epoch = epoch
        if self.order is not None:
            self.order.set_epoch(epoch)


def _loader(images: Dataset[Batch], **settings: Any) -> DataLoader[Batch]:
    """A loader of whole batches with a generator of its own: torch's global one belongs to dropout."""
    return DataLoader(images, batch_size=None, generator=torch.Generator(), **settings)


def probe_indices(num_train: int, num_val: int, seed: int) -> np.ndarray:
    """Sorted indices of the training images on which the clean training loss is measured: as many as in validation.

    Returns:
        int64 of shape (min(num_train, num_val),).
    """
    return np.sort(np.random.default_rng(seed).permutation(num_train)[:num_val])


def _split(prepared: Path, name: str) -> tuple[Any, np.ndarray]:
    images = np.load(prepared / name / "images.npy", mmap_mode="r")
    return images, np.load(prepared / name / "labels.npy")
