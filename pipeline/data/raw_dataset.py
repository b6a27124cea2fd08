"""Reads the raw dataset, whichever layout it has, without loading the images."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.source import RELABELLING, Correction, SourceRecord
from pipeline.data.parquet_files import ParquetRows, read_parquet
from pipeline.data.pixel_files import LAYOUTS, MEND, LabelledArrays
from pipeline.data.relabelling import relabelled, without_empty_classes
from pipeline.errors import DataError
from pipeline.storage.tables import read_csv

BLOCK = 4096
"""Number of images of an array that are handled at a time: enough to be fast, few enough that memory stays flat."""


class Block(Protocol):
    """Consecutive images of one file; small, so that it is sent to other processes quickly."""

    @property
    def path(self) -> Path: ...

    @property
    def num_images(self) -> int: ...

    def read(self) -> NDArray[np.uint8] | list[bytes]:
        """The pixels, of shape (n, height, width, channels), or the bytes of each encoded image."""


@dataclass(frozen=True)
class PixelBlock:
    """Rows `begin` to `end` of an array of pixels, of shape (n, height, width, channels), which `mapped` maps from its file."""

    path: Path
    mapped: Callable[[Path], NDArray[np.uint8]]
    begin: int
    end: int

    @property
    def num_images(self) -> int:
        return self.end - self.begin

    def read(self) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.mapped(self.path)[self.begin : self.end])


@dataclass(frozen=True)
class RawDataset:
    """Content of `data/`.

    Attributes:
        name: Name of the dataset.
        classes: Names, in the order of the labels.
        licence: Licence of the images.
        source: Origin of the dataset, for people.
        blocks: The images.
        labels: int64 of shape (n,), in [0, number of classes), in the order of the blocks.
        splits: For each image `train`, `val` or `test` where the source tells it, else an empty text.
        ids: For each image, a unique name: its path in the source, or its split and its number there.
        files: For each image, the file in `data/` that holds it.
        groups: For each image, the name of its group, such as a patient; an empty text where the source does not tell.
        skipped: Files that `fetch` left out: path, problem and evidence.
        corrected: The label in the source of each image that `data.relabel` names, by its id.
    """

    name: str
    classes: list[str]
    licence: str
    source: str
    blocks: list[Block]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    ids: list[str]
    files: list[str]
    groups: list[str]
    skipped: list[dict[str, str]]
    corrected: dict[str, str] = field(default_factory=dict)

    @property
    def holds_pixels(self) -> bool:
        """Whether the source holds arrays of pixels, rather than image files."""
        return isinstance(self.blocks[0], PixelBlock)


def read(folder: Path) -> RawDataset:
    """Read the dataset in `folder`, with the layout that its `source.json` names, and with corrected labels.

    Raises:
        DataError: `source.json` or a file is missing or damaged, or names an unknown layout, or a correction does not fit.
    """
    record = SourceRecord.read(folder)
    raw = _from_parquet(folder, record) if record.layout == "parquet" else _of_pixels(folder, record)
    return _corrected(raw, folder / RELABELLING, record.classes is None) if RELABELLING in record.files else raw


def _corrected(raw: RawDataset, table: Path, drops_empty_classes: bool) -> RawDataset:
    corrections = [Correction(**row) for row in read_csv(table)]
    found = relabelled(raw.ids, raw.labels, raw.classes, corrections)
    before = {raw.ids[row]: raw.classes[raw.labels[row]] for row in found.rows}
    if drops_empty_classes:
        found = without_empty_classes(found)
    return replace(raw, labels=found.labels, classes=found.classes, corrected=before)


def _of_pixels(folder: Path, record: SourceRecord) -> RawDataset:
    if record.layout not in LAYOUTS:
        known = ", ".join(sorted([*LAYOUTS, "parquet"]))
        raise DataError(f"layout in {folder / SourceRecord.FILE} must be one of {known}; got {record.layout!r}. {MEND}")
    reader, usual_parts = LAYOUTS[record.layout]
    return _from_arrays(folder, record, [reader(folder, part) for part in record.parts or usual_parts])


def _from_parquet(folder: Path, record: SourceRecord) -> RawDataset:
    rows = read_parquet(folder, record.parts, record.columns)
    classes, labels = _class_map(rows, record.classes)
    return RawDataset(
        record.name, classes, record.licence, record.source, list(rows.blocks), labels, np.array(rows.splits), rows.ids,
        rows.files, rows.groups, _skipped(folder / "skipped.csv"),
    )  # fmt: skip


def _class_map(rows: ParquetRows, classes: list[str] | None) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the classes, the same for all splits, and the label of each image as an index into them."""
    values = set(rows.labels)
    are_numbers = all(isinstance(value, int) for value in values)
    names = sorted(map(str, values), key=_natural) if classes is None else classes
    if classes is not None and are_numbers:
        labels = np.array(rows.labels, dtype=np.int64)
        wrong = labels[(labels < 0) | (labels >= len(names))]
        if len(wrong):
            raise DataError(
                f"labels must be in 0..{len(names) - 1}, as data.classes names {len(names)} classes; got {wrong[0]}. Name all "
                "classes, or set data.classes=null."
            )
        return names, labels
    unknown = sorted(set(map(str, values)) - set(names))
    if unknown:
        raise DataError(
            f"data.classes must name every class of the data; it lacks {', '.join(map(repr, unknown[:5]))}. Add what "
            "lacks, or set data.classes=null, which takes the names in their natural order."
        )
    indices = {name: index for index, name in enumerate(names)}
    return names, np.array([indices[str(value)] for value in rows.labels], dtype=np.int64)


