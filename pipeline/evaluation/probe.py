"""The images of a project as features of a pretrained network, for methods that need no training of ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.weights import WeightsRecord
from pipeline.config.schema import Config
from pipeline.config.schema_model import EfficientNet
from pipeline.config.validation import read_yaml
from pipeline.evaluation.features import feature_folder
from pipeline.model import start
from pipeline.stage import lineage
from pipeline.storage.arrays import read_array
from pipeline.storage.places import CACHE, PROJECT
from pipeline.storage.tables import read_parquet_column

STRENGTH = 0.01
"""C of the logistic regression, on standardised features."""


@dataclass(frozen=True)
class Probe:
    """Images as features.

    Attributes:
        features: float32 of shape (n, num_features).
        labels: int64 of shape (n,).
        paths: Path of each image in the source.
        splits: Name of the split of each image.
        classes: Names of the classes.
        prepared: Output of `prepare` that they are from, at the size of the network.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    paths: list[str]
    splits: NDArray[np.str_]
    classes: list[str]
    prepared: Path


def with_pretrained(config: Config) -> Config:
    """The configuration with EfficientNet-Lite0 on ImageNet weights, unless its model starts from weights already."""
    if config.model.weights is not None:
        return config
    settings = EfficientNet.model_validate(read_yaml(PROJECT / "conf" / "model" / "efficientnet.yaml"))
    prepare = config.prepare.model_copy(update={"size": settings.input_size})
    return config.model_copy(update={"model": settings, "prepare": prepare})


def probe(config: Config, splits: Sequence[str] = ("train", "val", "confirm")) -> Probe:
    """The images of `splits`, prepared for the network and shown to it; both are kept below `build/cache/`.

    Raises:
        UserError: The weights or the images cannot be had.
    """
    config = with_pretrained(config)
    folders = {stage: lineage.locate(stage, config) for stage in ("weights", "prepare")}
    prepared, dataset = folders["prepare"], DatasetRecord.read(folders["prepare"])
    description = start.description(
        config.model.model_dump(exclude=set(config.model.START)), WeightsRecord.read(folders["weights"]), dataset
    )
    network = model.build(**description)
    start.load_into(network, folders["weights"], with_last_layer=False)
    images = {split: read_array(prepared / split / "images.npy") for split in splits}
    folder = feature_folder(network, description, folders, images, CACHE)
    return Probe(
        features=np.concatenate([read_array(folder / f"{split}.npy", mapped=False) for split in splits]),
        labels=np.concatenate([read_array(prepared / split / "labels.npy", mapped=False) for split in splits]),
        paths=[path for split in splits for path in read_parquet_column(prepared / split / "ids.parquet", "id")],
        splits=np.repeat(list(splits), [len(images[split]) for split in splits]),
        classes=dataset.classes,
        prepared=prepared,
    )


def regression(strength: float = STRENGTH) -> Any:
    """A logistic regression on standardised features, of scikit-learn; `strength` is its C."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200, tol=1e-3))
