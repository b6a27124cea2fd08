"""Batches of images for training and for measuring, drawn as pure functions of a seed and the epoch."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.errors import ConfigError
from pipeline.model.inference import measuring_batch_size
from pipeline.seeds import derive_seed
from pipeline.training import balance

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images uint8 (batch, height, width, channels) and labels int64 (batch,)."""

Augment = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Augments images uint8 (batch, height, width, channels), given their labels int64 (batch,) and a seed."""

MEASURING_BATCH_SIZE = 512


class EpochOrder(Sampler[tuple[int, int, np.ndarray]]):
    """The batches of one epoch as (epoch, number, indices), in an order that depends on seed and epoch alone.

    All batches of an epoch are of one size, or of two that differ by 1: a last batch of a single image would leave
    batch normalisation without a variance. Several processes go through one common order; `TrainingImages` gives each its
    part of every batch.

    Args:
        num_images: That an epoch shows, each one once unless `labels` are given.
        batch_size: The most images of a batch.
        seed: Decides the order.
        labels: Of the images, for an epoch that shows each class equally often; None shows each image once.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, labels: np.ndarray | None = None) -> None:
        self.num_images, self.seed = num_images, seed
        self.num_batches = -(-num_images // batch_size)
        self.classes = None if labels is None else balance.members(labels)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order the next iteration gives. Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[tuple[int, int, np.ndarray]]:
        epoch = self.epoch
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
        if self.classes is not None:
            order = balance.balanced_draws(self.classes, self.num_images, self.seed, epoch)[order]
        for number, indices in enumerate(np.array_split(order, self.num_batches)):
            yield epoch, number, indices

    def batch_length(self, number: int) -> int:
        """How many images a batch has."""
        return self.num_images // self.num_batches + (number < self.num_images % self.num_batches)


class TrainingImages(Dataset[Batch]):
    """Whole batches of training images, each image as one version among the original and its augmented copies.

    Args:
        images: uint8 of shape (n, height, width, channels).
        labels: int64 of shape (n,).
        copies: uint8 of shape (copies, n, height, width, channels); may hold no copy.
        seed: Decides, with epoch and batch, which version of each image is drawn.
        augment: Applied to each batch on the fly, where augment.json says `online`.

    Attributes:
        rank, num_processes: Whose part of each batch is given: every `num_processes`-th image from number `rank` on. Which
            version of an image is drawn does not depend on it; what `augment` draws does.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, copies: np.ndarray, seed: int, augment: Augment | None = None
    ) -> None:
        self.images, self.labels, self.copies = images, labels, copies
        self.seed, self.augment = seed, augment
        self.rank, self.num_processes = 0, 1

    def __getitem__(self, key: tuple[int, int, np.ndarray]) -> Batch:
        epoch, number, batch = key
        part = slice(self.rank, None, self.num_processes)
        indices = batch[part]
        images, labels = self.images[indices], self.labels[indices]
        if len(self.copies):
            draw = np.random.default_rng([self.seed, epoch, number])
            versions = draw.integers(0, len(self.copies) + 1, len(batch))[part]
            augmented = versions > 0
            images[augmented] = self.copies[versions[augmented] - 1, indices[augmented]]
        if self.augment is not None:
            name = f"{epoch}/{number}" + (f"/{self.rank}" if self.rank else "")
            images = self.augment(images, labels, derive_seed(self.seed, name))
        return torch.from_numpy(images), torch.from_numpy(labels)


class MeasuredImages(Dataset[Batch]):
    """Images in a fixed order, in whole batches, for measuring in evaluation mode; read only as they are asked for.

    Args:
        images: uint8 of shape (n, height, width, channels).
        labels: int64 of shape (n,).
        batch_size: Images at a time, of large ones fewer.
        chosen: Indices of the images that are measured; None: all.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int = MEASURING_BATCH_SIZE,
        chosen: np.ndarray | None = None,
    ) -> None:
        self.images = images
        self.chosen = np.arange(len(labels)) if chosen is None else chosen
        self.labels = labels if chosen is None else labels[chosen]
        self.batch_size = measuring_batch_size(batch_size, *images.shape[1:3])

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        part = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return torch.from_numpy(self.images[self.chosen[part]]), torch.from_numpy(self.labels[part])

    def part(self, rank: int, num_processes: int) -> "MeasuredImages":
        """What one of several processes measures; their first batches together hold the images of the whole first one."""
        part = copy.copy(self)
        mine = slice(rank, None, num_processes)
        part.chosen, part.labels = self.chosen[mine], self.labels[mine]
        part.batch_size = max(1, self.batch_size // num_processes)
        return part


class ImageBatches(pl.LightningDataModule):
    """The batches that a fit needs: training, then validation and the clean training probe for measuring.

    Several processes share each batch, so that as many images make a step, and the same ones, however many they are.

    Args:
        prepared: Output of the prepare stage, of which only `train/` and `val/` are opened.
        augmented: Output of the augment stage.
        batch_size: Training images for each step, of all processes together.
        seed: The training's seed.
        loader_workers: Processes that make batches; 0 makes them in the training process.
        augment: Where augment.json says `online`.
        balanced: Whether an epoch shows each class equally often, rather than each image once.
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
        balanced: bool = False,
    ) -> None:
        super().__init__()
        images, labels = _split(prepared, "train")
        self.val = MeasuredImages(*_split(prepared, "val"))
        self.probe_indices = probe_indices(len(labels), len(self.val.labels), derive_seed(seed, "probe"))
        self.probe = MeasuredImages(images, labels, chosen=self.probe_indices)
        copies = np.load(augmented / "images.npy", mmap_mode="r")
        self.train = TrainingImages(images, labels, copies, derive_seed(seed, "versions"), augment)
        self.batch_size, self.seed, self.loader_workers, self.balanced = batch_size, seed, loader_workers, balanced
        self.first_epoch = 0
        self.order: EpochOrder | None = None

    def train_dataloader(self) -> DataLoader[Batch]:
        labels = self.train.labels
        self.order = EpochOrder(
            len(labels), self.batch_size, derive_seed(self.seed, "order"), labels if self.balanced else None
        )
        self.order.set_epoch(self.first_epoch)
        self.train.rank, self.train.num_processes = self._place()
        self._require_images_for_each()
        return _loader(
            self.train,
            sampler=self.order,
            num_workers=self.loader_workers,
            persistent_workers=self.loader_workers > 0,
        )

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return [_loader(images.part(*self._place())) for images in (self.val, self.probe)]

    def weight(self, number: int) -> float:
        """What this process's mean over its part of a training batch counts in the mean over processes, such that this is
        the mean over the batch; its part can have an image more or less than another's."""
        assert self.order is not None
        rank, num_processes = self._place()
        length = self.order.batch_length(number)
        return len(range(rank, length, num_processes)) * num_processes / length

    def start_at(self, epoch: int) -> None:
        """Make `epoch`, counted from 0, the first one. A resumed training says so before any batch is drawn: Lightning
        makes the first iterator before it calls `set_epoch`, and its workers would draw the order of epoch 0."""
        self.first_epoch = epoch
        if self.order is not None:
            self.order.set_epoch(epoch)

    def _place(self) -> tuple[int, int]:
        """The rank of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _require_images_for_each(self) -> None:
        assert self.order is not None
        smallest, num_val = (
            self.order.batch_length(len(self.order) - 1),
            min(len(self.val.labels), len(self.probe.labels)),
        )
        if self.train.num_processes > min(smallest, num_val):
            raise ConfigError(
                f"train.devices must leave each process an image of every batch and of validation; got "
                f"{self.train.num_processes} processes for batches of {smallest} and {num_val} validation images. "
                "Lower it, or raise train.batch_size."
            )


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
