"""Compares two versions of the prepared data: images added, removed, relabelled, or moved to another split."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.errors import DataError

Open = Callable[[str], IO[bytes]]
"""Opens a file of `build/prepare/` by its path there, to read and to seek in."""

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Image:
    """One prepared image: its id, the SHA-256 of its bytes before preparation, the name of its class, and its place."""

    name: str
    sha256: str
    label: str
    split: str
    row: int


@dataclass(frozen=True)
class Version:
    """The prepared data at one time; `title` is a name for people, such as `HEAD (1a2b3c4)`."""

    title: str
    dataset: str
    classes: list[str]
    splits: list[str]
    images: list[Image]
    open: Open


@dataclass(frozen=True)
class Counts:
    """Numbers of images before and after, as pairs.

    Attributes:
        splits: Names of the splits.
        classes: For each class, in the order of the labels, the pair for each split, and that for all splits.
        total: The same for all classes together.
    """

    splits: list[str]
    classes: dict[str, list[Pair]]
    total: list[Pair]


@dataclass(frozen=True)
class Changes:
    """Changes between two versions; in a pair, the earlier image comes first. An image may be relabelled and moved at once.

    Attributes:
        added: Images in the later version only.
        removed: Images in the earlier version only.
        relabelled: Images with the same bytes and another label.
        moved: Images with the same bytes in another split.
    """

    added: list[Image]
    removed: list[Image]
    relabelled: list[tuple[Image, Image]]
    moved: list[tuple[Image, Image]]


def read(title: str, open_file: Open) -> Version:
    """Read a version without its pixels.

    Raises:
        OSError: A file is missing.
        DataError: A file is damaged, or another version of goodfit wrote it.
    """
    import pyarrow.parquet as pq

    def content_of(path: str, expected: str | None) -> io.BytesIO:
        with open_file(path) as file:
            content = file.read()
        if expected is not None and (got := hashlib.sha256(content).hexdigest()) != expected:
            raise DataError(
                f"the prepared data of {title} must be as prepare wrote them; {path} has changed since (SHA-256 {got[:12]}…, "
                f"not {expected[:12]}…). Run `dvc repro -f -s prepare` there, or name another commit."
            )
        return io.BytesIO(content)

    content = content_of(DatasetRecord.FILE, None).getvalue()
    try:
        record = DatasetRecord.from_json(content)
    except ValueError as error:
        raise DataError(
            f"the prepared data of {title} must be readable; {DatasetRecord.FILE} is damaged, or another version of goodfit "
            f"wrote it ({str(error).splitlines()[0]}). Run `dvc repro prepare` there, or name another commit."
        ) from None
    images = []
    for split in record.counts:
        names = f"{split}/ids.parquet", f"{split}/labels.npy"
        table, array = (content_of(name, record.files.get(name)) for name in names)
        ids, labels = pq.read_table(table, columns=["id", "sha256"]).to_pydict(), np.load(array, allow_pickle=False)
        for row, (name, sha256, label) in enumerate(zip(ids["id"], ids["sha256"], labels.tolist(), strict=True)):
            images.append(Image(name, sha256, record.classes[label], split, row))
    return Version(title, record.name, record.classes, list(record.counts), images, open_file)


def count(old: Version, new: Version) -> Counts:
    """Count the images of each class and split in both versions; a class or split that is missing has 0."""
    splits = list(dict.fromkeys([*new.splits, *old.splits]))
    names = list(dict.fromkeys([*new.classes, *old.classes]))
    numbers = [Counter((image.label, image.split) for image in version.images) for version in (old, new)]
    before, after = (np.array([[counter[name, split] for split in splits] for name in names]) for counter in numbers)
    [total] = _pairs(before.sum(axis=0, keepdims=True), after.sum(axis=0, keepdims=True))
    return Counts(splits, dict(zip(names, _pairs(before, after), strict=True)), total)


def _pairs(before: NDArray[np.int64], after: NDArray[np.int64]) -> list[list[Pair]]:
    """The pairs of each row, and the pair of its sums."""
    tables = (np.column_stack([numbers, numbers.sum(axis=1)]).tolist() for numbers in (before, after))
    return [list(zip(*rows, strict=True)) for rows in zip(*tables, strict=True)]


def compare(old: Iterable[Image], new: Iterable[Image]) -> Changes:
    """Find the changes between two versions.

    Images are matched by their bytes; of several with the same bytes, those of equal name first, then the rest in the order
    of their names. So an image that is only renamed has not changed.

    >>> cat, dog = Image("1.png", "ab", "cat", "train", 0), Image("1.png", "ab", "dog", "train", 7)
    >>> compare([cat], [dog]).relabelled == [(cat, dog)], compare([cat], [cat])
    (True, Changes(added=[], removed=[], relabelled=[], moved=[]))
    """
    before, after = _by_bytes(old), _by_bytes(new)
    removed = [image for sha256 in before.keys() - after.keys() for image in before[sha256]]
    added = [image for sha256 in after.keys() - before.keys() for image in after[sha256]]
    pairs: list[tuple[Image, Image]] = []
    for sha256 in before.keys() & after.keys():
        matched, left_before, left_after = _matched(before[sha256], after[sha256])
        pairs += matched
        removed += left_before
        added += left_after
    return Changes(
        added=sorted(added, key=_order),
        removed=sorted(removed, key=_order),
        relabelled=sorted((pair for pair in pairs if pair[0].label != pair[1].label), key=lambda pair: _order(pair[1])),
        moved=sorted((pair for pair in pairs if pair[0].split != pair[1].split), key=lambda pair: _order(pair[1])),
    )


def _order(image: Image) -> tuple[str, str, int]:
    return image.name, image.split, image.row


def _by_bytes(images: Iterable[Image]) -> dict[str, list[Image]]:
    gathered = defaultdict(list)
    for image in images:
        gathered[image.sha256].append(image)
    return gathered


def _matched(old: list[Image], new: list[Image]) -> tuple[list[tuple[Image, Image]], list[Image], list[Image]]:
    """Match images with the same bytes; returns the pairs, and the images left on each side."""
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
    """Pixels of each image, of shape (height, width, channels); only their bytes are read."""
    rows = []
    for image in images:
        with version.open(f"{image.split}/images.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            num_bytes = int(np.prod(shape[1:])) * dtype.itemsize
            file.seek(image.row * num_bytes, io.SEEK_CUR)
            rows.append(np.frombuffer(file.read(num_bytes), dtype).reshape(shape[1:]))
    return rows
