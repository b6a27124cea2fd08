"""Looks at the images of a source: how many there are of each class, and of a sample the size, the colours and the likeness."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.source import SourceRecord
from pipeline.config.schema_data import Folder
from pipeline.config.secrets import masked
from pipeline.data.decoding import decode
from pipeline.data.grouping import connected
from pipeline.data.image_headers import BadImageError
from pipeline.data.near_duplicates import near_duplicates, signature
from pipeline.data.pixels import FULL_RANGE
from pipeline.data.raw_dataset import RawDataset, read
from pipeline.data.wide_samples import White
from pipeline.errors import DataError
from pipeline.image_formats import JPEG
from pipeline.source import copies, files
from pipeline.source.detect import detect
from pipeline.source.files import DamagedError, Tree
from pipeline.source.label_tables import TableKeys
from pipeline.source.layout import LabelledFile, Layout
from pipeline.source.left_out import check_left_out, check_links, without_unread
from pipeline.source.user_source import connecting, local_copy, max_bytes, opened

SAMPLE = 384
"""Number of images that are decoded at most."""

RUN = 8
"""Number of images, one after the other by name, in each piece of the sample: frames of one film lie side by side."""

SAMPLE_PIXELS = 100_000_000
"""Number of pixels after which no more are decoded, unless they are those of fewer than `FEWEST` images: some seconds."""

FEWEST = 32

SAME_GREY = 2
"""Largest difference between the channels of a pixel that still counts as grey."""

MAX_PIXELS = 16_000_000
"""Number of pixels above which an image is passed over, unless it is a JPEG file, which takes a tenth of the time."""


@dataclass(frozen=True)
class Survey:
    """What is known of a source.

    Attributes:
        title: Layout of the source, for people.
        counts: Number of images of each class, without those of a test split that the source brings.
        splits: Splits that the source brings.
        has_groups: Whether the source names groups of images.
        num_seen: Number of images that were decoded; all that follows is about them.
        sides: Shortest, median and longest of the longer sides, in pixels.
        aspect: Ninth decile of the longer side over the shorter one.
        is_grey: Whether all are stored as grey images.
        looks_grey: Whether all are grey, however they are stored.
        num_alike: Number that are a copy or a near duplicate of another one.
        num_bad: Number of further images that cannot be decoded, or are far larger than the others usually are.
    """

    title: str
    counts: dict[str, int]
    splits: frozenset[str]
    has_groups: bool
    num_seen: int
    sides: tuple[int, int, int]
    aspect: float
    is_grey: bool
    looks_grey: bool
    num_alike: int
    num_bad: int

    @property
    def num_images(self) -> int:
        """Number of images to train on, to select with and, without a test split of the source's own, to test on."""
        return sum(self.counts.values())


def survey(data: Folder, root: Path) -> Survey:
    """Look at a source; relative paths are below `root`.

    Raises:
        DataError: The source cannot be read, or its layout cannot be found, or no image of the sample can be decoded.
        ConfigError: The package for the source's address is not installed.
    """
    limit, limit_of_file = max_bytes(data), int(data.max_file_megabytes * 1e6)
    with tempfile.TemporaryDirectory() as scratch:
        there = connecting(data)
        source = local_copy(there.source, there.storage_options, root, Path(scratch) / "download", limit)
        with opened(source, there.storage_options, limit, data.follow_links) as tree:
            check_links(tree, data.max_left_out)
            keys = TableKeys(data.table, data.columns, data.classes or (), data.drop_unlabelled)
            layout = detect(tree, data.layout, keys)
            if not layout.images:
                return _of_parts(tree, layout, data, Path(scratch), limit)
            images, unread = without_unread(layout.images)
            check_left_out(images, layout.labels, [*tree.listing.skipped, *layout.skipped, *unread], data.max_left_out)
            images.sort(key=lambda image: image.entry.path)
            chosen = [images[place] for place in sampled(len(images))]
            looked = _looked(_decoded(tree, chosen, limit_of_file))
    counts = Counter(image.label for image in images if image.split != "test")
    return replace(
        looked, title=layout.title, counts=dict(sorted(counts.items())),
        splits=frozenset(image.split for image in images if image.split),
        has_groups=any(image.group for image in images),
    )  # fmt: skip


