"""The course of a finished training, with what simple methods reach on its data, and its diagnosis as a record."""

import json
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.diagnosis import Course, Thresholds, diagnose, prescribe
from pipeline.diagnosis.loading import read_course
from pipeline.diagnosis.record import as_record
from pipeline.errors import ConfigError, DataError
from pipeline.stage import lineage
from pipeline.storage import atomic

KEY = "diagnose.training"


def examine(course: Course, thresholds: Thresholds, settings: dict[str, Any] | None) -> dict[str, Any]:
    """The diagnosis of a course as `diagnosis.json` holds it, prescriptions included.

    Args:
        course: Of the training.
        thresholds: Where the rules draw their lines.
        settings: The training's configuration; None: another tool's.
    """
    found = diagnose(course, thresholds)
    return as_record(found, prescribe(found, settings))


def course_of(training: Path, prepared: Path, reference: float | None, **known: Any) -> Course:
    """The course of a finished training.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that it was made from.
        reference: An accuracy that a fitted network ought to reach; None: the one of simple methods on these data.
        known: Further attributes of `Course`, in place of what the folder says.

    Raises:
        DataError: The training is not whole.
    """
    known["reference"] = reference
    if reference is None:
        known["reference"], known["num_reference"] = simple_methods(prepared)
    try:
        return read_course(training, prepared, **known)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{KEY} must be a folder that train finished; got {str(training)!r}: {error}") from None


def chosen_thresholds(config: Config) -> Thresholds:
    """The lines of the section `diagnose`.

    Raises:
        ConfigError: It names one that there is not.
    """
    try:
        return Thresholds.changed(config.diagnose.thresholds)
    except ValueError as error:
        raise ConfigError(f"diagnose.thresholds must name thresholds; {error}. Change it in params.yaml.") from None


def simple_methods(prepared: Path) -> tuple[float, int]:
    """The validation accuracy that they reach on these data and the images that it is a mean of, computed once."""
    from pipeline.evaluation.reference import reference_accuracy

    file = lineage.CACHE / f"reference-{lineage.content('prepare', prepared)}.json"
    if file.exists():
        accuracy, images = json.loads(file.read_text())
    else:
        accuracy, images = reference_accuracy(prepared)
        atomic.write_text(file, json.dumps([accuracy, images]))
    return accuracy, images
