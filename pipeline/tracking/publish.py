"""Completes the MLflow run of a training from its folder, and adds the results of later stages."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked
from pipeline.stage.job import Job
from pipeline.tracking.live import describe, find_run, metrics_of, open_run, send
from pipeline.tracking.store import Store, connect

COMPLETE = "goodfit.complete"


def publish(store: Store, run_id: str, folder: Path, *, with_model: bool = True) -> None:
    """Copy a finished training into its run and mark it finished. Repeating it changes nothing.

    Args:
        store: Store that holds the run.
        run_id: Id of the run.
        folder: Output of the train stage.
        with_model: Whether to log the full MLflow model too; a sweep logs only its winner's.
    """
    from mlflow.entities import Metric

    from pipeline.plotting import figures

    record, rows = RunRecord.read(folder), read_rows(folder)
    timed = zip(rows, record.times_ms, strict=True)
    metrics = [metric for row, time_ms in timed for metric in metrics_of(row, time_ms)]
    once = {"best_epoch": record.best_epoch, "num_parameters": record.num_parameters}
    metrics += [Metric(key, value, record.times_ms[-1], record.best_epoch) for key, value in once.items()]
    send(store, run_id, metrics)
    names = ("model.ckpt", "history.csv", "weights.csv", "signals.json", "run.json", "lr_range.csv")
    for name in (name for name in names if (folder / name).exists()):
        store.client.log_artifact(run_id, str(folder / name), "training")
    _log_bytes(store, run_id, figures.curves(rows, record.best_epoch), "curves.png")
    store.client.set_tag(run_id, "goodfit.stop_reason", record.stop_reason)
    if with_model:
        log_model(store, run_id, folder)
    store.client.set_tag(run_id, COMPLETE, "true")
    store.client.set_terminated(run_id, "FINISHED")


def send_results(
    job: Job, training: Path, stage: str, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None
) -> None:
    """Add the output of a later stage to the training's run, if tracking is enabled; see `attach`.

    A store that is away costs a line on the terminal, no more.
    """
    if not job.config.tracking.enabled:
        return
    files = sorted(job.out.iterdir())
    try:
        print(attach(job.config.tracking, training, stage, job.fingerprint, metrics, files, tags))
    except Exception as error:
        print(f"tracking: not sent ({masked(str(error))}); `dvc repro -f -s {stage}` sends it again", file=sys.stderr)


def attach(
    settings: Tracking, folder: Path, stage: str, fingerprint: str, metrics: Mapping[str, float], files: Iterable[Path],
    tags: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """Add the results of a later stage to the run of the training in `folder`. A missing run is rebuilt first.

    Args:
        settings: Address and experiment of the store.
        folder: Output of the train stage.
        stage: Name of the later stage.
        fingerprint: Fingerprint of its output.
        metrics: Numbers to log, by name.
        files: Files to log.
        tags: Tags to set.

    Returns:
        A sentence for the terminal that names the run.

    Raises:
        Exception: Whatever mlflow raises when the store cannot be reached.
    """
    from mlflow.entities import Metric

    store, record = connect(settings), RunRecord.read(folder)
    run_id = find_run(store, record)
    restored = run_id is None
    if run_id is None:
        origin = {"goodfit.restored_from": str(record.mlflow_run_id)}
        tagged = settings.model_copy(update={"tags": {**settings.tags, **origin}})
        run_id = open_run(store, record.model_copy(update={"mlflow_run_id": None}), tagged)
    run = store.client.get_run(run_id)
    if run.data.tags.get(COMPLETE) != "true":
        describe(store, run_id, record)
        publish(store, run_id, folder)
    time_ms = record.times_ms[-1]
    batch = [Metric(key, value, time_ms, record.best_epoch) for key, value in metrics.items()]
    store.client.log_batch(run_id, batch)
    for path in files:
        store.client.log_artifact(run_id, str(path), stage)
    for key, text in {**(tags or {}), f"goodfit.{stage}_fingerprint": fingerprint}.items():
        store.client.set_tag(run_id, key, text)
    how = f"rebuilt from {folder}, as {masked(store.uri)} did not know it" if restored else "the run of this training"
    return f"MLflow run {run.info.run_name} ({run_id}): {how}"


def log_model(store: Store, run_id: str, folder: Path) -> None:
    """Log the network with softmax as an MLflow model: exported without pickle, with signature, example and requirements."""
    import logging
    import warnings
    from importlib.metadata import version

    import mlflow
    import numpy as np
    import torch
    from mlflow.models import infer_signature

    from pipeline import model

    network, classes = model.load(folder / "model.ckpt")
    served = torch.nn.Sequential(network, torch.nn.Softmax(dim=1)).eval()
    dataset = RunRecord.read(folder).dataset
    size, channels = dataset.size, dataset.channels
    example = np.random.default_rng(0).integers(0, 256, (2, size, size, channels), dtype=np.uint8)
    with torch.no_grad():
        signature = infer_signature(example, served(torch.from_numpy(example)).numpy())
    requirements = [f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", "torch", "numpy")]
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store.uri)
    with warnings.catch_warnings(), mlflow.start_run(run_id=run_id, log_system_metrics=False):
        warnings.simplefilter("ignore")  # what export and mlflow say to each other
        mlflow.pytorch.log_model(
            served, name="model", signature=signature, input_example=example, pip_requirements=requirements,
            metadata={"classes": classes},
        )  # fmt: skip


def _log_bytes(store: Store, run_id: str, content: bytes, name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.write_bytes(content)
        store.client.log_artifact(run_id, str(path), "pictures")
