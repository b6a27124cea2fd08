"""Shows mistakes on the page: the image as it is in the source, and what the network looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.mistakes import Mistakes
from pipeline.page import tiles

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """One mistake.

    Attributes:
        name: Name of the image in its source, such as its path there.
        label: Index of the true class.
        guess: Index of the predicted class.
        actual: Name of the true class.
        predicted: Name of the predicted class.
        probability: Calibrated probability of the predicted class.
        probability_of_true: That of the true class.
        size: Width and height in the source, in pixels; empty where only the prepared image is at hand.
        large: Whether the picture is more than a few pixels wide.
        picture: The image, a data URI.
        heat: The prepared image with its heat map, a data URI; empty where none was computed.
    """

    name: str
    label: int
    guess: int
    actual: str
    predicted: str
    probability: float
    probability_of_true: float
    size: str
    large: bool
    picture: str
    heat: str


def shown(mistakes: Mistakes, originals: Mapping[int, Pixels], classes: Sequence[str]) -> list[Shown]:
    """The mistakes with their pictures, the most confident first.

    Args:
        mistakes: The mistakes.
        originals: Images in their source, by their position.
        classes: Names of the classes.
    """
    result = []
    for index, prepared in enumerate(mistakes.images):
        source, label, guess = originals.get(index), int(mistakes.labels[index]), int(mistakes.predicted[index])
        image = prepared if source is None else source
        heat = tiles.heat_map(prepared, mistakes.heat[index]) if index < len(mistakes.heat) else None
        result.append(Shown(
            name=str(mistakes.ids[index]), label=label, guess=guess, actual=classes[label], predicted=classes[guess],
            probability=float(mistakes.probability[index]),
            probability_of_true=float(mistakes.probability_of_true[index]),
            size="" if source is None else f"{source.shape[1]}×{source.shape[0]}",
            large=image.shape[1] > tiles.SMALL_PIXELS, picture=tiles.data_uri(tiles.photo(image)),
            heat="" if heat is None else tiles.data_uri(heat),
        ))  # fmt: skip
    return result
