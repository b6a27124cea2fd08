"""`mistakes.csv`: all wrongly classified images; `outputs/mistakes.npz`: some of them as the network saw them, for the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.outputs import FOLDER
from pipeline.storage import checksums

TABLE = "mistakes.csv"
COLUMNS = ("path", "id", "true", "predicted", "probability", "probability_of_true")
"""Columns of `mistakes.csv`: file in `data/`, name of the image in its source, both classes, and the probability of each."""

_FILE = "mistakes.npz"


@dataclass(frozen=True)
class Mistakes:
    """n wrongly classified images, by falling probability.

    Attributes:
        ids: Name of each image in its source, such as its path there, of shape (n,).
        paths: File in `data/` that holds each image, of shape (n,).
        sha256: SHA-256 of the bytes of each image in its source, or of its pixels where that holds pixels, of shape (n,).
        images: Prepared images, uint8 of shape (n, height, width, channels).
        labels: True classes, int64 of shape (n,).
        predicted: Predicted classes, int64 of shape (n,).
        probability: Calibrated probability of the predicted class, float32 of shape (n,).
        probability_of_true: Probability of the true class, float32 of shape (n,).
        heat: Heat maps of the first k <= n images, float32 of shape (k, cells, cells): loss of the probability of the predicted
            class where a part of the image is covered; see `pipeline.metrics.occlusion`.
    """

    ids: NDArray[np.str_]
    paths: NDArray[np.str_]
    sha256: NDArray[np.str_]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    probability_of_true: NDArray[np.float32]
    heat: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def write(self, folder: Path) -> None:
        """Write `outputs/mistakes.npz` in the folder of an evaluation."""
        (folder / FOLDER).mkdir(exist_ok=True)
        arrays: dict[str, Any] = vars(self)
        np.savez_compressed(folder / FOLDER / _FILE, **arrays)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `outputs/mistakes.npz`.

        Raises:
            DamagedError: The file is missing, has changed or cannot be read.
        """
        path = folder / FOLDER / _FILE
        with checksums.reading(path), np.load(path, allow_pickle=False) as arrays:
            return cls(**{field: arrays[field] for field in cls.__dataclass_fields__})
