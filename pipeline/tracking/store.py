"""The tracking store: found, made once, and opened so that it can be slow or away without holding anything up."""

import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.storage import lineage, lock

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Settings:
    """Where runs go: the section `tracking` of the configuration."""

    enabled: bool
    uri: str | None
    experiment: str
    tags: dict[str, str]

    def resolved_uri(self) -> str:
        """The store's address: `tracking.uri`, else `MLFLOW_TRACKING_URI`, else `mlflow.db` in the project's root."""
        return self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{lineage.ROOT / 'mlflow.db'}"


@dataclass(frozen=True)
class Store:
    client: "MlflowClient"
    experiment_id: str
    uri: str


def connect(settings: Settings) -> Store:
    """Open the store and the experiment; make both where they are missing, one process at a time.

    Raises:
        Exception: Whatever mlflow raises when the store cannot be reached, after seconds rather than minutes.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = settings.resolved_uri()
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///"))
        if _is_whole(database):
            return _open(uri, settings.experiment, _artifacts(database))
        with lock.held(database, wait=True):
            fresh = not database.exists()
            store = _open(uri, settings.experiment, _artifacts(database))
            if fresh:  # readers and writers no longer wait for each other; the setting stays in the file
                with closing(sqlite3.connect(database)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
        return store
    return _open(uri, settings.experiment, None)


def _is_whole(database: Path) -> bool:
    """Whether `connect` has made this database to the end, whose last step is its journal mode."""
    if not database.exists():
        return False
    with closing(sqlite3.connect(database)) as connection:
        mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return mode == "wal"


def _artifacts(database: Path) -> str:
    return (database.parent / "mlartifacts").absolute().as_uri()


def _open(uri: str, experiment: str, artifact_location: str | None) -> Store:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):  # after the import, which sets them
        logging.getLogger(name).setLevel(logging.ERROR)
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
