"""Logs a network as an MLflow model."""

import logging
import warnings
from importlib.metadata import version
from pathlib import Path

from pipeline.artefacts.run import RunRecord
from pipeline.tracking.store import Store


def log_model(store: Store, run_id: str, folder: Path) -> None:
    """Log the network with softmax as an MLflow model: exported without pickle, with signature, example and requirements.

    A run that has a whole one keeps it; what a kill left of one is removed. The run's status and end stay as they are.

    Args:
        store: Store that holds the run.
        run_id: Id of the run.
        folder: Output of the train stage.
    """
    import mlflow
    import numpy as np
    import torch
    from mlflow.models import infer_signature

    from pipeline import model

    run = store.client.get_run(run_id).info
    for known in store.client.search_logged_models([run.experiment_id], f"source_run_id = '{run_id}'"):
        if str(known.status) == "READY":
            return
        store.client.delete_logged_model(known.model_id)
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
    if run.end_time is not None:
        store.client.set_terminated(run_id, run.status, run.end_time)
