"""Follows a training with its MLflow run, from the first epoch to the end."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pipeline.artefacts.run import RunOrigin
from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked
from pipeline.diagnosis.loading import course_so_far
from pipeline.diagnosis.remarks import Watch
from pipeline.errors import StoreError
from pipeline.stage.checkout import PATCH
from pipeline.storage import atomic
from pipeline.sweep import pruning
from pipeline.tracking import delivery
from pipeline.tracking.live import LiveRun
from pipeline.tracking.runs import Row, now_ms
from pipeline.tracking.sendings import TRAINING_FILES, Training, Unfinished
from pipeline.tracking.spool import folder_of
from pipeline.tracking.store import answers, check, is_file

PARENT_VARIABLE = "GOODFIT_PARENT_RUN"
"""Carries our own id of a sweep's parent run to its jobs."""


class Run:
    """The run of a training. One without a store takes everything and sends nothing."""

    def __init__(self, settings: Tracking, origin: RunOrigin, live: LiveRun | None, working: Path) -> None:
        self.settings, self.origin, self.live, self.working = settings, origin, live, working
        self._rows: list[tuple[Row, int]] = []
        self._watch, self._begin_ms = Watch(), now_ms()

    def log_row(self, row: Row, time_ms: int) -> None:
        """Log a row of the history, and print what the curves show by now. Returns at once.

        Raises:
            Pruned: The training belongs to a search that gives it up.
        """
        if self.live is not None:
            self.live.log_row(row, time_ms)
        self._rows.append((row, time_ms))
        for remark in self._watch.remarks(course_so_far(self.working, [row for row, _ in self._rows])):
            if time_ms >= self._begin_ms:  # not of the epochs of a training that goes on after a kill
                print(f"epoch {row['epoch']}: {remark}")
        pruning.judge(row)

    def settle(self) -> str | None:
        """Wait until all rows are sent, or the store has failed. Gives the run's id, or None where no store has answered."""
        if self.live is not None:
            self.live.close()
        return self.live.run_id if self.live is not None else None

    def finish(self, folder: Path) -> None:
        """Send the finished training: rows, files and pictures. What does not arrive waits."""
        if self.live is None:
            return
        what = Training(name=self.origin.name, tags=self.settings.tags, end_ms=now_ms())
        files = {name: folder / name for name in TRAINING_FILES if (folder / name).exists()}
        if self.live.failure is None:
            delivery.forget_away(folder_of(self.settings))
        has_just_failed = (
            self.live.failure is not None and time.monotonic() - self.live.failed_at < delivery.FORGET_SECONDS
        )
        delivery.send(self.settings, what, files, away=self.live.failure if has_just_failed else None)

    def end(self, status: Literal["FAILED", "KILLED"], error: BaseException) -> None:
        """Close the run of a training that did not finish. A signal asks for haste, so that nothing else is sent before."""
        if self.live is None:
            return
        tag, text = "goodfit.error", masked(f"{type(error).__name__}: {error}")
        if isinstance(error, pruning.Pruned):
            tag, text = "goodfit.pruned", str(error)
        origin = self.origin.model_copy(update={"mlflow_run_id": self.live.run_id})
        what = Unfinished(
            origin=RunOrigin(**{name: getattr(origin, name) for name in RunOrigin.model_fields}),
            tags={**self.settings.tags, tag: text[:5000]}, rows=self._rows, status=status, end_ms=now_ms(),
        )  # fmt: skip
        store = self.live.close()
        if store is not None:
            with suppress(Exception), answers():
                what.send(store, self.working)
                return
        delivery.keep(self.settings, what)


@contextmanager
def tracked(settings: Tracking, origin: RunOrigin, working: Path) -> Iterator[Run]:
    """Open the run of a training. An error leaves it FAILED, a stop by signal or by pruning KILLED.

    Args:
        settings: Address and experiment of the store.
        origin: Origin of the training, from `begin`.
        working: Working folder of the training, which remembers the run's id over a kill.

    Raises:
        StoreError: The store is set wrongly, so that no training begins.
    """
    if not settings.enabled:
        yield Run(settings, origin, None, working)
        return

    def remember(run_id: str) -> None:
        origin.model_copy(update={"mlflow_run_id": run_id}).write(working)

    try:
        live = _opened(settings, origin, remember)
    except StoreError:
        if not any(path.name not in (RunOrigin.FILE, PATCH) for path in working.iterdir()):
            shutil.rmtree(working)  # it holds nothing but an origin, which would not be that of the next attempt
        raise
    run = Run(settings, origin, live, working)
    try:
        yield run
    except BaseException as error:
        failed = isinstance(error, Exception) and not isinstance(error, pruning.Pruned)
        run.end("FAILED" if failed else "KILLED", error)
        raise


def _opened(settings: Tracking, origin: RunOrigin, remember: Callable[[str], None]) -> LiveRun:
    check(settings)
    live = LiveRun(settings, origin, remember)
    has_been_asked = origin.parent_run_id is not None or delivery.known_away(folder_of(settings)) is not None
    if not is_file(settings) and not has_been_asked:  # a sweep asks before its jobs
        live.first_answer()
    return live


def begin(working: Path, patch: bytes, **known: Any) -> RunOrigin:
    """The origin of the interrupted training in the folder `working`, or a new one with the `known` fields.

    A new one comes with the file `changes.patch`, unless `patch` is empty.
    """
    if (working / RunOrigin.FILE).exists():
        return RunOrigin.read(working)
    (working / PATCH).unlink(missing_ok=True)  # of an attempt that was killed before it had an origin
    if patch:
        atomic.write_bytes(working / PATCH, patch)
    origin = RunOrigin(
        id=uuid.uuid4().hex, mlflow_run_id=None, parent_run_id=os.environ.get(PARENT_VARIABLE), begin=time.time(),
        **known,
    )  # fmt: skip
    origin.write(working)
    return origin
