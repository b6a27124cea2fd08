"""Sends what the stages after the training found to the run of the training."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.artefacts.package import FILES
from pipeline.artefacts.run import RunRecord
from pipeline.config.schema import Tracking
from pipeline.stage.job import Job
from pipeline.tracking import delivery
from pipeline.tracking.sendings import PACKAGE, Packaged, Results


def send_results(
    job: Job, training: Path, stage: str, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None
) -> None:
    """Add the output of a later stage to the training's run, if tracking is enabled, and say to which.

    A store that is away costs a line on the terminal; then the output waits in the spool.
    """
    what = Results(
        stage=stage, fingerprint=job.fingerprint, training=str(training.absolute()), own_tags=job.config.tracking.tags,
        metrics=dict(metrics), tags=dict(tags or {}),
    )  # fmt: skip
    found = (path for path in sorted(job.out.iterdir()) if path.is_file())  # no folder: a network's outputs stay here
    files = {path.name: path for path in (*found, training / RunRecord.FILE)}
    delivery.send(job.config.tracking, what, files)


def send_package(settings: Tracking, training: Path, package: Path, place: Path | None = None) -> None:
    """Make a package the model of the training's run, if tracking is enabled.

    Args:
        settings: Address and experiment of the store.
        training: Folder of the training.
        package: Folder of the package.
        place: Folder that the training's becomes, where that is a draft.
    """
    what = Packaged(training=str((place or training).absolute()), own_tags=settings.tags)
    files = {f"{PACKAGE}/{name}": package / name for name in FILES if (package / name).exists()}
    delivery.send(settings, what, {**files, RunRecord.FILE: training / RunRecord.FILE})
