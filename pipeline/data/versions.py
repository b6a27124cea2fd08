"""Two versions of the prepared data: which images came, went, got another label or another split."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

Open = Callable[[str], IO[bytes]]
"""Opens a file of `build/prepare/` by its path there, to read and to seek in."""

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Image:
    """One prepared image.

    Attributes:
        name: Its `id`.
        sha256: Of its bytes before preparation.
        label: The name of its class.
        split: `train`, `val`, `confirm` or `test`.
        row: Its place in the arrays of the split.
    """

    name: str
    sha256: str
    label: str
    split: str
    row: int


@dataclass(frozen=True)
class Version:
    """The prepared data at one time.

    Attributes:
        title: For people, such as `HEAD (1a2b3c4)`.
        dataset: The name of the dataset.
        classes: Names, in the order of the labels.
        splits: Names.
        images: All of them.
        open: Opens the files of this version.
    """

    title: str
    dataset: str
    classes: list[str]
    splits: list[str]
    images: list[Image]
    open: Open


@dataclass(frozen=True)
class Counts:
    """Images before and after, as pairs.

    Attributes:
        splits: Names of the columns.
        classes: Of each class, in the order of the labels, the pair of each split and that of all splits.
        total: The same of all classes.
    """

    splits: list[str]
    classes: dict[str, list[Pair]]
    total: list[Pair]


@dataclass(frozen=True)
class Changes:
    """What became of the images; of a pair the earlier one comes first. An image may be relabelled and moved at once.

    Attributes:
        added: Only in the later version.
        removed: Only in the earlier version.
        relabelled: The same bytes with another label.
        moved: The same bytes in another split.
    """

    added: list[Image]
    removed: list[Image]
    relabelled: list[tuple[Image, Image]]
    moved: list[tuple[Image, Image]]


def read(title: str, open_file: Open) -> Version:
    """All that is known of a version, less its pixels.

    Raises:
        OSError: A file is not there.
    """
    import pyarrow.parquet as pq

    with open_file("dataset.json") as file:
        about = json.load(file)
    images = []
    for split in about["counts"]:
        with open_file(f"{split}/ids.parquet") as file:
            ids = pq.read_table(io.BytesIO(file.read()), columns=["id", "sha256"]).to_pydict()
        with open_file(f"{split}/labels.npy") as file:
            labels = np.load(io.BytesIO(file.read()))
        for row, (name, sha256, label) in enumerate(zip(ids["id"], ids["sha256"], labels.tolist(), strict=True)):
            images.append(Image(name, sha256, about["classes"][label], split, row))
    return Version(title, about["name"], about["classes"], list(about["counts"]), images, open_file)


def count(old: Version, new: Version) -> Counts:
    """How many images each class and split has in both versions; 0 where it is not there."""
    splits = list(dict.fromkeys([*new.splits, *old.splits]))
    names = list(dict.fromkeys([*new.classes, *old.classes]))
    numbers = [Counter((image.label, image.split) for image in version.images) for version in (old, new)]
    before, after = (np.array([[each[name, split] for split in splits] for name in names]) for each in numbers)
    return Counts(
        splits,
        dict(zip(names, _pairs(before, after), strict=True)),
        _pairs(before.sum(axis=0, keepdims=True), after.sum(axis=0, keepdims=True))[0],
    )


def _pairs(before: NDArray[np.int64], after: NDArray[np.int64]) -> list[list[Pair]]:
    """The pairs of each row, and of its sum."""
    tables = (np.column_stack([numbers, numbers.sum(axis=1)]).tolist() for numbers in (before, after))
    return [list(zip(*rows, strict=True)) for rows in zip(*tables, strict=True)]


def compare(old: Iterable[Image], new: Iterable[Image]) -> Changes:
    """What happened between two versions.

    An image is known by its bytes. Where several have the same ones, those of one name are taken for the same image, then
    the rest in the order of their names: so an image that is only renamed has not changed.

    >>> cat, dog = Image("1.png", "ab", "cat", "train", 0), Image("1.png", "ab", "dog", "train", 7)
    >>> compare([cat], [dog]).relabelled == [(cat, dog)], compare([cat], [cat])
    (True, Changes(added=[], removed=[], relabelled=[], moved=[]))
    """
    before, after = _by_bytes(old), _by_bytes(new)
    removed = [image for sha256 in before.keys() - after.keys() for image in before[sha256]]
    added = [image for sha256 in after.keys() - before.keys() for image in after[sha256]]
    pairs: list[tuple[Image, Image]] = []
    for sha256 in before.keys() & after.keys():
        matched, gone, come = _matched(before[sha256], after[sha256])
        pairs += matched
        removed += gone
        added += come
    return Changes(
        added=sorted(added, key=_place),
        removed=sorted(removed, key=_place),
        relabelled=sorted((pair for pair in pairs if pair[0].label != pair[1].label), key=lambda pair: _place(pair[1])),
        moved=sorted((pair for pair in pairs if pair[0].split != pair[1].split), key=lambda pair: _place(pair[1])),
    )


def _place(image: Image) -> tuple[str, str, int]:
    return image.name, image.split, image.row


def _by_bytes(images: Iterable[Image]) -> dict[str, list[Image]]:
    gathered = defaultdict(list)
    for image in images:
        gathered[image.sha256].append(image)
    return gathered


def _matched(old: list[Image], new: list[Image]) -> tuple[list[tuple[Image, Image]], list[Image], list[Image]]:
    """Pairs of images of the same bytes, and what is left on either side."""
    if len(old) == len(new) == 1:
        return [(old[0], new[0])], [], []
    names = Counter(image.name for image in old) & Counter(image.name for image in new)
    sides = []
    for images in (old, new):
        left = names.copy()
        named, rest = [], []
        for image in sorted(images, key=lambda image: (image.name, image.split, image.label, image.row)):
            if left[image.name]:
                left[image.name] -= 1
                named.append(image)
            else:
                rest.append(image)
        sides.append((named, rest))
    (named_old, rest_old), (named_new, rest_new) = sides
    number = min(len(rest_old), len(rest_new))
    pairs = [*zip(named_old, named_new, strict=True), *zip(rest_old[:number], rest_new[:number], strict=True)]
    return pairs, rest_old[number:], rest_new[number:]


def pixels(version: Version, images: Sequence[Image]) -> list[NDArray[np.uint8]]:
    """Of each image, of shape (height, width, channels); no more of the files is read than that."""
    return [_row(version.open, image) for image in images]


def _row(open_file: Open, image: Image) -> NDArray[np.uint8]:
    with open_file(f"{image.split}/images.npy") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        num_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        file.seek(image.row * num_bytes, io.SEEK_CUR)
        return np.frombuffer(file.read(num_bytes), dtype).reshape(shape[1:])
