"""Runs the job of the stage `train`: a training, tracked in MLflow, that goes on after a kill."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.run import RunDataset, RunOrigin, RunRecord
from pipeline.stage import checkout, lineage, machine
from pipeline.stage.job import Job
from pipeline.storage import lock
from pipeline.sweep.pruning import Pruned

if TYPE_CHECKING:
    from pipeline.training.training import Inputs


def main(job: Job) -> Callable[[], None]:
    """Train what the configuration says, tracked in MLflow.

    Returns:
        Removes the checkpoints, once the output is in its place.
    """
    from pipeline.tracking import packages
    from pipeline.tracking.store import address
    from pipeline.tracking.training import tracked
    from pipeline.training.training import Inputs, train

    checkout.at_start()  # before what may take long, in which files can change
    started = job.config.model.weights is not None
    inputs = Inputs(job.locate("prepare"), job.locate("augment"), job.locate("weights") if started else None)
    working = job.cache / f"train-{job.fingerprint}"
    settings = job.config.tracking
    with lock.held(working):
        origin = _origin(job, inputs, working, address(settings))
        try:
            with tracked(settings, origin, working) as run:
                outcome = train(inputs, job.cache, working, job.out, job.config, run.log_row)
                if (working / checkout.PATCH).exists():
                    shutil.copy2(working / checkout.PATCH, job.out)
                fields = {**dict(origin), **dict(outcome), "mlflow_run_id": run.settle()}
                RunRecord(**fields).write(job.out)
                run.finish(job.out)
            if job.alone:
                packages.make(job.out, job.config, job.place)
        except Pruned:  # never resumed
            shutil.rmtree(working, ignore_errors=True)
            raise

    def afterwards() -> None:
        shutil.rmtree(working, ignore_errors=True)
        if job.alone and job.place is not None:
            packages.say(job.place)

    return afterwards


def _origin(job: Job, inputs: "Inputs", working: Path, uri: str) -> RunOrigin:
    from pipeline.tracking.training import begin

    dataset, (state, patch), settings = DatasetRecord.read(inputs.prepare), checkout.at_start(), job.config.train
    return begin(
        working,
        patch,
        **state._asdict(),
        name=f"{job.config.model.name}-{dataset.name}-{job.config.augment.name}-seed{job.config.seed}",
        tracking_uri=uri,
        fingerprint=job.fingerprint,
        prepare_fingerprint=lineage.content("prepare", inputs.prepare),
        augment_fingerprint=lineage.content("augment", inputs.augment),
        weights_fingerprint=None if inputs.weights is None else lineage.content("weights", inputs.weights),
        dataset=RunDataset(**{name: getattr(dataset, name) for name in RunDataset.model_fields}),
        overrides=" ".join(job.overrides),
        config=job.config.model_dump(),
        versions=machine.versions(),
        machine=machine.machine(settings.accelerator, settings.threads),
    )
