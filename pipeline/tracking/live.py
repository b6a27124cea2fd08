"""Logs metrics to MLflow from a background thread."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from pipeline.artefacts.run import RunOrigin
from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked
from pipeline.errors import StoreError
from pipeline.tracking import runs
from pipeline.tracking.runs import Row
from pipeline.tracking.store import Store, answers, connect

FIRST_ANSWER_SECONDS = 5.0
CALL_SECONDS = 60.0
"""Time after which a call that has not come back is given up at the end. Those over HTTP come back before."""

RETRY_SECONDS = (2.0, 60.0)
"""Time between two attempts, which doubles from the first of these to the second."""


class LiveRun:
    """Opens a run, or the one that a killed training had opened, and sends it the rows of the history.

    The training never waits for the store, and a store that fails never ends the training.

    Args:
        settings: Address and experiment of the store.
        origin: Origin of the training.
        on_open: Called with the run's id as soon as it is known, so that the id survives a kill.
    """

    def __init__(self, settings: Tracking, origin: RunOrigin, on_open: Callable[[str], None]) -> None:
        self.settings, self.origin, self.on_open = settings, origin, on_open
        self.run_id: str | None = None
        self.store: Store | None = None
        self.failure: str | None = None
        self.failed_at = 0.0
        self._rows: queue.SimpleQueue[tuple[Row, int] | None] = queue.SimpleQueue()
        self._latest_ms = runs.begin_ms(origin)
        self._answered, self._closing = threading.Event(), threading.Event()
        self._called_at = time.monotonic()
        self._wrong: StoreError | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def first_answer(self) -> None:
        """Wait some seconds for the first answer of the store.

        Raises:
            StoreError: It is that the store is set wrongly, which no waiting mends.
        """
        self._answered.wait(FIRST_ANSWER_SECONDS)
        if self._wrong is not None:
            raise self._wrong

    def log_row(self, row: Row, time_ms: int) -> None:
        """Queue a row of the history with the Unix time of its epoch's end, in milliseconds. Returns at once."""
        self._latest_ms = max(self._latest_ms, time_ms)  # as `runs.steady`
        self._rows.put((row, self._latest_ms))

    def close(self) -> Store | None:
        """Wait until all rows are sent, or until the store fails once more.

        Returns:
            The store if it holds the run and every row, else None; `failure` then says why.
        """
        self._closing.set()
        self._rows.put(None)
        closed_at = time.monotonic()
        while self._thread.is_alive():
            if time.monotonic() > max(closed_at, self._called_at) + CALL_SECONDS:
                self.failure, self.failed_at = f"no answer in {CALL_SECONDS:.0f} s", time.monotonic()
                return None
            self._thread.join(0.05)
        return self.store if self.failure is None else None

    def _work(self) -> None:
        store = self._until_closing(self._open)
        while store is not None and (entry := self._rows.get()) is not None:
            batch, closed = [entry], False
            while not self._rows.empty():
                following = self._rows.get()
                closed = closed or following is None
                batch += [following] if following is not None else []
            metrics = [metric for row, time_ms in batch for metric in runs.metrics_of(row, time_ms)]
            sent = self._until_closing(lambda metrics=metrics: runs.send(store, str(self.run_id), metrics))
            if not sent or closed:
                return

    def _open(self) -> Store:
        store = connect(self.settings)
        self._answered.set()
        self.run_id = runs.open_run(store, self.origin, self.settings.tags)
        self.on_open(self.run_id)
        self.store = store
        return store

    def _until_closing(self, action: Any) -> Any:
        """Try until it works. While the training closes, a failure is the last one; one that came before it counts too."""
        pause, longest = RETRY_SECONDS
        while True:
            self._called_at = time.monotonic()
            try:
                with answers():
                    result = action()
                self.failure = None
                return result
            except Exception as error:  # whatever the store does must not cost the training its life
                self.failure, self.failed_at = masked(str(error)), time.monotonic()
                self._wrong = error if isinstance(error, StoreError) and not self._answered.is_set() else self._wrong
                self._answered.set()
                if self._closing.wait(pause):
                    return None
                pause = min(2 * pause, longest)