def _natural(name: str) -> tuple[int, float, str]:
    """Sort key: whole numbers by value, before all other names.

    >>> sorted(["10", "9", "b", "a"], key=_natural)
    ['9', '10', 'a', 'b']
    """
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _skipped(path: Path) -> list[dict[str, str]]:
    text = path.read_bytes().decode() if path.exists() else ""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _from_arrays(folder: Path, record: SourceRecord, parts: Sequence[LabelledArrays]) -> RawDataset:
    blocks: list[Block] = []
    for part in parts:
        _check_labels(folder, part, record.classes)
        for path, mapped, num_images in part.arrays:
            starts = range(0, num_images, BLOCK)
            blocks += [PixelBlock(path, mapped, start, min(start + BLOCK, num_images)) for start in starts]
    labels = np.concatenate([part.labels for part in parts])
    num_classes = int(labels.max()) + 1
    several = len(parts) > 1
    return RawDataset(
        name=record.name, classes=record.classes or [str(label) for label in range(num_classes)], licence=record.licence,
        source=record.source, blocks=blocks, labels=labels,
        splits=np.repeat([part.split if several else "" for part in parts], [len(part.labels) for part in parts]),
        ids=[f"{part.split}-{number:06d}" for part in parts for number in range(len(part.labels))],
        files=[path.name for part in parts for path, _, num_images in part.arrays for _ in range(num_images)],
        groups=[""] * len(labels), skipped=[],
    )  # fmt: skip


def _check_labels(folder: Path, part: LabelledArrays, classes: Sequence[str] | None) -> None:
    num_images = sum(number for _, _, number in part.arrays)
    if num_images != len(part.labels) or not num_images:
        raise DataError(
            f"the {part.split} images of {folder} must be at least one, and one for each label; got "
            f"{num_images:,} images and {len(part.labels):,} labels. {MEND}"
        )
    last = len(classes) - 1 if classes else np.inf
    wrong = np.flatnonzero((part.labels < 0) | (part.labels > last))
    if len(wrong):
        ends = np.cumsum([number for _, _, number in part.arrays])
        path = part.arrays[int(np.searchsorted(ends, wrong[0], side="right"))][0]
        expected = f"in 0..{last}, as source.json names {len(classes)} classes" if classes else "0 or more"
        raise DataError(f"the labels of {path} must be {expected}; got {part.labels[wrong[0]]}. {MEND}")
