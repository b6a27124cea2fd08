"""Fetches trainings and histories back from the tracking store."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked
from pipeline.errors import DataError
from pipeline.tracking import delivery
from pipeline.tracking.model import FINGERPRINT
from pipeline.tracking.sendings import TRAINING_FILES
from pipeline.tracking.store import Refused, Store, StoreAway, address, answers, connect

if TYPE_CHECKING:
    from mlflow.entities import Run

FILES = ("run.json", "signals.json", "history.csv")

RESULTS = {
    "training": ("run.json", "history.csv"), "evaluate": ("details.json", "predictions.parquet", "per_class.csv"),
    "diagnose": ("diagnosis.json",),
}  # fmt: skip
"""Files by which two runs are compared, by their folder in a run."""

_PACKAGE = "artifacts/package"
"""Folder of a logged model with the package."""


def trainings(settings: Tracking, run_id: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Download the finished training of a run, or those of a sweep's children. Runs that another tool logged are left out.

    Yields:
        The name of each run, and a folder in `scratch` with its `run.json`, `signals.json` and `history.csv`.

    Raises:
        DataError: The store does not answer or does not know the run.
    """
    store, runs = _open(settings, run_id)
    for run in runs:
        paths = {file.path for file in store.client.list_artifacts(run.info.run_id, "training")}
        if not {f"training/{name}" for name in FILES} <= paths:
            continue
        folder = scratch / run.info.run_id
        folder.mkdir()
        for name in FILES:
            downloaded = Path(store.client.download_artifacts(run.info.run_id, f"training/{name}", str(folder)))
            downloaded.replace(folder / name)  # stores differ in whether they keep the file's folder
        yield str(run.info.run_name), folder


def training(settings: Tracking, name: str, scratch: Path) -> Path:
    """Download a finished training, with its weights; gives a folder in `scratch`.

    Args:
        settings: Address and experiment of the store.
        name: Id of a run, `runs:/ID`, or a registered version: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        scratch: Folder to fill.

    Raises:
        DataError: The store does not answer or does not know it, or it is no training of this pipeline that finished.
    """
    delivery.deliver_waiting(settings)
    try:
        store = connect(settings)
        with answers():
            run_id = _run_of_version(store, name) if name.startswith("models:/") else name.removeprefix("runs:/")
            names = (
                {Path(file.path).name for file in store.client.list_artifacts(run_id, "training")} if run_id else set()
            )
            for file in sorted(names & set(TRAINING_FILES)):
                downloaded = Path(store.client.download_artifacts(run_id, f"training/{file}", str(scratch)))
                downloaded.replace(scratch / file)
    except (StoreAway, Refused) as error:
        raise DataError(
            f"the training must be a folder with run.json, a run of {address(settings)}, or a version of a registered model, "
            f"such as models:/NAME/3 or models:/NAME@champion; got {name!r}: {error}"
        ) from None
    if "run.json" not in names:
        raise DataError(
            f"{name} must be a training of this pipeline that finished; {address(settings)} has no training/run.json "
            f"{f'in the run {run_id}' if run_id else 'for it, as it was registered without a run'}."
        )
    return scratch


def results(settings: Tracking, run_id: str, scratch: Path, option: str) -> Path:
    """Download what a run holds of `RESULTS`, into folders of the same names.

    Args:
        settings: Address of the store.
        run_id: Id of the run.
        scratch: Folder to fill.
        option: Option of the command line that names the run, for messages.

    Returns:
        `scratch`.

    Raises:
        DataError: The store does not answer or does not know the run, or the run holds no training.
    """
    store, _ = _open(settings, run_id, option)
    try:
        with answers():
            for folder, names in RESULTS.items():
                present = {file.path for file in store.client.list_artifacts(run_id, folder)}
                for name in names:
                    if f"{folder}/{name}" in present:
                        (scratch / folder).mkdir(exist_ok=True)
                        downloaded = Path(store.client.download_artifacts(run_id, f"{folder}/{name}", str(scratch)))
                        downloaded.replace(scratch / folder / name)
    except (StoreAway, Refused) as error:
        raise DataError(f"{option} must be a run whose files can be read; got {run_id!r}: {error}") from None
    if not (scratch / "training" / "run.json").exists():
        raise DataError(
            f"{option} must be the run of a training of goodfit; {run_id!r} in {address(settings)} holds none. `mlflow ui` "
            "shows the runs; those of trainings have the artefact training/run.json."
        )
    return scratch


def _run_of_version(store: Store, name: str) -> str:
    """The run that a registered version came from; empty where it was registered without one."""
    model, _, alias = name.removeprefix("models:/").partition("@")
    if alias:
        return str(store.client.get_model_version_by_alias(model, alias).run_id or "")
    model, _, version = model.rpartition("/")
    return str(store.client.get_model_version(model, version).run_id or "")


