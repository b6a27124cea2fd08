"""The run of a training, from its first row to its end, whichever end that is."""

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.diagnosis.loading import course_so_far
from pipeline.diagnosis.remarks import Watch
from pipeline.storage import atomic
from pipeline.sweep import pruning
from pipeline.tracking.live import LiveRun, Row
from pipeline.tracking.publish import publish
from pipeline.tracking.record import origin
from pipeline.tracking.store import Settings

PARENT_VARIABLE = "GOODFIT_PARENT_RUN"
"""Carries the id of a sweep's parent run to its jobs."""


class Run:
    """A run of a training; one without a store takes everything and sends nothing."""

    def __init__(self, record: dict[str, Any], live: LiveRun | None, working: Path) -> None:
        self.record, self.live, self.working = record, live, working
        self._rows: list[Row] = []
        self._watch, self._begin_ms = Watch(), int(time.time() * 1000)

    def log_row(self, row: Row, time_ms: int) -> None:
        """Take a row of the history, and print what can be seen by now; returns at once.

        Raises:
            Pruned: The training belongs to a sweep that does not think it worth going on.
        """
        if self.live is not None:
            self.live.log_row(row, time_ms)
        self._rows.append(row)
        for remark in self._watch.remarks(course_so_far(self.working, self._rows)):
            if time_ms >= self._begin_ms:  # not of the epochs of a training that goes on after a kill
                print(f"epoch {row['epoch']}: {remark}")
        pruning.judge(row)

    def settle(self) -> str | None:
        """Wait for what is on its way; gives the run's id, or None where the store has never answered."""
        if self.live is not None and self.live.close() is None:
            print(
                f"tracking: {self.live.settings.resolved_uri()} does not answer ({self.live.failure}); "
                "the training is whole, and the next stage sends what is missing",
                file=sys.stderr,
            )
        return self.live.run_id if self.live is not None else None

    def finish(self, folder: Path) -> None:
        """Copy the finished training into the run: rows, files, pictures and, outside of sweeps, the model."""
        if self.live is None or self.live.store is None or self.live.failure is not None:
            return
        try:
            publish(self.live.store, str(self.live.run_id), folder, with_model=self.record["parent_run_id"] is None)
        except Exception as error:  # the store went away: the training must not pay for it
            print(f"tracking: not all was sent ({error}); the next stage sends what is missing", file=sys.stderr)

    def end(self, status: str, error: BaseException) -> None:
        """Close the run of a training that did not finish."""
        tag, text = "goodfit.error", f"{type(error).__name__}: {error}"
        if isinstance(error, pruning.Pruned):
            tag, text = "goodfit.pruned", str(error)
        if self.live is not None and (store := self.live.close()) is not None:
            try:
                store.client.set_tag(str(self.live.run_id), tag, text[:5000])
                store.client.set_terminated(str(self.live.run_id), status)
            except Exception as failure:
                print(f"tracking: the run could not be marked {status} ({failure})", file=sys.stderr)


@contextmanager
def tracked(settings: Settings, record: dict[str, Any], working: Path) -> Iterator[Run]:
    """Open the run of a training; an error leaves it FAILED, a stop by signal or by its sweep's pruning KILLED.

    Args:
        settings: Where to.
        record: The content of `run.json` so far, from `begin`.
        working: The training's working folder, which remembers the run's id over a kill.
    """
    if not settings.enabled:
        yield Run(record, None, working)
        return

    def remember(run_id: str) -> None:
        atomic.write_text(working / "run.json", json.dumps({**record, "mlflow_run_id": run_id}))

    run = Run(record, LiveRun(settings, record, remember), working)
    try:
        yield run
    except BaseException as error:
        failed = isinstance(error, Exception) and not isinstance(error, pruning.Pruned)
        run.end("FAILED" if failed else "KILLED", error)
        raise


def begin(working: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The start of `run.json`: that of the interrupted training in `working`, or a new one with `content`."""
    known = working / "run.json"
    if known.exists():
        interrupted: dict[str, Any] = json.loads(known.read_text())
        return interrupted
    record = {
        "id": uuid.uuid4().hex,
        "mlflow_run_id": None,
        "parent_run_id": os.environ.get(PARENT_VARIABLE),
        "begin": time.time(),
        **origin(),
        **content,
    }
    atomic.write_text(known, json.dumps(record))
    return record
