"""Batches of images for training and for measuring, drawn as pure functions of a seed and the epoch."""

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.errors import ConfigError
from pipeline.model.inference import measuring_batch_size
from pipeline.seeds import derive_seed
from pipeline.storage.arrays import read_array
from pipeline.training import balance

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images uint8 (batch, height, width, channels) and labels int64 (batch,)."""

Augment = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Augments images uint8 (batch, height, width, channels), given their labels int64 (batch,) and a seed."""

MEASURING_BATCH_SIZE = 512


class EpochOrder(Sampler[tuple[int, int, np.ndarray]]):
    """Draws the batches of one epoch as (epoch, number, indices); their order depends on seed and epoch alone.

    All batches of an epoch are of one size, or of two that differ by 1: a last batch of a single image would leave
    batch normalisation without a variance. Several processes share one order; `TrainingImages` gives each its part of every
    batch.

    Args:
        num_images: Number of images in an epoch, which shows each one once unless `labels` are given.
        batch_size: Largest number of images in a batch.
        seed: Seed of the order.
        labels: Labels of the images, for an epoch that shows each class equally often; None shows each image once.
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
        """Number of images in a batch."""
        return self.num_images // self.num_batches + (number < self.num_images % self.num_batches)


class TrainingImages(Dataset[Batch]):
    """Whole batches of training images, each image as one version among the original and its augmented copies.

    Args:
        images: uint8 of shape (n, height, width, channels), or features float32 of shape (n, features).
        labels: int64 of shape (n,).
        copies: Of shape (copies, *images.shape); may hold no copy.
        seed: Seed of the draws; with epoch and batch, it decides which version of each image is taken.
        augment: Function that augments each batch on the fly, where augment.json says `online`.

    Attributes:
        rank, num_processes: Part of each batch that is given: every `num_processes`-th image from number `rank` on. They do
            not change which version of an image is drawn, but they change what `augment` draws.
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
    """Whole batches of images in a fixed order, for measuring in evaluation mode; each is read when it is asked for.

    Args:
        images: uint8 of shape (n, height, width, channels), or features float32 of shape (n, features).
        labels: int64 of shape (n,).
        batch_size: Number of images in a batch; smaller for large images.
        chosen: Indices of the images to measure; None: all.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, batch_size: int = MEASURING_BATCH_SIZE,
        chosen: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.images = images
        self.chosen = np.arange(len(labels)) if chosen is None else chosen
        self.labels = labels if chosen is None else labels[chosen]
        self.batch_size = measuring_batch_size(batch_size, *images.shape[1:3]) if images.ndim == 4 else batch_size

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __getitem__(self, number: int) -> Batch:
        part = slice(number * self.batch_size, (number + 1) * self.batch_size)
        return torch.from_numpy(self.images[self.chosen[part]]), torch.from_numpy(self.labels[part])

    def part(self, rank: int, num_processes: int) -> "MeasuredImages":
        """The part that one process measures; the first batches of all parts together hold the images of the first batch."""
        part = copy.copy(self)
        mine = slice(rank, None, num_processes)
        part.chosen, part.labels = self.chosen[mine], self.labels[mine]
        part.batch_size = max(1, self.batch_size // num_processes)
        return part


class ImageBatches(pl.LightningDataModule):
    """All batches of a training: training images, and the validation split and the clean training probe for measuring.

    Several processes share each batch, so that a step sees the same images however many processes there are.

    Args:
        prepared: Output folder of the prepare stage; only `train/` and `val/` are opened.
        augmented: Output folder of the augment stage.
        batch_size: Number of training images in a step, of all processes together.
        seed: Seed of the training.
        loader_workers: Number of processes that make batches; 0 makes them in the training process.
        augment: Function that augments each batch, where augment.json says `online`.
        balanced: Whether an epoch shows each class equally often, rather than each image once.
        features: Files of `pipeline.training.features`, whose arrays take the place of the images; None: the images.
    """

    def __init__(
        self, prepared: Path, augmented: Path, *, batch_size: int, seed: int, loader_workers: int = 0,
        augment: Augment | None = None, balanced: bool = False, features: Mapping[str, Path] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        images, labels = _split(prepared, "train", features)
        self.val = MeasuredImages(*_split(prepared, "val", features))
        self.probe_indices = probe_indices(len(labels), len(self.val.labels), derive_seed(seed, "probe"))
        self.probe = MeasuredImages(images, labels, chosen=self.probe_indices)
        copies = read_array(augmented / "images.npy" if features is None else features["copies"])
        self.train = TrainingImages(images, labels, copies, derive_seed(seed, "versions"), augment)
        self.batch_size, self.seed, self.loader_workers, self.balanced = batch_size, seed, loader_workers, balanced
        self.first_epoch = 0
        self.order: EpochOrder | None = None

    def train_dataloader(self) -> DataLoader[Batch]:
        labels, seed = self.train.labels, derive_seed(self.seed, "order")
        self.order = EpochOrder(len(labels), self.batch_size, seed, labels if self.balanced else None)
        self.order.set_epoch(self.first_epoch)
        self.train.rank, self.train.num_processes = self._rank_and_size()
        self._require_images_for_each()
        workers = self.loader_workers
        return _loader(self.train, sampler=self.order, num_workers=workers, persistent_workers=workers > 0)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return [_loader(images.part(*self._rank_and_size())) for images in (self.val, self.probe)]

    def weight(self, number: int) -> float:
        """Factor of this process's loss in the mean over processes, such that this mean is the loss of the whole batch; the
        parts of a batch can differ by one image."""
        assert self.order is not None
        rank, num_processes = self._rank_and_size()
        length = self.order.batch_length(number)
        return len(range(rank, length, num_processes)) * num_processes / length

    def start_at(self, epoch: int) -> None:
        """Make `epoch`, counted from 0, the first one. A resumed training calls this before any batch is drawn: Lightning
        makes the first iterator before it calls `set_epoch`, and its workers would draw the order of epoch 0."""
        self.first_epoch = epoch
        if self.order is not None:
            self.order.set_epoch(epoch)

    def _rank_and_size(self) -> tuple[int, int]:
        """The rank of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _require_images_for_each(self) -> None:
        assert self.order is not None
        smallest = self.order.batch_length(len(self.order) - 1)
        num_val = min(len(self.val.labels), len(self.probe.labels))
        if self.train.num_processes > min(smallest, num_val):
            raise ConfigError(
                f"train.devices must leave each process an image of every batch and of validation; got "
                f"{self.train.num_processes} processes for batches of {smallest} and {num_val} validation images. "
                "Lower it, or raise train.batch_size."
            )


def _loader(images: Dataset[Batch], **settings: Any) -> DataLoader[Batch]:
    """A loader of whole batches with a generator of its own: torch's global one belongs to dropout."""
    return DataLoader(images, batch_size=None, generator=torch.Generator(), **settings)


def probe_indices(num_train: int, most: int, seed: int) -> np.ndarray:
    """Sorted indices of the training images that are measured in evaluation mode: in each epoch as many as in validation."""
    return np.sort(np.random.default_rng(seed).permutation(num_train)[:most])


def _split(prepared: Path, name: str, features: Mapping[str, Path] | None) -> tuple[Any, np.ndarray]:
    images = prepared / name / "images.npy" if features is None else features[name]
    return read_array(images), read_array(prepared / name / "labels.npy", mapped=False)
