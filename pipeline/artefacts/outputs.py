"""`outputs/<name>.npz`: what a network answers for the images of a split, for whoever sets or judges thresholds later."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.storage import checksums

FOLDER = "outputs"
"""Folder below the output of `evaluate`."""

CALIBRATION, EVALUATED, TRAINING, SHUFFLED = "calibration", "evaluated", "training", "shuffled"
"""Names of the files: of the images that thresholds are set on, of those that the scores are of, of training images, and of
images like the first whose tiles are in random order."""


@dataclass(frozen=True)
class NetworkOutputs:
    """The outputs of a network for n images.

    Attributes:
        labels: Classes, int64 of shape (n,).
        logits: Outputs before softmax for the images themselves, float32 of shape (n, classes).
        features: Inputs of the last layer for the images themselves, float32 of shape (n, features).
        log_probabilities: Logarithms of the mean probabilities over the views of `evaluate.tta`, not calibrated, float32 of
            shape (n, classes).
    """

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    log_probabilities: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def write(self, folder: Path, name: str) -> None:
        """Write `outputs/<name>.npz` in the folder of an evaluation."""
        (folder / FOLDER).mkdir(exist_ok=True)
        np.savez(folder / FOLDER / f"{name}.npz", **vars(self))

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """Read `outputs/<name>.npz`.

        Raises:
            DamagedError: The file is missing, has changed or cannot be read.
        """
        path = folder / FOLDER / f"{name}.npz"
        with checksums.reading(path), np.load(path, allow_pickle=False) as arrays:
            return cls(**{field: arrays[field] for field in cls.__dataclass_fields__})
