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
from pipeline.evaluation.features import KeptFeatures
from pipeline.evaluation.reference import evenly
from pipeline.model import start
from pipeline.stage import lineage
from pipeline.storage.arrays import read_array
from pipeline.storage.places import CACHE, PROJECT
from pipeline.storage.tables import read_parquet_column

STRENGTH = 0.01
"""C of the logistic regression, on standardised features."""

MOST_PROBED = 2_000
"""Largest number of images of a split whose features a diagnosis computes, half a minute on two cores."""


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


def probe(
    config: Config,
    splits: Sequence[str] = ("train", "val", "confirm"),
    *,
    prepared: Path | None = None,
    most: int | None = None,
) -> Probe:
    """The images of `splits`, prepared for the network and shown to it; both are kept below `build/cache/`.

    Args:
        config: Configuration; where its model starts from random weights, `with_pretrained` chooses another one.
        splits: Names of the splits.
        prepared: Output of `prepare` for this configuration; None: it is found, or made.
        most: Largest number of images of a split, evenly chosen; None: all.

    Raises:
        UserError: The weights or the images cannot be had.
    """
    config = with_pretrained(config)
    prepared = prepared or lineage.locate("prepare", config)
    weights, dataset = lineage.locate("weights", config), DatasetRecord.read(prepared)
    options = config.model.model_dump(exclude=set(config.model.START))
    description = start.description(options, WeightsRecord.read(weights), dataset)
    network = model.build(**description)
    start.load_into(network, weights, with_last_layer=False)
    kept = KeptFeatures(network, description, CACHE)
    found: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    for split in splits:
        images = read_array(prepared / split / "images.npy")
        chosen = evenly(len(images), len(images) if most is None else most)
        name = split if len(chosen) == len(images) else f"{split}, {most} of them"
        shown = images if len(chosen) == len(images) else images[chosen]
        found.append((read_array(kept.file({"prepare": prepared}, name, shown), mapped=False), chosen))
    of_splits = list(zip(splits, found, strict=True))
    return Probe(
        features=np.concatenate([values for values, _ in found]),
        labels=np.concatenate(
            [read_array(prepared / split / "labels.npy")[chosen] for split, (_, chosen) in of_splits]
        ),
        paths=[path for split, (_, chosen) in of_splits for path in _ids(prepared / split)[chosen]],
        splits=np.repeat(list(splits), [len(values) for values, _ in found]),
        classes=dataset.classes,
        prepared=prepared,
    )


def probe_right(config: Config, *, prepared: Path | None = None, most: int | None = None) -> dict[str, float]:
    """1 for each validation image that a logistic regression on the features classifies rightly, 0 for the others, by its id.

    Arguments and errors are those of `probe`.
    """
    found = probe(config, ("train", "val"), prepared=prepared, most=most)
    train, val = (np.flatnonzero(found.splits == split) for split in ("train", "val"))
    labels, truth = found.labels[train], found.labels[val]
    if (labels == labels[0]).all():  # nothing to fit
        right = truth == labels[0]
    else:
        right = regression().fit(found.features[train], labels).predict(found.features[val]) == truth
    return dict(zip((found.paths[row] for row in val), map(float, right), strict=True))


def _ids(split: Path) -> NDArray[np.object_]:
    return np.array(read_parquet_column(split / "ids.parquet", "id"), np.object_)


def regression(strength: float = STRENGTH) -> Any:
    """A logistic regression on standardised features, of scikit-learn; `strength` is its C."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200, tol=1e-3))