def package_folder(settings: Tracking, address_: str, scratch: Path) -> Path:
    """Download a package; gives its folder in `scratch`.

    Args:
        settings: Address and experiment of the store.
        address_: A logged model `models:/m-…`, a registered version `models:/NAME/VERSION` or `models:/NAME@ALIAS`, or a run
            `runs:/ID`, whose newest package it is.
        scratch: Folder to fill.

    Raises:
        DataError: The store does not answer or does not know it, or it holds no package.
    """
    delivery.deliver_waiting(settings)
    try:
        store = connect(settings)
        with answers():
            if address_.startswith("runs:/"):
                return _downloaded(store, _model_of_run(store, address_.removeprefix("runs:/")), address_, scratch)
            name, _, alias = address_.removeprefix("models:/").rpartition("@")
            if name:
                version = str(store.client.get_model_version_by_alias(name, alias).version)
                return package_of_version(store, name, version, scratch)
            name, _, version = address_.removeprefix("models:/").rpartition("/")
            if name:
                return package_of_version(store, name, version, scratch)
            return _downloaded(store, version, address_, scratch)
    except StoreAway as error:
        raise DataError(f"{address(settings)} must answer, as {address_} is to come from there; {error}.") from None
    except Refused as error:
        raise DataError(
            f"a package must be a folder, a ZIP file, or in {address(settings)}: models:/m-…, models:/NAME/VERSION, "
            f"models:/NAME@ALIAS or runs:/ID; got {address_!r}: {error}"
        ) from None


def package_of_version(store: Store, name: str, version: str, scratch: Path) -> Path:
    """Download the package of a registered version; gives its folder in `scratch`.

    Raises:
        DataError: The version holds no package.
    """
    asked, source = f"models:/{name}/{version}", str(store.client.get_model_version(name, version).source)
    if not source.startswith("models:/"):  # MLflow 3.17 gives no model_id
        raise DataError(f"{asked} must hold a package of goodfit; it was registered from {masked(source)}.")
    return _downloaded(store, source.removeprefix("models:/"), asked, scratch)


def _downloaded(store: Store, model_id: str, asked: str, scratch: Path) -> Path:
    import mlflow
    from mlflow.artifacts import download_artifacts

    mlflow.set_tracking_uri(store.uri)  # a model's address is looked up there, whatever `tracking_uri` says
    if not store.client.list_logged_model_artifacts(model_id, _PACKAGE):
        raise DataError(f"{asked} must hold a package of goodfit; it is another model, without the folder {_PACKAGE}.")
    return Path(download_artifacts(f"models:/{model_id}", dst_path=str(scratch), tracking_uri=store.uri)) / _PACKAGE


def _model_of_run(store: Store, run_id: str) -> str:
    """The id of the newest package that was logged to a run."""
    experiment_id = store.client.get_run(run_id).info.experiment_id
    models = [
        model for model in store.client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
        if FINGERPRINT in model.tags and str(model.status) == "READY"
    ]  # fmt: skip
    if not models:
        raise DataError(
            f"runs:/{run_id} must have a package; {store.shown} holds none of it. `python -m pipeline.package "
            "package.training=…` makes that of a training."
        )
    return str(max(models, key=lambda model: model.creation_timestamp).model_id)


def histories(settings: Tracking, run_id: str, keys: Iterable[str]) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """Read the metrics that a run, or each of its children, logged step by step, whatever tool logged them.

    Yields:
        The name of each run, and a row for each step at which all its metrics among `keys` were logged.

    Raises:
        DataError: The store does not answer or does not know the run.
    """
    store, runs = _open(settings, run_id)
    wanted = set(keys)
    for run in runs:
        series = {
            key: {point.step: point.value for point in store.client.get_metric_history(run.info.run_id, key)}
            for key in run.data.metrics.keys() & wanted
        }
        steps = sorted(set.intersection(*(set(points) for points in series.values()))) if series else []
        yield str(run.info.run_name), [{key: points[step] for key, points in series.items()} for step in steps]


def _open(settings: Tracking, run_id: str, option: str = "--run") -> tuple[Store, list["Run"]]:
    """The store, and the children of the run, or the run itself where it has none."""
    delivery.deliver_waiting(settings)
    try:
        store = connect(settings)
        with answers():
            run = store.client.get_run(run_id)
            below, by_time = f"tags.`mlflow.parentRunId` = '{run_id}'", ["attributes.start_time"]
            children = store.client.search_runs([run.info.experiment_id], below, order_by=by_time)
    except (StoreAway, Refused) as error:
        raise DataError(f"{option} must be a run of {address(settings)}; got {run_id!r}: {error}") from None
    return store, list(children) or [run]
