"""`predictions.parquet`: the calibrated probabilities of every image of an evaluation, in the order of its split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.storage import checksums

FILE = "predictions.parquet"


@dataclass(frozen=True)
class Predictions:
    """The predictions for n images.

    Attributes:
        ids: Name of each image, unique in its dataset.
        labels: True classes, int64 of shape (n,).
        probabilities: Calibrated probabilities, float32 of shape (n, classes).
    """

    ids: list[str]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, of shape (n,)."""
        result: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return result

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The largest probability of each image, of shape (n,)."""
        result: NDArray[np.float32] = self.probabilities.max(axis=1)
        return result

    @property
    def of_label(self) -> NDArray[np.float32]:
        """The probability of the true class of each image, of shape (n,)."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    def write(self, folder: Path) -> None:
        """Write a row for each image; people read the columns `predicted`, `confidence` and `correct`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        num_images, num_classes = self.probabilities.shape
        offsets = pa.array(np.arange(num_images + 1, dtype=np.int32) * num_classes)
        columns = {
            "id": self.ids, "label": self.labels, "predicted": self.predicted, "confidence": self.confidence,
            "correct": self.labels == self.predicted,
            "probabilities": pa.ListArray.from_arrays(offsets, pa.array(self.probabilities.ravel())),
        }  # fmt: skip
        pq.write_table(pa.table(columns), folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the file of an evaluation.

        Raises:
            DamagedError: The file is missing, has changed or cannot be read.
        """
        import pyarrow.parquet as pq

        with checksums.reading(folder / FILE):
            table = pq.read_table(folder / FILE, columns=["id", "label", "probabilities"])
            flat = table["probabilities"].combine_chunks().flatten().to_numpy()
            return cls(table["id"].to_pylist(), table["label"].to_numpy(), flat.reshape(len(table), -1))