def sampled(number: int) -> list[int]:
    """Places of a sample of `SAMPLE` of `number` images: pieces of `RUN` one after the other, evenly, and shuffled.

    >>> len(sampled(10_000)), sampled(10_000)[:RUN], sorted(sampled(3))
    (384, [850, 851, 852, 853, 854, 855, 856, 857], [0, 1, 2])
    """
    num_pieces = min(SAMPLE, number) // RUN
    begins = np.linspace(0, number - RUN, num_pieces).astype(int) if number > SAMPLE else np.arange(0, number, RUN)
    shuffled = np.random.default_rng(0).permutation(begins).tolist()
    return list(dict.fromkeys(place for begin in shuffled for place in range(begin, min(begin + RUN, number))))


def _of_parts(tree: Tree, layout: Layout, data: Folder, scratch: Path, limit: int) -> Survey:
    """A survey of files that hold many images each, which are copied to be read."""
    out = scratch / "parts"
    out.mkdir()
    SourceRecord(
        name=masked(data.source), layout=layout.kind, found=layout.title, parts=copies.copy_parts(tree, layout, out, limit),
        columns=layout.columns or None, classes=data.classes or layout.classes, licence=data.licence,
        source=masked(data.source), files={},
    ).write(out)  # fmt: skip
    raw = read(out)
    looked = _looked(_read_rows(raw, sampled(len(raw.labels))))
    counts = np.bincount(raw.labels[raw.splits != "test"], minlength=len(raw.classes)).tolist()
    return replace(
        looked, title=layout.title, counts=dict(zip(raw.classes, counts, strict=True)),
        splits=frozenset(str(split) for split in np.unique(raw.splits) if split), has_groups=any(raw.groups),
    )  # fmt: skip


Pixels = NDArray[np.uint8]


def _decoded(tree: Tree, chosen: Sequence[LabelledFile], max_file_bytes: int) -> Iterator[Pixels | None]:
    for image in chosen:
        try:
            yield _pixels(files.read(tree, image.entry, max_file_bytes))
        except DamagedError:
            yield None


def _read_rows(raw: RawDataset, places: Sequence[int]) -> Iterator[Pixels | None]:
    wanted, begin = set(places), 0
    for block in raw.blocks:
        rows = [row for row in range(block.num_images) if begin + row in wanted]
        begin += block.num_images
        if not rows:
            continue
        content = block.read()
        for row in rows:
            yield content[row] if isinstance(content, np.ndarray) else _pixels(content[row])


def _pixels(data: bytes) -> Pixels | None:
    """The pixels of an image file; None where it cannot be decoded, or not in a moment."""
    try:
        return decode(data, MAX_PIXELS * (10 if data.startswith(JPEG) else 1), White(FULL_RANGE, given=True)).pixels
    except BadImageError:
        return None


def _looked(images: Iterator[Pixels | None]) -> Survey:
    """What a sample shows, without what the whole source tells.

    Raises:
        DataError: There is no image in it that can be decoded.
    """
    signatures, longer, aspects = [], [], []
    num_pixels = num_bad = 0
    is_grey = looks_grey = True
    for pixels in images:
        if pixels is None:
            num_bad += 1
            continue
        height, width, channels = pixels.shape
        longer.append(max(height, width))
        aspects.append(max(height, width) / min(height, width))
        is_grey = is_grey and channels == 1
        looks_grey = looks_grey and _looks_grey(pixels)
        signatures.append(signature(pixels))
        num_pixels += height * width
        if num_pixels > SAMPLE_PIXELS and len(longer) >= FEWEST:
            break
    if not longer:
        raise DataError(
            f"data.source must hold images that can be decoded; none of the {num_bad:,} that were looked at can. "
            "`python -m pipeline.prepare` says why of each, in issues.csv."
        )
    pairs = near_duplicates(np.stack(signatures))
    component = connected(pairs, len(longer))
    sizes = np.bincount(component, minlength=len(longer))
    return Survey(
        title="", counts={}, splits=frozenset(), has_groups=False, num_seen=len(longer),
        sides=(min(longer), round(median(longer)), max(longer)), aspect=float(np.quantile(aspects, 0.9)),
        is_grey=is_grey, looks_grey=looks_grey, num_alike=int(sizes[sizes > 1].sum()), num_bad=num_bad,
    )  # fmt: skip


def _looks_grey(pixels: Pixels) -> bool:
    """Whether the channels of an image are the same, but for what JPEG may change."""
    if pixels.shape[2] == 1:
        return True
    red, green, blue = cv2.split(pixels)
    return bool(max(cv2.absdiff(red, green).max(), cv2.absdiff(green, blue).max()) <= SAME_GREY)
