"""Measures what the decisions of a package are worth on images that they were not set on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.outputs import NetworkOutputs
from pipeline.artefacts.package import CLUSTERS, ManifestRecord, OperatingPoint, ThresholdsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.delivery.decisions import decide
from pipeline.delivery.usage import predict_command
from pipeline.errors import DataError
from pipeline.metrics.intervals import wilson
from pipeline.metrics.outliers import Clusters
from pipeline.storage import checksums

KEY = "report.package"


@dataclass(frozen=True)
class InUse:
    """The decisions of a package for n images with known classes.

    Attributes:
        thresholds: What the package decides by.
        num_bytes: Size of its files.
        command: Command that classifies a folder with it.
        coverage: Share of the images whose set holds the true class; None where there are no sets.
        one_class: Share of the images whose set is one class; None likewise.
        right_of_one: Share of these that are of that class; None where there are none of them.
        no_class: Share of the images whose set is empty; None likewise.
        mean_size: Mean number of classes in a set; None likewise.
        unknown: Share of the images that are called unknown, though the network knows their kind; None where none can be.
    """

    thresholds: ThresholdsRecord
    num_bytes: int
    command: str
    coverage: Interval | None = None
    one_class: Interval | None = None
    right_of_one: Interval | None = None
    no_class: Interval | None = None
    mean_size: float | None = None
    unknown: Interval | None = None

    @property
    def point(self) -> OperatingPoint | None:
        """The class with a threshold of its own."""
        return self.thresholds.operating_point


def in_use(package: Path, run: RunRecord, outputs: NetworkOutputs, classes: list[str], place: Path | None) -> InUse:
    """Judge a package on the images of the evaluation.

    Args:
        package: Folder of the package.
        run: Record of the training that the page shows.
        outputs: Outputs of the network for the images of the evaluation.
        classes: Names of the classes.
        place: Folder to name in the command; None: DVC's, which needs no name.

    Raises:
        DataError: The folder is no whole package, or one of another training.
    """
    manifest, thresholds = ManifestRecord.read(package, KEY), ThresholdsRecord.read(package, KEY)
    if manifest.training != run.id:
        raise DataError(
            f"{KEY} must be a package of the training that the page shows; got {str(package)!r}, made of another one. Run "
            f"`dvc repro`, or name another folder with {KEY}=…."
        )
    decisions = decide(
        outputs.logits, outputs.features, outputs.log_probabilities, thresholds, _clusters(package, thresholds), classes
    )
    shares: dict[str, Interval | None] = {}
    mean_size = None
    if decisions.sets is not None:
        sizes = decisions.sets.sum(axis=1)
        holds_true = decisions.sets[np.arange(len(sizes)), outputs.labels]
        shares = {
            "coverage": _share(holds_true), "one_class": _share(sizes == 1), "no_class": _share(sizes == 0),
            "right_of_one": _share(holds_true[sizes == 1]) if (sizes == 1).any() else None,
        }  # fmt: skip
        mean_size = float(sizes.mean())
    if decisions.unknown is not None:
        shares["unknown"] = _share(decisions.unknown)
    num_bytes = sum(signature.num_bytes for signature in manifest.files.values())
    return InUse(thresholds, num_bytes, predict_command(place), mean_size=mean_size, **shares)


def _clusters(package: Path, thresholds: ThresholdsRecord) -> Clusters | None:
    if thresholds.outlier_score != "distance":
        return None
    path = package / CLUSTERS
    with checksums.reading(path), np.load(path, allow_pickle=False) as arrays:
        return Clusters(arrays["means"], arrays["precision"])


def _share(hits: NDArray[np.bool_]) -> Interval:
    low, high = wilson(int(hits.sum()), len(hits))
    return Interval(value=float(hits.mean()), low=low, high=high)
