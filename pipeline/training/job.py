"""Runs the job of the stage `train`: a training, tracked in MLflow, that goes on after a kill."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.package import ManifestRecord
from pipeline.artefacts.run import RunDataset, RunOrigin, RunRecord
from pipeline.delivery.building import build_alone, how_to_predict
from pipeline.errors import UserError
from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.storage import atomic, lock
from pipeline.sweep.pruning import Pruned

PACKAGE = "package"
"""Folder below a training's with its package."""


def main(job: Job) -> Callable[[], None]:
    """Train what the configuration says, tracked in MLflow.

    Returns:
        Removes the checkpoints, once the output is in its place.
    """
    from pipeline.tracking.store import address
    from pipeline.tracking.training import tracked
    from pipeline.training.training import train

    prepared, augmented = job.locate("prepare"), job.locate("augment")
    working = job.cache / f"train-{job.fingerprint}"
    settings = job.config.tracking
    with lock.held(working):
        origin = _origin(job, prepared, augmented, working, address(settings))
        try:
            with tracked(settings, origin, working) as run:
                outcome = train(prepared, augmented, working, job.out, job.config, run.log_row)
                fields = {**dict(origin), **dict(outcome), "mlflow_run_id": run.settle()}
                RunRecord(**fields).write(job.out)
                run.finish(job.out)
            if job.alone:
                _make_package(job)
        except Pruned:  # never resumed
            shutil.rmtree(working, ignore_errors=True)
            raise

    def afterwards() -> None:
        shutil.rmtree(working, ignore_errors=True)
        if job.alone and job.place is not None and (job.place / PACKAGE / ManifestRecord.FILE).exists():
            print(how_to_predict(job.place / PACKAGE))

    return afterwards


def _make_package(job: Job) -> None:
    """Write the package of a training that a user has started by itself; one that cannot be made costs a line."""
    from pipeline.tracking.publish import send_package

    try:
        with atomic.folder(job.out / PACKAGE) as package:
            build_alone(job.out, package, job.config)
    except UserError as error:
        print(f"there is no package: {error}", file=sys.stderr)
        return
    send_package(job.config.tracking, job.out, job.out / PACKAGE, job.place)


def _origin(job: Job, prepared: Path, augmented: Path, working: Path, uri: str) -> RunOrigin:
    from pipeline.tracking.training import begin

    dataset = DatasetRecord.read(prepared)
    return begin(
        working,
        name=f"{job.config.model.name}-{dataset.name}-{job.config.augment.name}-seed{job.config.seed}",
        tracking_uri=uri,
        fingerprint=job.fingerprint,
        prepare_fingerprint=lineage.content("prepare", prepared),
        augment_fingerprint=lineage.content("augment", augmented),
        dataset=RunDataset(**{name: getattr(dataset, name) for name in RunDataset.model_fields}),
        overrides=" ".join(job.overrides),
        config=job.config.model_dump(),
    )
