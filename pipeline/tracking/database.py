"""Makes and checks the SQLite file of a tracking store, and keeps a copy of an older one before it is migrated."""

import glob
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import StoreError
from pipeline.storage import lock

_SIGNATURE = b"SQLite format 3\0"

CHECKPOINT_SECONDS = (0.05, 0.2, 1.0)
"""Waiting times before a file that cannot be read as a database is taken for damaged."""


def check(database: Path, experiment: str) -> None:
    """Refuse a file that no waiting makes a store. Asks SQLite itself, as importing mlflow takes seconds.

    Raises:
        StoreError: The file cannot be made or written, is no database, is of a newer MLflow, or `experiment` is deleted there.
    """
    if database.is_dir():
        raise StoreError(
            f"tracking.uri must name a file, such as sqlite:///mlflow.db; got the folder {database}. Name a file in it."
        )
    if not database.parent.is_dir():
        raise StoreError(
            f"tracking.uri must lie in a folder that exists; got {database}. Make it with `mkdir -p {database.parent}`, or "
            "name another store."
        )
    for path in (database.parent, *([database] if database.exists() else [])):
        if not os.access(path, os.W_OK):
            raise StoreError(
                f"tracking.uri must be writable; got {database}, and {path} is read-only for this user. Change its "
                "permissions, or name another store."
            )
    if not _has_content(database):
        return
    with _reading(database) as connection:
        tables = _tables(connection)
        if tables and "alembic_version" not in tables:
            raise _not_of_mlflow(database, "its tables are another program's")
        if _is_newer(_revision(connection, tables)):
            raise StoreError(
                f"tracking.uri must be a database of MLflow {version('mlflow')} or older; got {database}, which a newer "
                "one has made. Run `pip install --upgrade mlflow`, or name another store."
            )
        if "experiments" in tables:
            query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'"
            deleted = connection.execute(query, (experiment,)).fetchone()
            if deleted is not None:
                raise deleted_experiment(experiment, str(deleted[0]), f"sqlite:///{database}")


def deleted_experiment(name: str, experiment_id: str, shown: str) -> StoreError:
    """The error of an experiment that was deleted from the store whose address is `shown`."""
    return StoreError(
        f"tracking.experiment must not be deleted; got {name!r}, which was deleted from {shown}. Run "
        f"`MLFLOW_TRACKING_URI={shown} mlflow experiments restore --experiment-id {experiment_id}`, or name another one with "
        "tracking.experiment=…."
    )


def make_ready(database: Path) -> None:
    """Make the file where it is missing, and migrate one of an older MLflow, of which a copy stays; one process at a time.

    Raises:
        Exception: Whatever mlflow or SQLite raises, such as for a full disk; half a file is not left.
        StoreError: The file cannot be migrated.
    """
    if _has_content(database) and not _is_older(database):
        return
    with lock.held(database, wait=True):
        if not _has_content(database):
            _make(database)
        elif _is_older(database):
            _migrate(database)


def _make(database: Path) -> None:
    """Let mlflow make its tables in a draft, which becomes the database once it is whole, so that a kill leaves no half."""
    import mlflow

    draft, copy = (database.with_name(f".{database.name}.{name}") for name in ("draft", "copy"))
    _remove(draft, copy)  # left by a kill
    try:
        silence()
        mlflow.MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
        _back_up(draft, copy)  # mlflow keeps the draft open, so that its file cannot be the one that stays
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute(
                "PRAGMA journal_mode=WAL"
            )  # readers and writers do not wait for each other; stays in the file
        os.replace(copy, database)
    finally:
        _remove(draft, copy)


def _migrate(database: Path) -> None:
    kept = database.with_name(f"{database.name}.before-{version('mlflow')}")
    number = 1
    while kept.exists():
        number += 1
        kept = database.with_name(f"{database.name}.before-{version('mlflow')}-{number}")
    draft = kept.with_name(f".{kept.name}")
    try:
        _back_up(database, draft)
        os.replace(draft, kept)
    finally:
        _remove(draft)
    print(
        f"tracking: {database} is of an older MLflow and is migrated to {version('mlflow')}; a copy of it stays at {kept}",
        file=sys.stderr,
    )
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason is given"])[-1]
        raise StoreError(
            f"tracking.uri must be a database that MLflow {version('mlflow')} can migrate; got {database}: {reason}. "
            f"It is whole at {kept}; name another store, or use the version of MLflow that made it."
        )


def _back_up(source: Path, target: Path) -> None:
    """Copy a database with what waits in its write-ahead log."""
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)


def _remove(*paths: Path) -> None:
    for path in paths:
        for file in path.parent.glob(f"{glob.escape(path.name)}*"):  # with its journal
            file.unlink(missing_ok=True)


def _has_content(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads.

    Raises:
        StoreError: The file is no database, or a damaged one.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as connection:
            _wait_for_checkpoint(connection)
            yield connection
    except sqlite3.OperationalError:
        raise  # locked, or on a disk that fails: time may mend it
    except sqlite3.DatabaseError as error:
        # Only now, as closing the file would drop the locks of this process's own connections to it.
        with database.open("rb") as file:
            is_sqlite = file.read(len(_SIGNATURE)) == _SIGNATURE
        reason = f"it is damaged ({error})" if is_sqlite else "it is no SQLite file"
        raise _not_of_mlflow(database, reason) from None


def _wait_for_checkpoint(connection: sqlite3.Connection) -> None:
    """Read the database, again after a moment where that fails.

    A reader sees no database while the last other connection moves its write-ahead log into the file.
    """
    for seconds in CHECKPOINT_SECONDS:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            time.sleep(seconds)
        else:
            return


def _not_of_mlflow(database: Path, reason: str) -> StoreError:
    return StoreError(
        f"tracking.uri must be a database of MLflow; got {database}: {reason}. Name another file; one that does not exist "
        "yet is made."
    )


def _revision(connection: sqlite3.Connection, tables: set[str]) -> str | None:
    """The version of the schema; None where there are no tables yet."""
    row = (
        connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if "alembic_version" in tables
        else None
    )
    return None if row is None else str(row[0])


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_newer(revision: str | None) -> bool:
    return revision is not None and revision not in _schemas()


def _is_older(database: Path) -> bool:
    with _reading(database) as connection:
        return _schemas().get(_revision(connection, _tables(connection)), False)


@cache
def _schemas() -> dict[str | None, bool]:
    """The versions of the schema that the installed MLflow knows, and whether each was followed by another."""
    spec = find_spec("mlflow")  # finds the folder without importing the package
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "store" / "db_migrations" / "versions"
    scripts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    followed = {match[1] for text in scripts if (match := re.search(r"^down_revision = [\"'](\w+)", text, re.M))}
    known = {match[1] for text in scripts if (match := re.search(r"^revision = [\"'](\w+)", text, re.M))}
    return {revision: revision in followed for revision in known}


def silence() -> None:
    """Keep mlflow from printing what it does."""
    import logging

    for name in ("mlflow", "alembic"):  # after the import, which sets them
        logging.getLogger(name).setLevel(logging.ERROR)
