"""The best weights of a training, and their accuracy on a split."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.metrics import scores
from pipeline.stage import lineage
from pipeline.stage.inputs import check_input, read_run

if TYPE_CHECKING:
    from pipeline.model import Network

KEY = "evaluate.training"


def accuracy_on(training: Path, prepared: Path, split: str, batch_size: int = 512) -> float:
    """The accuracy of a training's weights on a split.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that it was made from.
        split: `val` or `confirm`.
        batch_size: Images at a time.

    Raises:
        DataError: The training is missing, damaged or of other data.
    """
    from pipeline import model

    run = read_run(training, KEY)
    check_input(run, "prepare", prepared, KEY)
    classes = json.loads((prepared / "dataset.json").read_text())["classes"]
    images = np.load(prepared / split / "images.npy", mmap_mode="r")
    labels = np.load(prepared / split / "labels.npy")
    probabilities = model.probabilities(best_weights(training, run, classes), images, batch_size=batch_size)
    return scores.accuracy(labels, probabilities)


def best_weights(training: Path, run: dict[str, Any], classes: list[str]) -> "Network":
    """The network of `model.ckpt`; refused where it cannot be the one that `run.json` and the dataset speak of."""
    from pipeline import model

    path = training / "model.ckpt"
    classifier, names = model.load(path)
    if names != classes:
        raise DataError(
            f"{str(path)!r} must hold a network for the classes {few(classes)}; got one for {few(names)}. "
            "Run `dvc repro train` to train on these data."
        )
    found = lineage.hash_file(path)
    if found != run["weights_sha256"]:
        raise DataError(
            f"{str(path)!r} must hold the weights of its run.json (SHA-256 {run['weights_sha256'][:12]}…); got "
            f"{found[:12]}…. The file is of another training: run `dvc repro train`."
        )
    return classifier


def few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
