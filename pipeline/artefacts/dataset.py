"""`dataset.json`: the images that `prepare` decoded, checked and split."""

from typing import Literal

from pipeline.artefacts.artefact import Artefact

SPLITS = ("train", "val", "confirm", "test")
"""Names of the splits, each a folder with `images.npy`, `labels.npy` and `ids.parquet`."""


class DatasetRecord(Artefact, file="dataset.json", stage="prepare"):
    """The arrays in `build/prepare/`.

    Attributes:
        name: Name of the dataset.
        classes: Names of the classes, in the order of the labels.
        size: Height and width of each image in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        fit: Way in which images of other proportions were made square: `pad`, `crop` or `stretch`.
        fill: Frame and background of the images; see `prepare.fill`. 0 where the source holds pixels and none was asked for.
        white_level: Value that is white in images of more than 8 bits; None where no image needs one.
        white_level_given: Whether `prepare.white_level` gave it, so that it holds whatever a file tells.
        counts: Number of images of each class, by split.
        mean: Mean of each channel over the training split, with values in [0, 1].
        std: Standard deviation of each channel, likewise.
        source: Origin of the images, for people.
        licence: Licence of the images.
        files: SHA-256 of the arrays and ids of each split, by their path in the folder.
    """

    name: str
    classes: list[str]
    size: int
    channels: int
    fit: str = "pad"
    fill: int | Literal["auto", "edge"] = 0
    white_level: float | None = None
    white_level_given: bool = False
    counts: dict[str, list[int]]
    mean: list[float]
    std: list[float]
    source: str
    licence: str
    files: dict[str, str]
