"""Reads images of the evaluation as they are in `data/`, before `prepare` shrank them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.mistakes import Mistakes
from pipeline.data import raw_dataset
from pipeline.data.image_headers import BadImageError
from pipeline.data.preparation import Preprocessing, prepared
from pipeline.data.raw_dataset import PixelBlock
from pipeline.errors import DataError

Pixels = NDArray[np.uint8]


def originals(
    folders: Iterable[Path], mistakes: Mistakes, dataset: DatasetRecord, max_pixels: int
) -> Mapping[int, Pixels]:
    """The images in `data/`, uint8 of shape (height, width, 1 or 3), by their position in `mistakes`.

    An image is left out where no folder holds it any more, or only another one under its name.

    Args:
        folders: Raw datasets in which to look, such as `data/`; they need not be there.
        mistakes: Images to look for.
        dataset: Record of the prepared images.
        max_pixels: Limit for the height × width of a file.
    """
    found: dict[int, Pixels] = {}
    for folder in folders:
        if len(found) < len(mistakes):
            found |= _in_folder(folder, mistakes, dataset, max_pixels)
    return found


def _in_folder(folder: Path, mistakes: Mistakes, dataset: DatasetRecord, max_pixels: int) -> Mapping[int, Pixels]:
    try:
        raw = raw_dataset.read(folder)
    except (DataError, OSError):
        return {}
    wanted = {str(name): index for index, name in enumerate(mistakes.ids)}
    ends = np.cumsum([block.num_images for block in raw.blocks])
    in_block: dict[int, list[tuple[int, int]]] = defaultdict(list)  # index in the block, and in `mistakes`
    for row, name in enumerate(raw.ids):
        if name in wanted:
            number = int(np.searchsorted(ends, row, side="right"))
            in_block[number].append((row - int(ends[number]) + raw.blocks[number].num_images, wanted[name]))
    found = {}
    how = Preprocessing.of(dataset)
    for number, rows in in_block.items():
        block = raw.blocks[number]
        try:
            images = (
                block.mapped(block.path)[block.begin : block.end] if isinstance(block, PixelBlock) else block.read()
            )
            for row, index in rows:
                image = np.ascontiguousarray(images[row]) if isinstance(images, np.ndarray) else images[row]
                if _sha256(image) == mistakes.sha256[index]:
                    found[index] = prepared(image, how, max_pixels)[1].pixels
        except (BadImageError, DataError, OSError):
            continue
    return found


def _sha256(image: bytes | Pixels) -> str:
    """SHA-256 of bytes, or of pixels row by row, channels last, as `ids.parquet` has it."""
    return hashlib.sha256(image if isinstance(image, bytes) else image.data).hexdigest()
