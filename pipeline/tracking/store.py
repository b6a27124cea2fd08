"""Opens the tracking store, and tells one that is away for a while from one that is set wrongly."""

import http.client
import json
import os
import socket
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked, resolved
from pipeline.errors import StoreError, UserError
from pipeline.stage import lineage
from pipeline.tracking import database

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 3.0
"""Time in which a server must give a sign of life."""

_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag with which MLflow opens an experiment on its charts and models, rather than on prompts."""

_GATEWAY_ERRORS = (502, 503, 504)


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

    @property
    def shown(self) -> str:
        return masked(self.uri)


class StoreAway(Exception):
    """Raised for a store that does not answer now, and may later. The message is the reason."""


class Refused(Exception):
    """Raised for something that the store answers it will not take. The message is the reason."""


def address(settings: Tracking) -> str:
    """The address of the store, less secrets: `tracking.uri`, else `MLFLOW_TRACKING_URI`, else the project's `mlflow.db`."""
    return masked(_uri(settings))


def place(settings: Tracking) -> str:
    """The address without user, password and query, which tells one store from another and can be stored.

    >>> place(Tracking(enabled=True, uri="https://me:secret@example.org/mlflow?token=1", experiment="goodfit", tags={}))
    'https://example.org/mlflow'
    """
    return _bare(_uri(settings))


def _bare(uri: str) -> str:
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri.partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _uri(settings: Tracking) -> str:
    """The address as it is. A relative path of a database is made absolute; under DVC it lies in the project's root.

    That holds even for an experiment in a copy.
    """
    given: str | None = resolved(settings.uri)
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{lineage.ROOT / 'mlflow.db'}"
    path = _path(uri)
    if path is None or path.is_absolute():
        return uri
    return f"sqlite:///{(lineage.ROOT if 'DVC_STAGE' in os.environ else Path.cwd()) / path}"


def is_file(settings: Tracking) -> bool:
    """Whether the store is a database in a file, of which `check` sees everything, rather than a server."""
    return _path(_uri(settings)) is not None


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


def check(settings: Tracking) -> None:
    """Refuse what is set wrongly, as far as that can be seen in an instant: a folder, or a file that is no store.

    Raises:
        StoreError: No waiting mends it.
    """
    uri = _uri(settings)
    path = _path(uri)
    if path is not None:
        try:
            database.check(path, settings.experiment)
        except (OSError, sqlite3.OperationalError):
            return  # locked, or on a disk that fails: an outage
    elif urlsplit(uri).scheme in ("", "file") and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() != "true":
        raise StoreError(
            f"tracking.uri must be a database or a server, such as sqlite:///mlflow.db or http://localhost:5000; "
            f"got {masked(uri)!r}, and MLflow 3 keeps no runs in folders. Take over what it holds with "
            "`mlflow migrate-filestore`."
        )


def connect(settings: Tracking) -> Store:
    """Open the store and the experiment. Missing ones are made, by one process at a time.

    Raises:
        StoreError: The address or the experiment is set wrongly, which no waiting mends.
        StoreAway: The store does not answer, which is known after seconds rather than minutes.
    """
    # we try again ourselves, and look first what has arrived
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    check(settings)
    uri = signed_in(_uri(settings))
    try:
        with answers():
            _probe(uri)
            path = _path(uri)
            if path is None:
                return _open(uri, settings.experiment, None)
            database.make_ready(path)
            return _open(uri, settings.experiment, (path.parent / "mlartifacts").absolute().as_uri())
    except Refused as error:
        raise StoreError(f"tracking.uri must be a store that lets us in; got {masked(uri)}: {error}") from None


@contextmanager
def answers() -> Iterator[None]:
    """Turn whatever a store does in the block into one of two errors.

    Raises:
        StoreAway: The store does not answer, or answers that it cannot now.
        Refused: The store answers that it never will.
        UserError: As it is.
    """
    try:
        yield
    except (StoreAway, Refused, UserError):
        raise
    except Exception as error:
        reason = " ".join(masked(str(error)).split())[:300] or type(error).__name__
        status = getattr(error, "get_http_status_code", lambda: 500)()
        if status in (401, 403):
            reason += ". Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        is_refusal = 400 <= status < 500 and status not in (408, 429)
        is_of_content = isinstance(error, (LookupError, TypeError, ValueError, AttributeError, RuntimeError))
        is_of_way = isinstance(error, (OSError, json.JSONDecodeError))  # requests' own are OSErrors too
        if is_refusal or (is_of_content and not is_of_way):
            raise Refused(reason) from error
        raise StoreAway(reason) from error


def _path(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def _probe(uri: str) -> None:
    """Make sure that a server lives before mlflow asks it, which waits for minutes.

    Raises:
        StoreAway: It does not.
        OSError: It cannot be reached.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        request = f"{_bare(uri).rstrip('/')}/health"
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                return
        except urllib.error.HTTPError as error:  # an answer, such as of a server that asks for a password first
            if error.code in _GATEWAY_ERRORS:
                raise
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLError):  # whether to trust it is for mlflow's own settings
                raise StoreAway(getattr(error.reason, "strerror", None) or str(error.reason)) from error
        except http.client.InvalidURL as error:
            raise Refused(str(error)) from error
        except http.client.HTTPException as error:
            raise StoreAway(f"its answer is no HTTP ({error!r})") from error
    elif parts.hostname and (default := _PORTS.get(parts.scheme.partition("+")[0])):
        socket.create_connection((parts.hostname, parts.port or default), PROBE_SECONDS).close()


def _open(uri: str, experiment: str, artifact_location: str | None) -> Store:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    database.silence()
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        try:
            return Store(client, client.create_experiment(experiment, artifact_location, _KIND), uri)
        except MlflowException:  # another process of a sweep was faster
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise database.deleted_experiment(experiment, found.experiment_id, masked(uri))
    return Store(client, found.experiment_id, uri)
