"""Opens the MLflow run that groups the trainings of a sweep or of a command, and logs their common results."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked
from pipeline.storage import atomic
from pipeline.tracking.store import Store, connect
from pipeline.tracking.training import PARENT_VARIABLE

PARENT_FILE = ".parent_run"
"""File in the sweep's folder with the id of the parent run, so that a resumed sweep continues the same run."""


class Parent:
    """A parent run. One without a store takes everything and sends nothing.

    Attributes:
        store: Store that holds the run; None where tracking is off or the store does not answer.
        run_id: Id of the run.
        incomplete: Whether some of its trainings did not finish.
    """

    def __init__(self, store: Store | None, run_id: str | None) -> None:
        self.store, self.run_id, self.incomplete = store, run_id, False

    def add(
        self, files: Sequence[Path], *, metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Log files, metrics and tags. A store that went away costs a line on the terminal, no more."""
        if self.store is None or self.run_id is None:
            return
        try:
            for path in files:
                self.store.client.log_artifact(self.run_id, str(path), "sweep")
            for key, value in (metrics or {}).items():
                self.store.client.log_metric(self.run_id, key, value)
            for key, text in (tags or {}).items():
                self.store.client.set_tag(self.run_id, key, text)
        except Exception as error:
            print(f"tracking: the parent run is not complete ({masked(str(error))})", file=sys.stderr)

    def child(self, name: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Log a finished child run; a second call with the same name changes nothing."""
        if self.store is None or self.run_id is None:
            return
        try:
            client, experiment = self.store.client, self.store.experiment_id
            mark = f"{self.run_id}/{name}"
            known = client.search_runs([experiment], f"tags.`goodfit.child` = '{mark}'", max_results=1)
            if known:
                return
            belonging = {"goodfit.child": mark, "mlflow.parentRunId": self.run_id}
            run = client.create_run(experiment, int(time.time() * 1000), {**tags, **belonging}, name)
            for key, value in metrics.items():
                client.log_metric(run.info.run_id, key, value)
            client.set_terminated(run.info.run_id, "FINISHED")
        except Exception as error:
            print(f"tracking: {name} is not complete ({masked(str(error))})", file=sys.stderr)

    def tag(self, run_id: str | None, tags: Mapping[str, str]) -> None:
        """Set tags of another run in the same store. An unknown run is left alone."""
        if self.store is None or run_id is None:
            return
        with suppress(Exception):
            for key, text in tags.items():
                self.store.client.set_tag(run_id, key, text)


@contextmanager
def parent_run(settings: Tracking, folder: Path, kind: str, overrides: Sequence[str]) -> Iterator[Parent]:
    """Open a parent run; trainings in the block become its children. Without a store that answers they have no parent.

    Args:
        settings: Address and experiment of the store.
        folder: Folder of the sweep, which remembers the run over a kill.
        kind: `sweep`, or the name of the command.
        overrides: Overrides that the user gave on the command line.
    """
    parent, status = _opened(settings, folder, kind, overrides), "KILLED"
    try:
        yield parent
        status = "FAILED" if parent.incomplete else "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        os.environ.pop(PARENT_VARIABLE, None)
        if parent.store is not None and parent.run_id is not None:
            try:
                parent.store.client.set_terminated(parent.run_id, status)
            except Exception as error:
                print(f"tracking: the parent run could not be marked {status} ({masked(str(error))})", file=sys.stderr)


def _opened(settings: Tracking, folder: Path, kind: str, overrides: Sequence[str]) -> Parent:
    if not settings.enabled:
        return Parent(None, None)
    try:
        store = connect(settings)
        run_id = _known(store, folder) or _new(store, settings, folder, kind, overrides)
        os.environ[PARENT_VARIABLE] = run_id
        return Parent(store, run_id)
    except Exception as error:
        print(f"tracking: the {kind} has no parent run ({masked(str(error))})", file=sys.stderr)
        return Parent(None, None)


def _new(store: Store, settings: Tracking, folder: Path, kind: str, overrides: Sequence[str]) -> str:
    tags = {f"goodfit.{kind}": " ".join(overrides), "goodfit.sweep_folder": str(folder), **settings.tags}
    run = store.client.create_run(store.experiment_id, int(time.time() * 1000), tags, f"{kind}-{folder.name}")
    atomic.write_text(folder / PARENT_FILE, run.info.run_id)
    return str(run.info.run_id)


def _known(store: Store, folder: Path) -> str | None:
    from mlflow.exceptions import MlflowException

    if not (folder / PARENT_FILE).exists():
        return None
    run_id = (folder / PARENT_FILE).read_text()
    try:
        store.client.update_run(run_id, status="RUNNING")
    except MlflowException:
        return None  # the store does not know it: another machine, or a deleted store
    return run_id
