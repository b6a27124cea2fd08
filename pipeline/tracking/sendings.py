"""What is sent to the store about a training. Each can be kept in a file, and sent again without a change.

`send` takes the store and the folder with the files that go with it, and gives a sentence for the terminal, or "".
"""

import os
import tempfile
from pathlib import Path
from typing import Literal

from pipeline.artefacts.artefact import Record
from pipeline.artefacts.package import ManifestRecord
from pipeline.artefacts.run import RunOrigin, RunRecord, read_rows
from pipeline.errors import DataError
from pipeline.stage.checkout import PATCH
from pipeline.tracking import description, runs
from pipeline.tracking import tags as names
from pipeline.tracking.model import log_package
from pipeline.tracking.store import Store

TRAINING_FILES = ("model.ckpt", "history.csv", "weights.csv", "signals.json", "run.json", "lr_range.csv", PATCH)
PACKAGE = "package"
"""Folder in an entry with the files of a package."""


class Training(Record):
    """A finished training; its files are those of the train stage.

    Attributes:
        name: Name of the run.
        tags: The user's own tags.
        end_ms: Unix time of the end, in milliseconds.
    """

    kind: Literal["training"] = "training"
    name: str
    tags: dict[str, str]
    end_ms: int

    @property
    def title(self) -> str:
        return f"the training {self.name}"

    def send(self, store: Store, folder: Path) -> str:
        from mlflow.entities import Metric

        from pipeline.plotting import figures

        record, rows = RunRecord.read(folder), read_rows(folder)
        run_id = runs.open_run(store, record, self.tags)
        timed = zip(rows, runs.steady(record, record.times_ms), strict=True)
        metrics = [metric for row, time_ms in timed for metric in runs.metrics_of(row, time_ms)]
        once = {"best_epoch": record.best_epoch, "num_parameters": record.num_parameters}
        metrics += [Metric(key, value, runs.last_ms(record), record.best_epoch) for key, value in once.items()]
        runs.send(store, run_id, metrics)
        for name in (name for name in TRAINING_FILES if (folder / name).exists()):
            store.client.log_artifact(run_id, str(folder / name), "training")
        _log_bytes(store, run_id, figures.curves(rows, record.best_epoch), "curves.png")
        runs.set_tags(store, run_id, {"goodfit.stop_reason": record.stop_reason, names.COMPLETE: "true"})
        by_length = runs.begin_ms(record) + int(record.seconds * 1000)
        runs.end_run(store, run_id, "FINISHED", max(self.end_ms, by_length, runs.last_ms(record)))
        return ""


class Unfinished(Record):
    """A training that failed, or that a signal or a search stopped.

    Attributes:
        origin: Its `run.json`.
        tags: The user's own tags and the reason.
        rows: Rows of the history up to there, each with its time.
        status: `FAILED` or `KILLED`.
        end_ms: Unix time of the end, in milliseconds.
    """

    kind: Literal["unfinished"] = "unfinished"
    origin: RunOrigin
    tags: dict[str, str]
    rows: list[tuple[dict[str, float], int]]
    status: Literal["FAILED", "KILLED"]
    end_ms: int

    @property
    def title(self) -> str:
        return f"the {self.status.lower()} training {self.origin.name}"

    def send(self, store: Store, folder: Path) -> str:
        run_id = runs.open_run(store, self.origin, self.tags)
        times_ms = runs.steady(self.origin, [time_ms for _, time_ms in self.rows])
        rows = zip((row for row, _ in self.rows), times_ms, strict=True)
        runs.send(store, run_id, [metric for row, time_ms in rows for metric in runs.metrics_of(row, time_ms)])
        runs.set_tags(store, run_id, self.tags)
        runs.end_run(store, run_id, self.status, max([self.end_ms, *times_ms]))
        return ""


