"""Finds images of a raw dataset by their names, as they are in the source."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pipeline.data import raw_dataset
from pipeline.data.pixels import Images
from pipeline.data.raw_dataset import PixelBlock
from pipeline.errors import DataError


def stored(folder: Path, digests: Mapping[str, str]) -> Iterator[tuple[str, bytes | Images]]:
    """The name and the content of each wanted image that `folder` holds: of an image file, or pixels.

    Args:
        folder: Raw dataset, such as `data/`; nothing is found where it is missing or cannot be read.
        digests: SHA-256 of the content of the wanted images, as `ids.parquet` has it, by name.
    """
    try:
        raw = raw_dataset.read(folder)
    except (DataError, OSError):
        return
    ends = np.cumsum([block.num_images for block in raw.blocks])
    in_block: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for row, name in enumerate(raw.ids):
        if name in digests:
            number = int(np.searchsorted(ends, row, side="right"))
            in_block[number].append((row - int(ends[number]) + raw.blocks[number].num_images, name))
    for number, rows in in_block.items():
        block = raw.blocks[number]
        try:
            images = (
                block.mapped(block.path)[block.begin : block.end] if isinstance(block, PixelBlock) else block.read()
            )
        except (DataError, OSError):
            continue
        for row, name in rows:
            image = np.ascontiguousarray(images[row]) if isinstance(images, np.ndarray) else images[row]
            if _sha256(image) == digests[name]:
                yield name, image


def _sha256(image: bytes | Images) -> str:
    """SHA-256 of bytes, or of pixels row by row, channels last."""
    return hashlib.sha256(image if isinstance(image, bytes) else image.data).hexdigest()
