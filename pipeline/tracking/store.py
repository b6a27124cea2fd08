"""Opens the tracking store, and makes it once; a slow or missing store holds nothing up."""

import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked, resolved
from pipeline.stage import lineage
from pipeline.storage import lock

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Store:
    """A tracking store that answers.

    Attributes:
        client: MLflow's client of it.
        experiment_id: Id of the experiment.
        uri: Address of the store.
    """

    client: "MlflowClient"
    experiment_id: str
    uri: str


def address(settings: Tracking) -> str:
    """The address of the store, less secrets: `tracking.uri`, else `MLFLOW_TRACKING_URI`, else the project's `mlflow.db`."""
    return masked(_uri(settings))


def _uri(settings: Tracking) -> str:
    uri: str | None = resolved(settings.uri)
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{lineage.ROOT / 'mlflow.db'}"


def signed_in(uri: str) -> str:
    """The address of a server without user and password, which MLflow's own variables take: it prints and stores addresses."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.password:
        if masked(uri) != uri:
            os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if os.environ.get("MLFLOW_TRACKING_URI") == uri:
        os.environ["MLFLOW_TRACKING_URI"] = bare
    return bare


def connect(settings: Tracking) -> Store:
    """Open the store and the experiment. Missing ones are made, by one process at a time.

    Raises:
        Exception: Any error of mlflow for a store that cannot be reached, after seconds rather than minutes.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = signed_in(_uri(settings))
    if not uri.startswith("sqlite:///"):
        return _open(uri, settings.experiment, None)
    database = Path(uri.removeprefix("sqlite:///"))
    if not database.exists():
        with lock.held(database, wait=True):
            if not database.exists():
                _make(database)
    return _open(uri, settings.experiment, (database.parent / "mlartifacts").absolute().as_uri())


def _make(database: Path) -> None:
    """Let mlflow make its tables in a draft, which becomes the database once it is whole, so that a kill leaves no half."""
    from mlflow import MlflowClient

    draft, copy = (database.with_name(f".{database.name}.{name}") for name in ("draft", "copy"))
    for path in (draft, copy):
        for left_by_a_kill in database.parent.glob(f"{path.name}*"):
            left_by_a_kill.unlink()
    _silence()
    MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
    with closing(sqlite3.connect(draft)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)  # mlflow keeps the draft open, so that its file cannot be the one that stays
        target.execute("PRAGMA journal_mode=WAL")  # readers and writers do not wait for each other; stays in the file
    os.replace(copy, database)
    draft.unlink()


def _silence() -> None:
    for name in ("mlflow", "alembic"):  # after the import, which sets them
        logging.getLogger(name).setLevel(logging.ERROR)


def _open(uri: str, experiment: str, artifact_location: str | None) -> Store:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    _silence()
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return Store(client, found.experiment_id, uri)
    try:
        return Store(client, client.create_experiment(experiment, artifact_location), uri)
    except MlflowException:  # another process of a sweep was faster
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise
        return Store(client, found.experiment_id, uri)