class Results(Record):
    """The output of a stage after the training, whose files go with the training's `run.json`.

    Attributes:
        stage: Name of the stage.
        fingerprint: Fingerprint of its output.
        training: Folder of the training, from which a run that the store does not know is made.
        own_tags: The user's own tags, for such a run; they keep their names.
        metrics: Numbers to log, by name.
        tags: Tags to set.
    """

    kind: Literal["results"] = "results"
    stage: str
    fingerprint: str
    training: str
    own_tags: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def title(self) -> str:
        return f"what {self.stage} found in {os.path.relpath(self.training)}"

    def send(self, store: Store, folder: Path) -> str:
        from mlflow.entities import Metric

        record = RunRecord.read(folder)
        run_id, how = complete_run(store, record, Path(self.training), self.own_tags)
        batch = [Metric(key, value, runs.last_ms(record), record.best_epoch) for key, value in self.metrics.items()]
        runs.send(store, run_id, batch)
        for path in sorted(path for path in folder.iterdir() if path.name != RunRecord.FILE):
            store.client.log_artifact(run_id, str(path), self.stage)
        found = names.without_own(self.tags, self.own_tags)
        runs.set_tags(store, run_id, {**found, f"goodfit.{self.stage}_fingerprint": self.fingerprint})
        return f"MLflow run {store.client.get_run(run_id).info.run_name} ({run_id}): {how}"


class Packaged(Record):
    """A package, whose files lie in `package/` beside the training's `run.json`; it becomes the model of the training's run.

    Attributes:
        training: Folder of the training, from which a run that the store does not know is made.
        own_tags: The user's own tags, for such a run.
    """

    kind: Literal["packaged"] = "packaged"
    training: str
    own_tags: dict[str, str]

    @property
    def title(self) -> str:
        return f"the package of {os.path.relpath(self.training)}"

    def send(self, store: Store, folder: Path) -> str:
        from mlflow.entities import Metric

        record = RunRecord.read(folder)
        run_id, _ = complete_run(store, record, Path(self.training), self.own_tags)
        manifest = ManifestRecord.read(folder / PACKAGE)
        model_id = log_package(store, run_id, folder / PACKAGE)
        if store.client.get_run(run_id).info.status != "FINISHED":  # a kill while it was logged has left it open
            by_length = runs.begin_ms(record) + int(record.seconds * 1000)
            runs.end_run(store, run_id, "FINISHED", max(by_length, runs.last_ms(record)))
        scores = manifest.scores.by_name(f"{manifest.split}/") if manifest.scores is not None else {}
        dataset = {"dataset_name": record.dataset.name, "dataset_digest": record.prepare_fingerprint}
        time_ms, epoch = runs.last_ms(record), record.best_epoch
        batch = [Metric(key, value, time_ms, epoch, model_id, **dataset) for key, value in scores.items()]
        runs.send(store, run_id, batch)
        described = {names.NOTE: description.note(manifest, model_id)}
        store.client.set_logged_model_tags(model_id, described)
        runs.set_tags(store, run_id, {names.LOGGED_MODEL: model_id, **described})
        return f"MLflow model models:/{model_id}"


class RunTags(Record):
    """Tags of a training's run. One that the store does not know is left alone: it was sent to another."""

    kind: Literal["run_tags"] = "run_tags"
    training_id: str
    tags: dict[str, str]

    @property
    def title(self) -> str:
        return f"tags of the training {self.training_id}"

    def send(self, store: Store, folder: Path) -> str:
        run_id = runs.with_id(store, self.training_id)
        if run_id is not None:
            runs.set_tags(store, run_id, self.tags)
        return ""


def complete_run(store: Store, record: RunRecord, training: Path, own_tags: dict[str, str]) -> tuple[str, str]:
    """The run of a training, made or completed from its folder where the store lacks it; and a clause about where it is from.

    Raises:
        DataError: The store lacks it, and the folder holds another training by now.
    """
    run_id = runs.find_run(store, record)
    if run_id is not None and store.client.get_run(run_id).data.tags.get(names.COMPLETE) == "true":
        return run_id, "the run of this training"
    how = "the run of this training" if run_id else f"rebuilt from {training}, as {store.shown} did not know it"
    if RunRecord.read(training, "the training").id != record.id:
        raise DataError(f"{training} must hold the training {record.name} ({record.id}); another one is there by now.")
    Training(name=record.name, tags=own_tags, end_ms=0).send(store, training)
    return str(runs.find_run(store, record)), how


def _log_bytes(store: Store, run_id: str, content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.write_bytes(content)
        store.client.log_artifact(run_id, str(path), "pictures")
