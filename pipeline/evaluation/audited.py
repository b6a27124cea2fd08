"""Gathers what an audit of labels looks at: the images outside of the test split, their groups, and views of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Config
from pipeline.data.raw_dataset import read
from pipeline.errors import UserError
from pipeline.evaluation.edges import edges
from pipeline.evaluation.label_audit import STRENGTH, View
from pipeline.evaluation.probe import probe, regression, with_pretrained
from pipeline.evaluation.reference import pixels
from pipeline.stage import lineage
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import harmless, read_csv, read_parquet_column

SPLITS = ("train", "val", "confirm")
"""Splits whose labels are audited: all but the test split, which nothing but an evaluation reads."""


@dataclass(frozen=True)
class Audited:
    """n images and their labels.

    Attributes:
        dataset: Record of the prepared data.
        prepared: Their folder.
        paths: Path of each image in the source.
        splits: Name of the split of each image.
        rows: Index of each image in its split.
        labels: int64 of shape (n,).
        groups: Number of the group of each image, equal for images that belong together; int64 of shape (n,).
        corrected: The label in the source of each image that `data.relabel` names, by its path, whichever its split.
        now: The label that it has now, likewise.
    """

    dataset: DatasetRecord
    prepared: Path
    paths: list[str]
    splits: NDArray[np.str_]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    corrected: dict[str, str]
    now: dict[str, str]


@dataclass(frozen=True)
class Seen:
    """The views of images, and the folder of the prepared images that they are from, which may be larger than one's own."""

    views: list[View]
    prepared: Path

    def pictures(self, images: Audited, chosen: Sequence[int]) -> NDArray[np.uint8]:
        """Pixels of some images, of shape (n, height, width, channels)."""
        arrays = {split: read_array(self.prepared / split / "images.npy") for split in set(images.splits.tolist())}
        shape = next(iter(arrays.values())).shape[1:]
        found = np.empty((len(chosen), *shape), np.uint8)
        for place, image in enumerate(chosen):
            found[place] = arrays[str(images.splits[image])][images.rows[image]]
        return found


def audited(config: Config, splits: Sequence[str] = SPLITS) -> Audited:
    """The images of some splits, which are prepared if they are not yet.

    Raises:
        UserError: The images cannot be had.
    """
    prepared, raw = lineage.locate("prepare", config), read(lineage.locate("fetch", config))
    paths = [path for split in splits for path in read_parquet_column(prepared / split / "ids.parquet", "id")]
    labels = [read_array(prepared / split / "labels.npy", mapped=False) for split in splits]
    sizes = [len(each) for each in labels]
    now = dict(zip(raw.ids, raw.labels.tolist(), strict=True))
    return Audited(
        dataset=DatasetRecord.read(prepared), prepared=prepared, paths=paths, splits=np.repeat(list(splits), sizes),
        rows=np.concatenate([np.arange(size) for size in sizes]), labels=np.concatenate(labels),
        groups=_groups(prepared, paths), corrected=raw.corrected,
        now={path: raw.classes[now[path]] for path in raw.corrected},
    )  # fmt: skip


def _groups(prepared: Path, paths: Sequence[str]) -> NDArray[np.int64]:
    """The group of each image as `prepare` found it; an image that shares none has one of its own."""
    shared = {row["id"]: -1 - int(row["group"]) for row in read_csv(prepared / "groups.csv")}
    return np.array([shared.get(str(harmless(path)), row) for row, path in enumerate(paths)], dtype=np.int64)


def views(
    config: Config, images: Audited, splits: Sequence[str] = SPLITS, most_features: int | None = None
) -> Seen:  # fmt: skip
    """The pixels and the edges of the images, and the features of a pretrained network where these can be had.

    Images that are smaller than the pretrained network takes are enlarged, whatever `prepare.fit` says.

    Args:
        config: Configuration whose images they are.
        images: The images.
        splits: Their splits.
        most_features: Number of images above which there are no features, unless the configuration's own network starts from
            weights; None: no limit.

    Raises:
        UserError: The images are others at the pretrained network's size.
    """
    if most_features is not None and len(images.labels) > most_features and config.model.weights is None:
        return Seen(_plain(images.prepared, splits), images.prepared)
    enlarged = config.prepare.model_copy(update={"fit": "stretch"})
    if _longer_side(images.prepared, splits) < with_pretrained(config).prepare.size:
        config = config.model_copy(update={"prepare": enlarged})
    try:
        pretrained = probe(config, splits)
    except UserError as error:
        print(f"without features of a pretrained network: {error}")
        return Seen(_plain(images.prepared, splits), images.prepared)
    if pretrained.paths != images.paths:
        raise UserError(
            "the images must be the same at the size of the pretrained network; they are not. Set prepare.on_issue so that "
            "no image is dropped for its size."
        )
    features = View("the features of a pretrained network", pretrained.features, partial(regression, STRENGTH))
    return Seen([features, *_plain(pretrained.prepared, splits)], pretrained.prepared)


def _plain(prepared: Path, splits: Sequence[str]) -> list[View]:
    most = max(len(read_array(prepared / split / "labels.npy")) for split in splits)
    return [
        View(name, np.concatenate([seen(prepared / split) for split in splits]), regression)
        for name, seen in (("the pixels", lambda split: pixels(split, most)[0]), ("the edges", edges))
    ]


def _longer_side(prepared: Path, splits: Sequence[str]) -> float:
    """Median of the images' longer sides before preparation, in pixels."""
    sides = [
        [side for split in splits for side in read_parquet_column(prepared / split / "ids.parquet", name)]
        for name in ("width", "height")
    ]
    return float(np.median(np.max(sides, axis=0)))
