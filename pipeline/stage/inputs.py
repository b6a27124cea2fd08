"""Finds and checks the folders that a training was made from."""

from pathlib import Path

from pipeline.artefacts.run import RunRecord
from pipeline.config import validation
from pipeline.errors import DataError
from pipeline.stage import lineage


def input_folder(run: RunRecord, stage: str) -> Path:
    """Find the output of `stage`, prepare or augment, that a training was made from: DVC's, a cached one, or one made again."""
    return found_input(stage, _expected(run, stage)) or lineage.locate(stage, validation.validate(run.config))


def found_input(stage: str, fingerprint: str) -> Path | None:
    """The output of `stage`, DVC's or a cached one, whose content has this fingerprint; None where there is none."""
    folders = (lineage.dvc_folder(stage), *lineage.CACHE.glob(f"{stage}-*"))
    return next((folder for folder in folders if _content(stage, folder) == fingerprint), None)


def check_input(run: RunRecord, stage: str, folder: Path, key: str) -> None:
    """Refuse `folder` if the training, which the configuration names with `key`, was made from another output of `stage`.

    Raises:
        DataError: `folder` holds something else.
    """
    expected, got = _expected(run, stage), _content(stage, folder)
    if got != expected:
        raise DataError(
            f"{key} must be a training on the output of {stage} in {str(folder)!r} (fingerprint {got}); got one on "
            f"{expected}. Run `dvc repro`, or go back to the configuration of that training."
        )


def _expected(run: RunRecord, stage: str) -> str:
    return run.prepare_fingerprint if stage == "prepare" else run.augment_fingerprint


def _content(stage: str, folder: Path) -> str | None:
    try:
        return lineage.content(stage, folder)
    except DataError:
        return None
