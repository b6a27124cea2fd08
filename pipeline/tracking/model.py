"""Logs a package as an MLflow model, linked to the metrics and the datasets of its run."""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.artefacts.package import FILES, ManifestRecord
from pipeline.storage.digests import sha256
from pipeline.storage.places import PROJECT
from pipeline.tracking.store import Store

CODE = (
    "artefacts/artefact.py", "artefacts/dataset.py", "artefacts/evaluation.py", "artefacts/outputs.py", "artefacts/package.py",
    "config/secrets.py", "config/section.py", "data/decoding.py",
    "data/dicom_files.py", "data/image_headers.py", "data/pixels.py", "data/preparation.py", "data/transparency.py",
    "data/wide_samples.py", "delivery/__init__.py", "delivery/classifier.py", "delivery/decisions.py", "delivery/images.py",
    "delivery/package.py", "errors.py", "image_formats.py", "metrics/calibration.py", "metrics/conformal.py",
    "metrics/outliers.py", "storage/atomic.py", "storage/checksums.py", "storage/digests.py", "storage/mending.py",
    "storage/places.py", "views.py",
)  # fmt: skip
"""Modules of `pipeline/` that a prediction needs, which go into the model, so that it runs where goodfit is not installed."""

REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "opencv-python-headless", "pandas", "pillow", "pydantic")
"""Packages that a prediction needs."""

FINGERPRINT = "goodfit.package"
"""Tag of a logged model with the digest of its package."""


def log_package(store: Store, run_id: str, folder: Path) -> str:
    """Log a package as the model of a run; gives the model's id. The run's status and end stay as they are.

    A run that has this package already keeps it. What a kill left of one is removed, and so is no other.

    Args:
        store: Store that holds the run.
        run_id: Id of the run.
        folder: Folder with the files of the package.
    """
    import mlflow

    mark = version_of(folder)
    run = store.client.get_run(run_id).info
    for known in store.client.search_logged_models([run.experiment_id], f"source_run_id = '{run_id}'"):
        if str(known.status) != "READY":
            store.client.delete_logged_model(known.model_id)
        elif known.tags.get(FINGERPRINT) == mark:
            return str(known.model_id)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(store.uri)
    with tempfile.TemporaryDirectory() as scratch, _silent_about_addresses(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what MLflow says about schemas
        package = Path(scratch) / "package"
        package.mkdir()
        for name in FILES:
            if (folder / name).exists():
                shutil.copy2(folder / name, package)
        with mlflow.start_run(run_id=run_id, log_system_metrics=False):
            logged = mlflow.pyfunc.log_model(
                name="model", python_model=str(PROJECT / "pipeline" / "tracking" / "served_model.py"),
                artifacts={"package": str(package)}, code_paths=[str(_code(Path(scratch)))], signature=_signature(),
                pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
                tags={FINGERPRINT: mark},
            )  # fmt: skip
    if run.end_time is not None:
        store.client.set_terminated(run_id, run.status, run.end_time)
    return str(logged.model_id)


@contextmanager
def _silent_about_addresses() -> Iterator[None]:
    """Keep MLflow from printing the run's address three times."""
    name = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def version_of(folder: Path) -> str:
    """The digest that tells one package from another."""
    return sha256(folder / ManifestRecord.FILE)[:16]


def _code(scratch: Path) -> Path:
    """A copy of the modules that a prediction needs."""
    for name in CODE:
        target = scratch / "pipeline" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / "pipeline" / name, target)
    return scratch / "pipeline"


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import AnyType, Array, Map

    # a column of the type binary would refuse the whole request for one row without it
    taken: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), "image", required=False), ColSpec(AnyType(), "array", required=False),
        ColSpec(DataType.string, "path", required=False),
    ]  # fmt: skip
    given: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "label", required=False), ColSpec(DataType.double, "probability", required=False),
        ColSpec(Map(DataType.double), "probabilities", required=False),
        ColSpec(Array(DataType.string), "set", required=False),
        ColSpec(DataType.boolean, "unknown", required=False), ColSpec(DataType.string, "error", required=False),
    ]  # fmt: skip
    return ModelSignature(Schema(taken), Schema(given))
