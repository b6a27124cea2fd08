"""What a finished training and its evaluation say of themselves, and the folders that it was made from."""

import json
from pathlib import Path
from typing import Any

from pipeline.config import validation
from pipeline.errors import DataError
from pipeline.stage import lineage


def read_run(training: Path, key: str) -> dict[str, Any]:
    """The content of `run.json`.

    Args:
        training: The folder of a training.
        key: The configuration key that names this folder, for the message.

    Raises:
        DataError: The folder holds no finished training.
    """
    return _read("train", training / "run.json", key)


def read_metrics(evaluation: Path, key: str) -> dict[str, float]:
    """The content of `metrics.json`.

    Args:
        evaluation: The folder of an evaluation.
        key: The configuration key that names this folder, for the message.

    Raises:
        DataError: The folder holds no finished evaluation.
    """
    return _read("evaluate", evaluation / "metrics.json", key)


def read_diagnosis(diagnosis: Path, key: str) -> dict[str, Any]:
    """The content of `diagnosis.json`.

    Args:
        diagnosis: The folder of a diagnosis.
        key: The configuration key that names this folder, for the message.

    Raises:
        DataError: The folder holds no diagnosis.
    """
    return _read("diagnose", diagnosis / "diagnosis.json", key)


def input_folder(run: dict[str, Any], stage: str) -> Path:
    """The folder of `stage` that the training `run` was made from: DVC's, a cached one, or one made again.

    Args:
        run: The content of `run.json`.
        stage: `"prepare"` or `"augment"`.
    """
    wanted = run[f"{stage}_fingerprint"]
    for folder in (lineage.dvc_folder(stage), lineage.CACHE / f"{stage}-{wanted}"):
        if lineage.recorded_fingerprint(stage, folder) == wanted:
            return folder
    return lineage.locate(stage, validation.validate(run["config"]))


def check_input(run: dict[str, Any], stage: str, folder: Path, key: str) -> None:
    """Refuse `folder` where it is not what the training was made from.

    Args:
        run: The content of `run.json`.
        stage: `"prepare"` or `"augment"`.
        folder: What `stage` made.
        key: The configuration key that names the training, for the message.

    Raises:
        DataError: `folder` has another fingerprint.
    """
    found = lineage.recorded_fingerprint(stage, folder)
    if found != run[f"{stage}_fingerprint"]:
        raise DataError(
            f"{key} must be a training on the output of {stage} in {str(folder)!r} (fingerprint {found}); got one on "
            f"{run[f'{stage}_fingerprint']}. Run `dvc repro`, or go back to the configuration of that training."
        )


def _read(stage: str, record: Path, key: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(record.read_text())
    except (OSError, ValueError):
        raise DataError(
            f"{key} must be a folder that {stage} finished; got {str(record.parent)!r}, which has no readable "
            f"{record.name}. Run `dvc repro {stage}`, or name another folder with {key}=…."
        ) from None
    return content
