"""Follows a training with its MLflow run, from the first epoch to the end."""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.artefacts.run import RunOrigin
from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked
from pipeline.diagnosis.loading import course_so_far
from pipeline.diagnosis.remarks import Watch
from pipeline.sweep import pruning
from pipeline.tracking.description import checkout
from pipeline.tracking.live import LiveRun, Row
from pipeline.tracking.publish import publish
from pipeline.tracking.store import address

PARENT_VARIABLE = "GOODFIT_PARENT_RUN"
"""Carries the id of a sweep's parent run to its jobs."""


class Run:
    """The run of a training. One without a store takes everything and sends nothing."""

    def __init__(self, origin: RunOrigin, live: LiveRun | None, working: Path) -> None:
        self.origin, self.live, self.working = origin, live, working
        self._rows: list[Row] = []
        self._watch, self._begin_ms = Watch(), int(time.time() * 1000)

    def log_row(self, row: Row, time_ms: int) -> None:
        """Log a row of the history, and print what the curves show by now. Returns at once.

        Raises:
            Pruned: The training belongs to a search that gives it up.
        """
        if self.live is not None:
            self.live.log_row(row, time_ms)
        self._rows.append(row)
        for remark in self._watch.remarks(course_so_far(self.working, self._rows)):
            if time_ms >= self._begin_ms:  # not of the epochs of a training that goes on after a kill
                print(f"epoch {row['epoch']}: {remark}")
        pruning.judge(row)

    def settle(self) -> str | None:
        """Wait until all rows are sent. Gives the run's id, or None where the store has never answered."""
        if self.live is not None and self.live.close() is None:
            print(
                f"tracking: {address(self.live.settings)} does not answer ({self.live.failure}); "
                "the training is whole, and the next stage sends what is missing",
                file=sys.stderr,
            )
        return self.live.run_id if self.live is not None else None

    def finish(self, folder: Path) -> None:
        """Copy the finished training into the run: rows, files, pictures and, outside of sweeps, the model."""
        if self.live is None or self.live.store is None or self.live.failure is not None:
            return
        try:
            publish(self.live.store, str(self.live.run_id), folder, with_model=self.origin.parent_run_id is None)
        except Exception as error:  # the store went away: the training must not pay for it
            print(
                f"tracking: not all was sent ({masked(str(error))}); the next stage sends what is missing",
                file=sys.stderr,
            )

    def end(self, status: str, error: BaseException) -> None:
        """Close the run of a training that did not finish."""
        tag, text = "goodfit.error", masked(f"{type(error).__name__}: {error}")
        if isinstance(error, pruning.Pruned):
            tag, text = "goodfit.pruned", str(error)
        if self.live is not None and (store := self.live.close()) is not None:
            try:
                store.client.set_tag(str(self.live.run_id), tag, text[:5000])
                store.client.set_terminated(str(self.live.run_id), status)
            except Exception as failure:
                print(f"tracking: the run could not be marked {status} ({masked(str(failure))})", file=sys.stderr)


@contextmanager
def tracked(settings: Tracking, origin: RunOrigin, working: Path) -> Iterator[Run]:
    """Open the run of a training. An error leaves it FAILED, a stop by signal or by pruning KILLED.

    Args:
        settings: Address and experiment of the store.
        origin: Origin of the training, from `begin`.
        working: Working folder of the training, which remembers the run's id over a kill.
    """
    if not settings.enabled:
        yield Run(origin, None, working)
        return

    def remember(run_id: str) -> None:
        origin.model_copy(update={"mlflow_run_id": run_id}).write(working)

    run = Run(origin, LiveRun(settings, origin, remember), working)
    try:
        yield run
    except BaseException as error:
        failed = isinstance(error, Exception) and not isinstance(error, pruning.Pruned)
        run.end("FAILED" if failed else "KILLED", error)
        raise


def begin(working: Path, **known: Any) -> RunOrigin:
    """The origin of the interrupted training in the folder `working`, or a new one with the `known` fields."""
    if (working / RunOrigin.FILE).exists():
        return RunOrigin.read(working)
    origin = RunOrigin(
        id=uuid.uuid4().hex, mlflow_run_id=None, parent_run_id=os.environ.get(PARENT_VARIABLE), begin=time.time(),
        **checkout()._asdict(), **known,
    )  # fmt: skip
    origin.write(working)
    return origin
