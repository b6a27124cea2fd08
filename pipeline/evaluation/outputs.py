"""Computes what a network answers for whole splits: the images that thresholds are set on, and those of the training."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.evaluation import Calibration
from pipeline.artefacts.outputs import CALIBRATION, SHUFFLED, TRAINING, NetworkOutputs
from pipeline.metrics.calibration import fit_temperature
from pipeline.seeds import derive_seed
from pipeline.storage.arrays import read_array

if TYPE_CHECKING:
    from pipeline.evaluation.features import KeptFeatures
    from pipeline.model import Network

Images = NDArray[np.uint8]

ENOUGH = 100
"""Number of confirm images below which validation images are taken too, although they chose the weights."""

FEWEST = 20
"""Number of images below which nothing is calibrated."""

MOST_TRAINING, MOST_SHUFFLED = 5000, 1000
"""Numbers of images that are looked at, at most."""

TILES = 4
"""Tiles on a side of an image whose tiles are shuffled."""


class Reference(NamedTuple):
    """How a network is calibrated, and its outputs for images that are not of the test split, by the names of their files."""

    calibration: Calibration
    outputs: dict[str, NetworkOutputs]

    def write(self, folder: Path) -> None:
        """Write the outputs into the folder of an evaluation."""
        for name, outputs in self.outputs.items():
            outputs.write(folder, name)


def outputs_of(
    network: "Network", prepared: Path, split: str, *, tta: str = "none", batch_size: int, most: int | None = None,
    change: Callable[[Images], Images] | None = None, kept: "KeptFeatures | None" = None,
) -> NetworkOutputs:  # fmt: skip
    """The outputs of a network for the images of a split.

    Args:
        network: The network.
        prepared: Output of the prepare stage.
        split: Name of the split.
        tta: Views of each image to average over.
        batch_size: Number of images at a time; memory grows with it, and not with the split.
        most: Number of images, drawn at random, that suffice; None: all.
        change: What to do to the images before.
        kept: Features of the network, which are then taken from there where one view of each image suffices.
    """
    from pipeline import model

    images = read_array(prepared / split / "images.npy")
    labels = read_array(prepared / split / "labels.npy", mapped=False)
    chosen = np.arange(len(labels))
    if most is not None and most < len(labels):
        generator = np.random.default_rng(derive_seed(0, "images that stand for a split"))
        chosen = np.sort(generator.choice(len(labels), most, replace=False))
    shown = images if len(chosen) == len(images) else images[chosen]
    if kept is not None and tta == "none":
        name = split if len(chosen) == len(images) else f"{split}, {most} of them"
        if change is not None:
            name, shown = f"{name}, {change.__name__.replace('_', ' ')}", change(shown)
        features = read_array(kept.file({"prepare": prepared}, name, shown), mapped=False)
        return NetworkOutputs(labels[chosen], *model.outputs_of_features(network, features))
    parts = []
    for begin in range(0, len(chosen), batch_size):
        batch = shown[begin : begin + batch_size]
        batch = batch if change is None else change(batch)
        parts.append(model.outputs(network, batch, tta=tta, batch_size=batch_size))
    return NetworkOutputs(labels[chosen], *map(np.concatenate, zip(*parts, strict=True)))


def reference(
    network: "Network", prepared: Path, *, tta: str, batch_size: int, kept: "KeptFeatures | None" = None
) -> Reference:
    """Calibrate a network on the confirm split, which chose nothing. The test split is not read.

    Args:
        network: Network with the weights that were kept.
        prepared: Output of the prepare stage that it was trained on.
        tta: Views of each image to average over.
        batch_size: Number of images at a time.
        kept: Features of the network, where its last layer alone has learned.
    """
    counts = {split: sum(numbers) for split, numbers in DatasetRecord.read(prepared).counts.items()}
    splits = ["confirm"] if counts["confirm"] else []
    if counts["confirm"] < ENOUGH:
        splits.append("val")
    found = joined(
        [outputs_of(network, prepared, split, tta=tta, batch_size=batch_size, kept=kept) for split in splits]
    )
    if len(found) < FEWEST:
        return Reference(
            Calibration(splits=splits, num_images=len(found), tta=tta, temperature=1.0), {CALIBRATION: found}
        )
    shuffled = outputs_of(
        network, prepared, splits[0], batch_size=batch_size, most=MOST_SHUFFLED, change=shuffled_tiles,
        kept=kept,
    )  # fmt: skip
    training = outputs_of(network, prepared, "train", batch_size=batch_size, most=MOST_TRAINING, kept=kept)
    temperature = fit_temperature(found.labels, found.log_probabilities)
    calibration = Calibration(splits=splits, num_images=len(found), tta=tta, temperature=temperature)
    return Reference(calibration, {CALIBRATION: found, SHUFFLED: shuffled, TRAINING: training})


def shuffled_tiles(images: Images) -> Images:
    """Images whose tiles are in an order that follows from their pixels; they stand in for images of nothing known."""
    height, width = (length // TILES for length in images.shape[1:3])
    places = [(row * height, column * width) for row in range(TILES) for column in range(TILES)]
    result = np.array(images)
    for source, target in zip(images, result, strict=True):
        order = np.random.default_rng(zlib.crc32(source.tobytes())).permutation(len(places))
        for (top, left), index in zip(places, order, strict=True):
            y, x = places[index]
            target[top : top + height, left : left + width] = source[y : y + height, x : x + width]
    return result


def joined(parts: Sequence[NetworkOutputs]) -> NetworkOutputs:
    """The outputs of several splits as one."""
    return NetworkOutputs(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))
