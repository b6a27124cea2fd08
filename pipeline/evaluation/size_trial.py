"""Tries twice the size of the images on a simple method, where the network sees far less than the source shows."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import SizeTrialRecord
from pipeline.data.image_headers import BadImageError
from pipeline.data.lookup import stored
from pipeline.data.preparation import Preprocessing
from pipeline.data.preparation import prepared as prepare
from pipeline.evaluation.edges import histograms
from pipeline.evaluation.label_audit import FOLDS, View, folds, out_of_fold
from pipeline.evaluation.probe import regression
from pipeline.evaluation.reference import evenly
from pipeline.metrics.paired import paired_shares
from pipeline.stage import lineage
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import read_parquet_column

SPLITS = ("train", "val")

MOST = 1_000
"""Largest number of images of a split; large files take long to decode."""

FEWEST = 100
"""Smallest number of images from which anything is told."""

CELLS = 8
"""Cells of the edges on each side, at both sizes: so both have equally many numbers, the larger ones more exact."""


def size_trial(prepared: Path, raw: Iterable[Path], max_pixels: int) -> SizeTrialRecord | None:
    """Out-of-fold accuracy of a logistic regression on edges at twice the size less that at the size of training.

    On pixels such a regression profits nothing, and a training of the network takes minutes where this takes seconds. It is
    computed once for the same images.

    Args:
        prepared: Output of the prepare stage.
        raw: Raw datasets in which to look for the images, such as `data/`.
        max_pixels: Limit for the height × width of a file.

    Returns:
        The trial; None where fewer than `FEWEST` of the images are found, or all of one class.
    """
    folder = lineage.CACHE / f"size-trial-{lineage.content('prepare', prepared)}"
    if not (folder / SizeTrialRecord.FILE).exists():
        dataset = DatasetRecord.read(prepared)
        small, large, labels = _both_sizes(prepared, dataset, raw, max_pixels)
        if (found := compared(small, large, labels)) is None:
            return None
        found.write(folder)
    return SizeTrialRecord.read(folder)


def compared(small: NDArray[np.uint8], large: NDArray[np.uint8], labels: NDArray[np.int64]) -> SizeTrialRecord | None:
    """The trial on images of shape (n, size, size, channels) at both sizes, of which the larger one is told."""
    classes, counts = np.unique(labels, return_counts=True)
    rows = np.flatnonzero(np.isin(labels, classes[counts >= FOLDS]))
    kept, positions = np.unique(labels[rows], return_inverse=True)
    if len(rows) < FEWEST or len(kept) < 2 or small.shape[1] < CELLS:
        return None
    splits = folds(positions, None, 0)
    before, after = (
        out_of_fold(View("edges", _edges(images[rows]), regression), positions, splits, len(kept)).argmax(axis=1)
        for images in (small, large)
    )
    gain = paired_shares(after == positions, before == positions)
    interval = Interval(value=gain.difference, low=gain.low, high=gain.high)
    return SizeTrialRecord(size=large.shape[1], num_images=len(rows), gain=interval)


def _edges(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    cell = images.shape[1] // CELLS
    side = cell * CELLS
    return histograms(images[:, :side, :side].mean(axis=3, dtype=np.float32) / 255, cell)


def _both_sizes(
    prepared: Path, dataset: DatasetRecord, raw: Iterable[Path], max_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    """Images as the network sees them, the same at twice the size, and their labels."""
    places: dict[str, tuple[str, int]] = {}
    digests: dict[str, str] = {}
    for split in SPLITS:
        names, known = (read_parquet_column(prepared / split / "ids.parquet", name) for name in ("id", "sha256"))
        for row in evenly(len(names), MOST).tolist():
            places[names[row]], digests[names[row]] = (split, row), known[row]
    how = replace(Preprocessing.of(dataset), size=2 * dataset.size)
    large: dict[str, NDArray[np.uint8]] = {}
    for folder in raw:
        left = {name: digest for name, digest in digests.items() if name not in large}
        for name, image in stored(folder, left) if left else ():
            with suppress(BadImageError):
                large[name] = prepare(image, how, max_pixels)[0]
    images, labels = (
        {split: read_array(prepared / split / f"{what}.npy") for split in SPLITS} for what in ("images", "labels")
    )
    found = sorted(large, key=lambda name: places[name])  # whatever the order in the source
    shape = (0, dataset.size, dataset.size, dataset.channels)
    return (
        np.array([images[split][row] for split, row in map(places.__getitem__, found)], np.uint8).reshape(
            -1, *shape[1:]
        ),
        np.array([large[name] for name in found], np.uint8).reshape(-1, how.size, how.size, dataset.channels),
        np.array([labels[split][row] for split, row in map(places.__getitem__, found)], np.int64),
    )
