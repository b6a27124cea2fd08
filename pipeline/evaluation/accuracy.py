"""Loads the best weights of a training, and says which images of a split they classify rightly."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.run import RunRecord
from pipeline.errors import DataError
from pipeline.stage import lineage
from pipeline.stage.inputs import check_input
from pipeline.storage import checksums
from pipeline.storage.arrays import read_array
from pipeline.storage.mending import remedy
from pipeline.storage.tables import read_parquet_column

if TYPE_CHECKING:
    from pipeline.model import Network

KEY = "evaluate.training"


def accuracy_on(training: Path, prepared: Path, split: str) -> float:
    """Measure the accuracy of a training's weights on a split.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that it was made from.
        split: Name of the split, such as `val` or `confirm`.

    Raises:
        DataError: The training is missing, damaged or of other data.
    """
    return float(_are_right(training, prepared, split).mean())


def right_on(training: Path, prepared: Path, split: str, *, balanced: bool = False) -> dict[str, float]:
    """1 for each image of a split that a training's weights classify rightly, 0 for the others, by its id.

    Arguments and errors are those of `accuracy_on`.

    Args:
        balanced: Weigh the images so that all classes of the split weigh the same: the mean is then the balanced accuracy.
    """
    ids = read_parquet_column(prepared / split / "ids.parquet", "id")
    right = _are_right(training, prepared, split).astype(np.float64)
    if balanced:
        _, each, counts = np.unique(labels_of(prepared, split), return_inverse=True, return_counts=True)
        right *= len(each) / (len(counts) * counts[each])
    return dict(zip(ids, right.tolist(), strict=True))


def labels_of(prepared: Path, split: str) -> NDArray[np.int64]:
    """The labels of a split, in the order of `right_on`."""
    return read_array(prepared / split / "labels.npy", mapped=False)


def _are_right(training: Path, prepared: Path, split: str, batch_size: int = 512) -> NDArray[np.bool_]:
    from pipeline import model

    run = RunRecord.read(training, KEY)
    check_input(run, "prepare", prepared, KEY)
    classes = DatasetRecord.read(prepared).classes
    images = read_array(prepared / split / "images.npy")
    labels = labels_of(prepared, split)
    probabilities = model.probabilities(best_weights(training, run, classes), images, batch_size=batch_size)
    right: NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    return right


def best_weights(training: Path, run: RunRecord, classes: list[str]) -> "Network":
    """Load the network of `model.ckpt`.

    Args:
        training: Output of the train stage.
        run: Record of the training.
        classes: Names of the classes of the dataset.

    Raises:
        DataError: The file is missing or damaged, or not the one that the record and the dataset speak of.
    """
    from pipeline import model

    path = training / "model.ckpt"
    checksums.check(path)
    network, names = model.load(path)
    if names != classes:
        raise DataError(
            f"{str(path)!r} must hold a network for the classes {few(classes)}; got one for {few(names)}. "
            "Run `dvc repro train` to train on these data."
        )
    digest = lineage.hash_file(path)
    if digest != run.weights_sha256:
        raise DataError(
            f"{str(path)!r} must hold the weights of its run.json (SHA-256 {run.weights_sha256[:12]}…); got "
            f"{digest[:12]}…. The file is of another training. {remedy(path, training)}"
        )
    return network


def few(names: Sequence[str]) -> str:
    """The first five names, and the number of the others."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
