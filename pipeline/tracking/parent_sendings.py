"""What is sent to the store about a sweep or a command; see `pipeline.tracking.sendings`."""

from pathlib import Path
from typing import Literal

from pipeline.artefacts.artefact import Record
from pipeline.artefacts.run import RunRecord
from pipeline.errors import DataError
from pipeline.tracking import runs
from pipeline.tracking import tags as names
from pipeline.tracking.store import Store


class ParentRun(Record):
    """The run of a sweep or of a command, which groups the runs of its trainings.

    Attributes:
        id: Our own id of it.
        name: Name of the run.
        tags: Its tags.
        begin_ms: Unix time of its beginning, in milliseconds.
    """

    id: str
    name: str
    tags: dict[str, str]
    begin_ms: int

    def open(self, store: Store) -> str:
        """Find the run, or create it and put its trainings under it; gives MLflow's id."""
        run_id = runs.with_id(store, self.id)
        if run_id is None:
            run_id = runs.create_run(store, self.name, {**self.tags, names.ID: self.id}, self.begin_ms)
            runs.adopt(store, run_id, self.id)
        return run_id


class ParentBegin(Record):
    """The beginning of a sweep or of a command, or that it goes on."""

    kind: Literal["parent_begin"] = "parent_begin"
    parent: ParentRun

    @property
    def title(self) -> str:
        return f"the beginning of {self.parent.name}"

    def send(self, store: Store, folder: Path) -> str:
        run_id = self.parent.open(store)
        runs.adopt(store, run_id, self.parent.id)  # a kill may have come between creating and adopting
        store.client.update_run(run_id, status="RUNNING")
        return ""


class ParentResults(Record):
    """Files, metrics and tags of a sweep or of a command."""

    kind: Literal["parent_results"] = "parent_results"
    parent: ParentRun
    metrics: dict[str, float]
    tags: dict[str, str]
    time_ms: int

    @property
    def title(self) -> str:
        return f"results of {self.parent.name}"

    def send(self, store: Store, folder: Path) -> str:
        run_id = self.parent.open(store)
        for path in sorted(folder.iterdir()):
            store.client.log_artifact(run_id, str(path), "sweep")
        runs.log_metrics(store, run_id, self.metrics, self.time_ms)
        runs.set_tags(store, run_id, self.tags)
        return ""


class ParentChild(Record):
    """A finished run below that of a command, which is no training, such as a round of a cure."""

    kind: Literal["parent_child"] = "parent_child"
    parent: ParentRun
    name: str
    tags: dict[str, str]
    metrics: dict[str, float]
    time_ms: int

    @property
    def title(self) -> str:
        return f"{self.name} of {self.parent.name}"

    def send(self, store: Store, folder: Path) -> str:
        mark = f"{self.parent.id}/{self.name}"
        run_id = runs.with_id(store, mark)
        if run_id is None:
            tags = {**self.tags, names.ID: mark, names.PARENT: self.parent.id}
            run_id = runs.create_run(store, self.name, tags, self.time_ms)
        runs.adopt(store, self.parent.open(store), self.parent.id)
        runs.log_metrics(store, run_id, self.metrics, self.time_ms)
        runs.end_run(store, run_id, "FINISHED", self.time_ms)
        return ""


class Winner(Record):
    """The best training of a sweep, whose file is `run.json`: its name in the sweep's run."""

    kind: Literal["winner"] = "winner"
    parent: ParentRun

    @property
    def title(self) -> str:
        return f"the winner of {self.parent.name}"

    def send(self, store: Store, folder: Path) -> str:
        run_id = runs.find_run(store, RunRecord.read(folder))
        if run_id is None:
            raise DataError(f"the winner of {self.parent.name} must have a run; {store.shown} holds none.")
        runs.set_tags(store, self.parent.open(store), {"goodfit.winner": run_id})
        return ""


class ParentEnd(Record):
    """The end of a sweep or of a command."""

    kind: Literal["parent_end"] = "parent_end"
    parent: ParentRun
    status: Literal["FINISHED", "FAILED", "KILLED"]
    end_ms: int

    @property
    def title(self) -> str:
        return f"the end of {self.parent.name}"

    def send(self, store: Store, folder: Path) -> str:
        runs.end_run(store, self.parent.open(store), self.status, self.end_ms)
        return ""
