"""Train the network: fit, stop early, keep the best weights, go on after a kill, log to MLflow.

Reads `build/prepare/` (training and validation split) and `build/augment/`; writes `build/train/`: `model.ckpt` (the best
weights), `history.csv` (a row for each epoch), `signals.json` (what is measured once) and `run.json` (whence all this).

    python -m pipeline.train                                       one training, as params.yaml says
    python -m pipeline.train model=convnet train.max_epochs=40     another
    python -m pipeline.train -m model.dropout=0,0.3 seed=1,2       a sweep: a parent run in MLflow with a child for each job
    python -m pipeline.train train.devices=2                       in two processes, each on a GPU or a share of the CPU
    torchrun --nproc-per-node=2 -m pipeline.train train.devices=2  the same by torchrun, with --nnodes=… on several machines
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.stage import Job
from pipeline.storage import atomic, lineage, lock


def main(job: Job) -> Callable[[], None]:
    from pipeline.tracking.store import Settings
    from pipeline.tracking.training import begin, tracked
    from pipeline.training.run import train

    prepared, augmented = job.locate("prepare"), job.locate("augment")
    working = job.cache / f"train-{job.fingerprint}"
    settings = Settings(**dataclasses.asdict(job.config.tracking))
    with lock.held(working):
        record = begin(working, _origin(job, prepared, augmented, settings.resolved_uri()))
        with tracked(settings, record, working) as run:
            record |= train(prepared, augmented, working, job.out, job.config, run.log_row)
            record["mlflow_run_id"] = run.settle()
            atomic.write_text(job.out / "run.json", json.dumps(record, indent=2))
            run.finish(job.out)
    return lambda: shutil.rmtree(working, ignore_errors=True)  # once the output is in its place


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


def _is_follower() -> bool:
    """Whether torchrun started this process beside the one that leads the training."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0"


if __name__ == "__main__":
    if _is_follower():
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        from pipeline.training.processes import follow_torchrun
        from pipeline.training.run import follow

        follow_torchrun(follow)
    else:
        from pipeline.config.entry import run
        from pipeline.tracking.sweep import sweep

        run("train", main, sweep)
