"""Reads images of the evaluation as they are in `data/`, before `prepare` shrank them."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.mistakes import Mistakes
from pipeline.data.image_headers import BadImageError
from pipeline.data.lookup import stored
from pipeline.data.preparation import Preprocessing, prepared

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
    places = {str(name): index for index, name in enumerate(mistakes.ids)}
    digests = {name: str(mistakes.sha256[index]) for name, index in places.items()}
    found, how = {}, Preprocessing.of(dataset)
    for name, image in stored(folder, digests):
        with suppress(BadImageError):
            found[places[name]] = prepared(image, how, max_pixels)[1].pixels
    return found
