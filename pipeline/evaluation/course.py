"""Diagnoses finished trainings against what simple methods reach on the same data."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import DiagnosisRecord, ReferenceRecord
from pipeline.artefacts.run import RunRecord
from pipeline.config import validation
from pipeline.config.schema import Config
from pipeline.diagnosis import Course, CourseError, Thresholds, diagnose, prescribe
from pipeline.diagnosis.concerns import Seen, concerns, is_reduced
from pipeline.diagnosis.loading import read_course
from pipeline.diagnosis.measurements import Estimate
from pipeline.diagnosis.record import as_record
from pipeline.errors import ConfigError, DataError
from pipeline.stage import lineage
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import read_parquet_column

KEY = "diagnose.training"

BATCH_SIZE = 512


def examine(
    course: Course, thresholds: Thresholds, settings: Mapping[str, Any] | None, dataset: DatasetRecord | None = None,
    training: str | None = None, seen: Seen | None = None,
) -> DiagnosisRecord:  # fmt: skip
    """Diagnose a course and prescribe what may cure it.

    Args:
        course: Course of the training.
        thresholds: Thresholds of the rules.
        settings: Configuration of the training; None for the training of another tool.
        dataset: Record of the prepared images; None where they are not at hand, which leaves out the concerns about them.
        training: Our own id of the weights; None for the training of another tool.
        seen: Validation images with the network's probabilities; None leaves out the concerns about them.
    """
    diagnosis = diagnose(course, thresholds)
    found = [] if dataset is None else concerns(dataset, seen)
    num_images = None if dataset is None else sum(dataset.counts["train"])
    side = None if seen is None else seen.source_side
    return as_record(
        diagnosis, prescribe(diagnosis, settings, num_images=num_images, source_side=side), found, training
    )


def seen_of(training: Path, prepared: Path, course: Course) -> Seen:
    """Show the validation images to the weights of a finished training.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that the training used.
        course: Course of the training.

    Raises:
        DataError: A file is missing or damaged.
    """
    from pipeline import model
    from pipeline.evaluation.accuracy import best_weights
    from pipeline.evaluation.label_noise import label_noise
    from pipeline.evaluation.size_trial import size_trial

    run, folder = RunRecord.read(training, KEY), prepared / "val"
    dataset = DatasetRecord.read(prepared)
    network = best_weights(training, run, dataset.classes)
    side, trial = source_side(prepared), None
    if side is not None and is_reduced(dataset.size, side):
        raw = (lineage.dvc_folder("fetch"), *sorted(lineage.CACHE.glob("fetch-*")))
        trial = size_trial(prepared, raw, run.config["prepare"]["max_pixels"])
    reference = None  # the user's own is no simple method
    if course.reference is not None and course.num_reference is not None:
        reference = Estimate.share(course.reference, course.num_reference)
    return Seen(
        labels=read_array(folder / "labels.npy", mapped=False),
        probabilities=model.probabilities(network, read_array(folder / "images.npy"), batch_size=BATCH_SIZE),
        reference=reference,
        source_side=side,
        noise=label_noise(training, prepared),
        trial=trial,
    )


def source_side(prepared: Path) -> float | None:
    """Median of the longer sides of the validation images before preparation, in pixels; None where `prepare` kept none."""
    ids = prepared / "val" / "ids.parquet"
    if not ids.exists():
        return None
    width, height = (np.array(read_parquet_column(ids, side)) for side in ("width", "height"))
    return float(np.median(np.maximum(width, height)))


def course_of(training: Path, prepared: Path, reference: float | None, **known: Any) -> Course:
    """Read the course of a finished training.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that the training used.
        reference: Accuracy that a fitted network ought to reach; None: the accuracy of simple methods on these data.
        known: Further attributes of `Course`, in place of what the folder says.

    Raises:
        DataError: A file of the training is missing or damaged.
    """
    known["reference"] = reference
    if reference is None:
        known["reference"], known["num_reference"] = reachable(training, prepared)
    try:
        return read_course(training, prepared, **known)
    except (OSError, CourseError) as error:
        raise DataError(f"{KEY} must be a folder that train finished; got {str(training)!r}: {error}") from None


def chosen_thresholds(config: Config) -> Thresholds:
    """The thresholds that the section `diagnose` chooses.

    Raises:
        ConfigError: The section names a threshold that does not exist.
    """
    try:
        return Thresholds.changed(config.diagnose.thresholds)
    except ValueError as error:
        raise ConfigError(f"diagnose.thresholds must name thresholds; {error}. Change it in params.yaml.") from None


def reachable(training: Path, prepared: Path) -> tuple[float, int]:
    """Validation accuracy of the best simple method, and the number of images that it was measured on; computed once.

    A training that started from weights has one method more: a logistic regression on what these weights see.
    """
    simple = simple_methods(prepared)
    run = RunRecord.read(training, KEY)
    if run.weights_fingerprint is None:
        return simple
    from pipeline.evaluation.probe import MOST_PROBED, probe_right

    folder = lineage.CACHE / f"reference-{lineage.content('prepare', prepared)}-{run.weights_fingerprint}"
    if not (folder / ReferenceRecord.FILE).exists():
        right = probe_right(validation.validate(run.config), prepared=prepared, most=MOST_PROBED)
        ReferenceRecord(accuracy=fmean(right.values()), num_images=len(right)).write(folder)
    record = ReferenceRecord.read(folder)
    return max(simple, (record.accuracy, record.num_images))


def simple_methods(prepared: Path) -> tuple[float, int]:
    """Validation accuracy of the best simple method, and the number of images that it was measured on; computed once."""
    from pipeline.evaluation.reference import reference_accuracy

    folder = lineage.CACHE / f"reference-{lineage.content('prepare', prepared)}"
    if not (folder / ReferenceRecord.FILE).exists():
        accuracy, num_images = reference_accuracy(prepared)
        ReferenceRecord(accuracy=accuracy, num_images=num_images).write(folder)
    record = ReferenceRecord.read(folder)
    return record.accuracy, record.num_images
