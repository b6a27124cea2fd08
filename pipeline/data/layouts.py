"""The layouts of `data/`, each read into the same form without loading the images."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pixel_files import ARRAY_FILES, CIFAR_FILES, IDX_FILES, MEND, Part, read_arrays, read_cifar, read_idx
from pipeline.data.tables import Tables, read_tables
from pipeline.errors import DataError

BLOCK = 4096
"""Images of an array that are handled at a time: enough to be fast, few enough that memory stays flat."""


class Block(Protocol):
    """Images that lie one after the other in one file; small, so that it travels to other processes."""

    @property
    def path(self) -> Path: ...

    @property
    def num_images(self) -> int: ...

    def read(self) -> NDArray[np.uint8] | list[bytes]:
        """The pixels, of shape (n, height, width, channels), or the bytes of each encoded image."""


@dataclass(frozen=True)
class PixelBlock:
    """Rows of an array of pixels.

    Attributes:
        path: The file.
        mapped: Gives the whole array of the file, mapped, of shape (n, height, width, channels).
        begin: First row.
        end: Behind the last one.
    """

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
    """What `data/` holds.

    Attributes:
        name: Of the dataset.
        classes: Names, in the order of the labels.
        licence: Of the images.
        source: Where the dataset comes from, for people.
        blocks: The images.
        labels: int64 of shape (n,), in [0, number of classes), in the order of the blocks.
        splits: For each image `train`, `val` or `test` where the source says so, else an empty text.
        ids: For each image, a name that no other one has: its path in the source, or its split and its place there.
        files: For each image, the file in `data/` that holds it.
        groups: For each image, what it shares with others, such as a patient; an empty text where nothing is known.
        skipped: What `fetch` left out: path, problem and evidence.
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


def read(folder: Path) -> RawDataset:
    """The dataset in `folder`, whichever of `LAYOUTS` its `source.json` names.

    Raises:
        DataError: `source.json` or a file is missing or damaged, or names a layout that is not known.
    """
    about = _read_about(folder / "source.json")
    layout = about["layout"]
    if layout == "parquet":
        return _from_tables(folder, about)
    if layout not in LAYOUTS:
        known = ", ".join(sorted([*LAYOUTS, "parquet"]))
        raise DataError(f"layout in {folder / 'source.json'} must be one of {known}; got {layout!r}. {MEND}")
    reader, files = LAYOUTS[layout]
    parts = [reader(folder, name, chosen) for name, chosen in (about.get("parts") or files).items()]
    return _from_parts(folder, about, parts)


def _read_about(path: Path) -> dict[str, Any]:
    keys = ("name", "layout", "classes", "licence", "source")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} must tell what the data are; there is no such file. {MEND}") from None
    except ValueError as error:
        raise DataError(f"{path} must be JSON; got something else ({error}). {MEND}") from None
    missing = [key for key in keys if not isinstance(about, dict) or key not in about]
    if missing:
        raise DataError(f"{path} must hold {', '.join(keys)}; it lacks {', '.join(missing)}. {MEND}")
    return about


def _from_tables(folder: Path, about: dict[str, Any]) -> RawDataset:
    tables = read_tables(folder, about.get("parts"), about.get("columns"))
    classes, labels = _class_map(tables, about["classes"])
    return RawDataset(
        about["name"], classes, about["licence"], about["source"], list(tables.blocks), labels, np.array(tables.splits),
        tables.ids, tables.files, tables.groups, _skipped(folder / "skipped.csv"),
    )  # fmt: skip


def _class_map(tables: Tables, classes: list[str] | None) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the classes, settled here once for all splits, and each image's place among them."""
    found = set(tables.labels)
    numbers = all(isinstance(label, int) for label in found)
    if classes is None:
        names = sorted(map(str, found), key=_natural)
    elif numbers:
        names = classes
    else:
        names = classes
        unknown = sorted(set(map(str, found)) - set(names))
        if unknown:
            raise DataError(
                f"data.classes must name every class of the data; it lacks {', '.join(map(repr, unknown[:5]))}. Add what "
                "lacks, or set data.classes=null, which takes the names in their natural order."
            )
    if numbers and classes is not None:
        labels = np.array(tables.labels, dtype=np.int64)
        wrong = labels[(labels < 0) | (labels >= len(names))]
        if len(wrong):
            raise DataError(
                f"labels must be in 0..{len(names) - 1}, as data.classes names {len(names)} classes; got {wrong[0]}. Name all "
                "classes, or set data.classes=null."
            )
        return names, labels
    places = {name: place for place, name in enumerate(names)}
    return names, np.array([places[str(label)] for label in tables.labels], dtype=np.int64)


def _natural(name: str) -> tuple[int, float, str]:
    """Sorts whole numbers by size, before all other names.

    >>> sorted(["10", "9", "b", "a"], key=_natural)
    ['9', '10', 'a', 'b']
    """
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _skipped(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _from_parts(folder: Path, about: dict[str, Any], parts: Sequence["Part"]) -> RawDataset:
    for part in parts:
        _check_labels(folder, part, about["classes"])
    blocks: list[Block] = []
    for part in parts:
        for path, mapped, num_images in part.arrays:
            starts = range(0, num_images, BLOCK)
            blocks += [PixelBlock(path, mapped, start, min(start + BLOCK, num_images)) for start in starts]
    labels = np.concatenate([part.labels for part in parts])
    num_classes = int(labels.max()) + 1
    several = len(parts) > 1
    return RawDataset(
        name=about["name"],
        classes=about["classes"] or [str(label) for label in range(num_classes)],
        licence=about["licence"],
        source=about["source"],
        blocks=blocks,
        labels=labels,
        splits=np.repeat([part.name if several else "" for part in parts], [len(part.labels) for part in parts]),
        ids=[f"{part.name}-{place:06d}" for part in parts for place in range(len(part.labels))],
        files=[path.name for part in parts for path, _, num_images in part.arrays for _ in range(num_images)],
        groups=[""] * len(labels),
        skipped=[],
    )


def _check_labels(folder: Path, part: Part, classes: Sequence[str] | None) -> None:
    num_images = sum(number for _, _, number in part.arrays)
    if num_images != len(part.labels) or not num_images:
        raise DataError(
            f"the {part.name} images of {folder} must be at least one, and one for each label; got "
            f"{num_images:,} images and {len(part.labels):,} labels. {MEND}"
        )
    most = len(classes) - 1 if classes else np.inf
    wrong = np.flatnonzero((part.labels < 0) | (part.labels > most))
    if len(wrong):
        ends = np.cumsum([number for _, _, number in part.arrays])
        path = part.arrays[int(np.searchsorted(ends, wrong[0], side="right"))][0]
        expected = f"in 0..{most}, as source.json names {most + 1} classes" if classes else "0 or more"
        raise DataError(f"the labels of {path} must be {expected}; got {part.labels[wrong[0]]}. {MEND}")


LAYOUTS: dict[str, tuple[Callable[[Path, str, Any], Part], dict[str, Any]]] = {
    "idx": (read_idx, IDX_FILES), "cifar": (read_cifar, CIFAR_FILES), "arrays": (read_arrays, ARRAY_FILES),
}  # fmt: skip
