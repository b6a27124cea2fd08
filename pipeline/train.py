"""Train the network: fit, stop early, keep the best weights, go on after a kill, log to MLflow.

Reads `build/prepare/` (training and validation split) and `build/augment/`; writes `build/train/`: `model.ckpt` (the best
weights), `history.csv` (a row for each epoch), `signals.json` (what is measured once) and `run.json` (whence all this).

    python -m pipeline.train                                       one training, as params.yaml says
    python -m pipeline.train model=convnet train.max_epochs=40     another
    python -m pipeline.train -m model.dropout=0,0.3 seed=1,2       a sweep: a parent run in MLflow with a child for each job
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.config.stage import Job
from pipeline.storage import atomic, lineage, lock


def train(
    prepared: Path,
    augmented: Path,
    working: Path,
    out: Path,
    config: Config,
    on_row: Callable[[dict[str, float], int], None],
) -> dict[str, Any]:
    """Train one network and write what it learned.

    Args:
        prepared: Output of the prepare stage.
        augmented: Output of the augment stage.
        working: Where checkpoints lie; a training that was killed goes on from what it finds there.
        out: Folder to fill.
        config: Of which `seed`, `model`, `regularization`, `optimizer`, `scheduler` and `train` count.
        on_row: Takes each row of the history once its checkpoint is safe, and when its epoch ended.

    Returns:
        What `run.json` tells of the training's course.

    Raises:
        ShapeError: The images are too small for the network.
        TrainingError: A loss was not finite.
    """
    import torch

    from pipeline import model
    from pipeline.data.seeds import derive_seed
    from pipeline.fit import history
    from pipeline.training.batches import ImageBatches
    from pipeline.training.checks import signals
    from pipeline.training.fit import fit
    from pipeline.training.module import Fit

    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    dataset = json.loads((prepared / "dataset.json").read_text())
    augmentation = json.loads((augmented / "augment.json").read_text())
    description = {
        **dataclasses.asdict(config.model),
        "num_classes": len(dataset["classes"]),
        "channels_last": config.train.channels_last,
        **{key: dataset[key] for key in ("channels", "size", "mean", "std")},
    }
    torch.manual_seed(derive_seed(config.seed, "weights"))
    network = model.build(**description)
    batches = ImageBatches(
        prepared,
        augmented,
        batch_size=config.train.batch_size,
        seed=config.seed,
        loader_workers=config.train.loader_workers,
        augment=_online(augmentation["transforms"], dataset["size"], dataset["channels"])
        if augmentation["mode"] == "online"
        else None,
    )
    if not (working / "signals.json").exists():
        measured = signals(network, batches.probe[0], len(dataset["classes"]), derive_seed(config.seed, "checks"))
        measured |= {
            "num_train": len(batches.train.labels),
            "num_probe": len(batches.probe.labels),
            "num_val": len(batches.val.labels),
        }
        atomic.write_text(working / "signals.json", json.dumps(measured, indent=2))
    module = Fit(
        network,
        optimizer=dataclasses.asdict(config.optimizer),
        scheduler=dataclasses.asdict(config.scheduler),
        **dataclasses.asdict(config.regularization),
    )
    outcome = fit(
        module,
        batches,
        working,
        seed=config.seed,
        max_epochs=config.train.max_epochs,
        monitor=config.train.monitor,
        **dataclasses.asdict(config.train.early_stopping),
        accelerator=config.train.accelerator,
        devices=config.train.devices,
        precision=config.train.precision,
        on_row=on_row,
    )
    model.save(out / "model.ckpt", description, outcome.state, dataset["classes"])
    (out / "history.csv").write_text(history.to_csv(outcome.rows))
    shutil.copy2(working / "signals.json", out)
    return {
        "best_epoch": outcome.best_epoch,
        "epochs": len(outcome.rows),
        "stop_reason": outcome.stop_reason,
        "seconds": sum(row["seconds"] for row in outcome.rows),
        "times_ms": outcome.times_ms,
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "weights_sha256": lineage.hash_file(out / "model.ckpt"),
    }


def main(job: Job) -> Callable[[], None]:
    from pipeline.tracking.store import Settings
    from pipeline.tracking.training import begin, tracked

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


def _online(transforms: list[Any], size: int, channels: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """The augmentation of `augment.mode=online`, for one batch and its seed."""
    from pipeline.data import augmentation

    return partial(augmentation.augment_batch, augmentation.build(transforms, size, channels))


if __name__ == "__main__":
    from pipeline.config.entry import run
    from pipeline.tracking.sweep import sweep

    run("train", main, sweep)
