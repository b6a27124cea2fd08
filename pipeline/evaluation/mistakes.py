"""Lists the mistakes of an evaluation, and explains some of them with heat maps."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.mistakes import COLUMNS, TABLE, Mistakes
from pipeline.artefacts.predictions import Predictions
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.occlusion import POSITIONS, occlusion
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import read_parquet_column, write_csv

if TYPE_CHECKING:
    from pipeline.model import Network

NUM_SHOWN = 48
"""Largest number of mistakes that the page shows."""

MOST_MULTIPLY_ADDS = 3e10
"""Limit of what all heat maps together may cost: a few seconds on one core. Larger networks get coarser ones, then fewer."""


def write_mistakes(
    out: Path, network: "Network", prepared: Path, split: str, predictions: Predictions, *, temperature: float,
    batch_size: int,
) -> None:  # fmt: skip
    """Write `mistakes.csv`, and `outputs/mistakes.npz` with some of them.

    Args:
        out: Folder of the evaluation.
        network: The network.
        prepared: Output of the prepare stage.
        split: Split that the predictions are of.
        predictions: Predictions for all images of the split.
        temperature: Temperature that calibrates the network's probabilities.
        batch_size: Number of images at a time.
    """
    dataset = DatasetRecord.read(prepared)
    files, digests = (
        np.array(read_parquet_column(prepared / split / "ids.parquet", name), np.str_) for name in ("path", "sha256")
    )
    ids, names = np.array(predictions.ids, np.str_), dataset.classes
    labels, predicted, confidence = predictions.labels, predictions.predicted, predictions.confidence
    wrong = most_confident_mistakes(labels, predicted, confidence)
    rows = (
        (str(files[row]), str(ids[row]), names[labels[row]], names[predicted[row]], float(confidence[row]),
         float(predictions.of_label[row])) for row in wrong
    )  # fmt: skip
    write_csv(out / TABLE, COLUMNS, rows)
    shown = wrong[_shown(labels[wrong], predicted[wrong], NUM_SHOWN)]
    images = np.array(read_array(prepared / split / "images.npy")[shown])
    heat = _heat(network, images, predicted[shown], dataset, temperature, batch_size)
    Mistakes(
        ids=ids[shown], paths=files[shown], sha256=digests[shown], images=images, labels=labels[shown],
        predicted=predicted[shown], probability=confidence[shown], probability_of_true=predictions.of_label[shown],
        heat=heat,
    ).write(out)  # fmt: skip


def most_confident_mistakes(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], confidence: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Positions of the wrong predictions, by falling confidence; ties keep the order of the images.

    >>> most_confident_mistakes(np.array([0, 1, 1]), np.array([1, 1, 0]), np.array([0.6, 0.9, 0.8])).tolist()
    [2, 0]
    """
    wrong = np.flatnonzero(labels != predicted)
    return wrong[np.argsort(-confidence[wrong], kind="stable")]


def _shown(labels: NDArray[np.int64], predicted: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Positions of at most `limit` mistakes: the first one of each pair of classes, the commonest pairs first, then the first
    of the others; in ascending order.

    >>> _shown(np.array([0, 0, 0, 2, 0]), np.array([1, 1, 1, 0, 2]), limit=4).tolist()
    [0, 1, 3, 4]
    """
    _, first, count = np.unique(np.stack([labels, predicted]), axis=1, return_index=True, return_counts=True)
    of_pairs = first[np.lexsort((first, -count))]
    others = np.setdiff1d(np.arange(len(labels)), of_pairs)
    return np.sort(np.concatenate([of_pairs, others])[:limit])


def _heat(
    network: "Network", images: NDArray[np.uint8], classes: NDArray[np.int64], dataset: DatasetRecord,
    temperature: float, batch_size: int,
) -> NDArray[np.float32]:  # fmt: skip
    """Heat maps of the images, or of the first of them where the network is so large that all would take long."""
    from pipeline import model

    cost = sum(layer.multiply_adds for layer in model.layer_table(network, images.shape[1:]))
    affordable = MOST_MULTIPLY_ADDS / max(cost, 1)
    positions = next((each for each in (POSITIONS, 5) if len(images) * (each**2 + 1) <= affordable), 3)
    num_maps = min(len(images), int(affordable / (positions**2 + 1)))

    def predict(covered: NDArray[np.uint8]) -> NDArray[np.float32]:
        return calibrated(model.outputs(network, covered, batch_size=batch_size).log_probabilities, temperature)

    fill = [round(255 * value) for value in dataset.mean]
    return occlusion(images[:num_maps], classes[:num_maps].tolist(), predict, fill, positions)
