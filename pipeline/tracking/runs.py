"""Finds, opens and fills the runs of trainings in MLflow. Each function changes nothing when it is repeated."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from pipeline.artefacts.run import RunOrigin, RunRecord
from pipeline.tracking import description
from pipeline.tracking import tags as names
from pipeline.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

Row = dict[str, float]

_MLFLOW_PARENT_TAG = "mlflow.parentRunId"


def open_run(store: Store, origin: RunOrigin, tags: dict[str, str]) -> str:
    """Create the run of a training, or reopen the one that holds it already; gives the run's id.

    Args:
        store: Store that shall hold the run.
        origin: Origin of the training.
        tags: The user's own tags.
    """
    run_id = find_run(store, origin)
    if run_id is not None:
        store.client.update_run(run_id, status="RUNNING")
    else:
        known = description.tags(origin, tags)
        if origin.mlflow_run_id is not None:  # another store had it, or this one before it was lost
            known["goodfit.restored_from"] = origin.mlflow_run_id
        run_id = create_run(store, origin.name, known, begin_ms(origin))
    describe(store, run_id, origin)  # a kill may have come between creating and describing
    if origin.parent_run_id is not None and (parent := with_id(store, origin.parent_run_id)) is not None:
        store.client.set_tag(run_id, _MLFLOW_PARENT_TAG, parent)
    return run_id


def create_run(store: Store, name: str, tags: dict[str, str], begin_ms: int) -> str:
    """Create a run; gives its id."""
    return str(store.client.create_run(store.experiment_id, begin_ms, names.current(tags), name).info.run_id)


def adopt(store: Store, parent_run_id: str, parent_id: str) -> None:
    """Put the runs that were made before the run above them under it.

    Args:
        store: Store that holds the runs.
        parent_run_id: MLflow's id of the run above.
        parent_id: Our own id of it.
    """
    for run in search(store, names.PARENT, parent_id):
        if run.data.tags.get(_MLFLOW_PARENT_TAG) != parent_run_id:
            store.client.set_tag(run.info.run_id, _MLFLOW_PARENT_TAG, parent_run_id)


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
    return with_id(store, origin.id)


def with_id(store: Store, own_id: str) -> str | None:
    """Find the run with our own id; None where this store has none."""
    found = next(search(store, names.ID, own_id), None)
    return None if found is None else str(found.info.run_id)


def search(store: Store, tag: str, value: str) -> Iterator["Run"]:
    """The runs with this value of a tag."""
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], f"tags.`{tag}` = '{value}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def describe(store: Store, run_id: str, origin: RunOrigin) -> None:
    """Log the parameters and the dataset of a run."""
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


def now_ms() -> int:
    """Unix time in milliseconds."""
    return int(time.time() * 1000)


def begin_ms(origin: RunOrigin) -> int:
    """Unix time at which a training began, in milliseconds."""
    return int(origin.begin * 1000)


def steady(origin: RunOrigin, times_ms: Iterable[int]) -> list[int]:
    """The times of a training's epochs, none before another or before the beginning: a clock may be set back."""
    return list(accumulate(times_ms, max, initial=begin_ms(origin)))[1:]


def last_ms(record: RunRecord) -> int:
    """The time of a training's last epoch, by a clock that only goes forward."""
    return steady(record, record.times_ms)[-1]


def end_run(store: Store, run_id: str, status: str, end_ms: int) -> None:
    """Close a run, at its beginning if the clock says that it ended before it began."""
    begin = store.client.get_run(run_id).info.start_time
    store.client.set_terminated(run_id, status, max(end_ms, begin or end_ms))


def metrics_of(row: Row, time_ms: int) -> list["Metric"]:
    """Turn a row of the history into MLflow metrics whose step is the epoch."""
    from mlflow.entities import Metric

    return [Metric(key, value, time_ms, int(row["epoch"])) for key, value in row.items() if key != "epoch"]


def send(store: Store, run_id: str, metrics: list["Metric"]) -> bool:
    """Log metrics in batches of the size that MLflow takes. True once all are sent."""
    for begin in range(0, len(metrics), 1000):
        store.client.log_batch(run_id, metrics[begin : begin + 1000])
    return True


def log_metrics(store: Store, run_id: str, metrics: Mapping[str, float], time_ms: int) -> None:
    """Log numbers by name, all with one time."""
    for key, value in metrics.items():
        store.client.log_metric(run_id, key, value, time_ms)


def set_tags(store: Store, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags, by their names of today; a run of an earlier version loses the same ones under their former names."""
    wanted = names.current(tags)
    for key, text in wanted.items():
        store.client.set_tag(run_id, key, text)
    former = [old for old, name in names.FORMER.items() if name in wanted]
    if former:
        known = store.client.get_run(run_id).data.tags
        for old in (old for old in former if old in known):
            store.client.delete_tag(run_id, old)
