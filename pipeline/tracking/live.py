"""Logs metrics to MLflow from a background thread."""

import json
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.artefacts.run import RunOrigin
from pipeline.config.schema import Tracking
from pipeline.config.secrets import masked
from pipeline.tracking import description
from pipeline.tracking.store import Store, connect

if TYPE_CHECKING:
    from mlflow.entities import Metric

GRACE_SECONDS = 10.0
RETRY_SECONDS = 2.0

Row = dict[str, float]


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
        self._rows: queue.SimpleQueue[tuple[Row, int] | None] = queue.SimpleQueue()
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def log_row(self, row: Row, time_ms: int) -> None:
        """Queue a row of the history with the Unix time of its epoch's end, in milliseconds. Returns at once."""
        self._rows.put((row, time_ms))

    def close(self) -> Store | None:
        """Wait until all rows are sent, or until the store has failed to answer for `GRACE_SECONDS`.

        Returns:
            The store if it holds the run and every row, else None; `failure` then says why.
        """
        self._give_up_at = time.monotonic() + GRACE_SECONDS
        self._rows.put(None)
        self._thread.join()
        return self.store if self.failure is None else None

    def _work(self) -> None:
        store = self._until_given_up(self._open)
        while store is not None and (entry := self._rows.get()) is not None:
            batch, closed = [entry], False
            while not self._rows.empty():
                following = self._rows.get()
                closed = closed or following is None
                batch += [following] if following is not None else []
            metrics = [metric for row, time_ms in batch for metric in metrics_of(row, time_ms)]
            if not self._until_given_up(lambda metrics=metrics: send(store, str(self.run_id), metrics)) or closed:
                return

    def _open(self) -> Store:
        store = connect(self.settings)
        self.run_id = open_run(store, self.origin, self.settings)
        self.on_open(self.run_id)
        self.store = store
        return store

    def _until_given_up(self, action: Any) -> Any:
        while True:
            try:
                result = action()
                self.failure = None
                return result
            except Exception as error:  # whatever the store does must not cost the training its life
                self.failure = " ".join(masked(str(error)).split())[:200]
                if time.monotonic() > self._give_up_at:
                    return None
                time.sleep(min(RETRY_SECONDS, max(0.0, self._give_up_at - time.monotonic())))


def open_run(store: Store, origin: RunOrigin, settings: Tracking) -> str:
    """Create the run of a training, or reopen the one that holds it already; gives the run's id."""
    run_id = find_run(store, origin)
    if run_id is not None:
        store.client.update_run(run_id, status="RUNNING")
    else:
        begin_ms, tags = int(origin.begin * 1000), description.tags(origin, settings.tags)
        run_id = str(store.client.create_run(store.experiment_id, begin_ms, tags, origin.name).info.run_id)
    describe(store, run_id, origin)  # a kill may have come between creating and describing
    return run_id


def find_run(store: Store, origin: RunOrigin) -> str | None:
    """Find the run of a training by its id, else by the id of its weights. None where this store has no such run."""
    from mlflow.exceptions import MlflowException

    if origin.mlflow_run_id is not None:
        try:
            if store.client.get_run(origin.mlflow_run_id).info.lifecycle_stage == "active":
                return str(origin.mlflow_run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    runs = store.client.search_runs([store.experiment_id], f"tags.`goodfit.id` = '{origin.id}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def describe(store: Store, run_id: str, origin: RunOrigin) -> None:
    """Log the parameters and the dataset of a run. Repeating it changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    parameters = [Param(key, value) for key, value in description.parameters(origin).items()]
    store.client.log_batch(run_id, params=parameters)
    dataset = Dataset(
        name=origin.dataset.name,
        digest=origin.prepare_fingerprint,
        source_type="local",
        source=json.dumps({"uri": origin.dataset.source}, ensure_ascii=False),
        profile=str(origin.dataset.counts),
    )
    store.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def metrics_of(row: Row, time_ms: int) -> list["Metric"]:
    """Turn a row of the history into MLflow metrics whose step is the epoch."""
    from mlflow.entities import Metric

    return [Metric(key, value, time_ms, int(row["epoch"])) for key, value in row.items() if key != "epoch"]


def send(store: Store, run_id: str, metrics: list["Metric"]) -> bool:
    """Log metrics in batches of the size that MLflow takes. Sending one again changes nothing. True once all are sent."""
    for begin in range(0, len(metrics), 1000):
        store.client.log_batch(run_id, metrics[begin : begin + 1000])
    return True
