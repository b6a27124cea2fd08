"""Runs the job of the stage `train`: a training, tracked in MLflow, that goes on after a kill."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.storage import atomic, lock
from pipeline.sweep.pruning import Pruned


def main(job: Job) -> Callable[[], None]:
    """Train what the configuration says, tracked in MLflow.

    Returns:
        Removes the checkpoints, once the output is in its place.
    """
    from pipeline.tracking.store import Settings
    from pipeline.tracking.training import begin, tracked
    from pipeline.training.training import train

    prepared, augmented = job.locate("prepare"), job.locate("augment")
    working = job.cache / f"train-{job.fingerprint}"
    settings = Settings(**dataclasses.asdict(job.config.tracking))
    with lock.held(working):
        record = begin(working, _origin(job, prepared, augmented, settings.resolved_uri()))
        with _forgotten_if_pruned(working), tracked(settings, record, working) as run:
            record |= train(prepared, augmented, working, job.out, job.config, run.log_row)
            record["mlflow_run_id"] = run.settle()
            atomic.write_text(job.out / "run.json", json.dumps(record, indent=2))
            run.finish(job.out)
    return lambda: shutil.rmtree(working, ignore_errors=True)


@contextmanager
def _forgotten_if_pruned(working: Path) -> Iterator[None]:
    """Removes the checkpoints of a training that a search gave up, as nobody goes on with it."""
    try:
        yield
    except Pruned:
        shutil.rmtree(working, ignore_errors=True)
        raise


def _origin(job: Job, prepared: Path, augmented: Path, uri: str) -> dict[str, Any]:
    """What `run.json` tells of where a training comes from."""
    dataset = json.loads((prepared / "dataset.json").read_text())
    return {
        "name": f"{job.config.model.name}-{job.config.augment.name}-seed{job.config.seed}",
        "tracking_uri": uri,
        "fingerprint": job.fingerprint,
        "prepare_fingerprint": lineage.recorded_fingerprint("prepare", prepared),
        "augment_fingerprint": lineage.recorded_fingerprint("augment", augmented),
        "dataset": {key: dataset[key] for key in ("name", "source", "counts", "size", "channels")},
        "overrides": " ".join(job.overrides),
        "config": dataclasses.asdict(job.config),
    }
