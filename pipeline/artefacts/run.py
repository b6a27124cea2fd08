"""`run.json`: where the weights of a training come from, and how the training went."""

from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.artefacts.artefact import Artefact, Record
from pipeline.metrics import history
from pipeline.storage import checksums


class RunDataset(Record):
    """The dataset of a training; see the fields of `pipeline.artefacts.dataset.DatasetRecord` of the same names."""

    name: str
    source: str
    counts: dict[str, list[int]]
    size: int
    channels: int


class Machine(Record):
    """What of a machine the last digits of a training depend on.

    Attributes:
        architecture: Architecture of the processor.
        processor: Model of the processor.
        instructions: Set of instructions that torch uses on it.
        accelerator: Model of the GPU that the training uses; None for none.
        threads: Number of torch's threads.
    """

    architecture: str
    processor: str
    instructions: str
    accelerator: str | None
    threads: int


class RunOrigin(Artefact, file="run.json", stage="train"):
    """The facts that are known when a training begins. The file lies in its working folder until the training ends.

    Attributes:
        id: Our own id of the weights, 32 hexadecimal digits.
        mlflow_run_id: Id of the run in MLflow; None while no store has answered.
        parent_run_id: Our own id of the sweep's run; None outside of sweeps.
        begin: Start of the training, in Unix seconds.
        git_commit: Commit of the checkout; None without git.
        git_dirty: Whether tracked files differ from the commit.
        changes_sha256: SHA-256 of `changes.patch`, which lies beside: what a training reads and differed from the commit,
            untracked files included; None where nothing did, or where it was left out.
        changes_left_out: Why that difference was not kept, as a clause; None where it was, or where there was none.
        data_hash: Hash of `data/` as `data.dvc` pins it; None where nothing is pinned.
        dvc_experiment: Name of the DVC experiment; None outside of one.
        name: Name of the run, for people.
        tracking_uri: Address of the tracking store.
        fingerprint: Fingerprint of the training's recipe.
        prepare_fingerprint: Fingerprint of the content of the prepared data.
        augment_fingerprint: Fingerprint of the content of the augmentation.
        weights_fingerprint: Fingerprint of the weights that it started from; None for random ones.
        dataset: The dataset in short.
        overrides: Overrides of the command line, separated by spaces.
        config: The whole configuration.
        versions: Version of Python and of each library that weights depend on; empty in records of earlier versions.
        machine: The machine; None in records of earlier versions.
    """

    id: str
    mlflow_run_id: str | None
    parent_run_id: str | None
    begin: float
    git_commit: str | None
    git_dirty: bool
    changes_sha256: str | None = None
    changes_left_out: str | None = None
    data_hash: str | None
    dvc_experiment: str | None
    name: str
    tracking_uri: str
    fingerprint: str
    prepare_fingerprint: str
    augment_fingerprint: str
    weights_fingerprint: str | None = None
    dataset: RunDataset
    overrides: str
    config: dict[str, Any]
    versions: dict[str, str] = Field(default_factory=dict)
    machine: Machine | None = None


class Saving(Record):
    """The epochs that early stopping saved, and the time that they would have taken."""

    saved_epochs: int
    saved_seconds: float


class KeptTraining(Record):
    """Accuracy of the kept weights on training images, in evaluation mode and without augmentation, and their number."""

    accuracy: float
    num_images: int


class RunOutcome(Record):
    """The outcome of a training.

    Attributes:
        best_epoch: Epoch whose weights were kept, counted from 1.
        epochs: Number of epochs that were trained.
        stop_reason: Why the training ended, as a clause.
        early_stopping: Epochs and time that early stopping saved.
        lr: Highest learning rate of the schedule.
        seconds: Time of all epochs together.
        times_ms: Unix time of the end of each epoch, in milliseconds.
        num_parameters: Number of the network's parameters.
        weights_sha256: SHA-256 of `model.ckpt`.
        kept_training: Accuracy of these weights on up to 20,000 training images, which the history measures on as many as
            validation has; None in records of earlier versions.
    """

    best_epoch: int
    epochs: int
    stop_reason: str
    early_stopping: Saving
    lr: float
    seconds: float
    times_ms: list[int]
    num_parameters: int
    weights_sha256: str
    kept_training: KeptTraining | None = None


class RunRecord(RunOrigin, RunOutcome):
    """A finished training: its origin and its outcome."""

    def at_kept_epoch(self, rows: list[dict[str, float]]) -> dict[str, float]:
        """Losses and accuracies of the kept weights, by column of the history, whose `rows` are given; the training accuracy
        is that on more images where it was measured."""
        row = next(row for row in rows if row["epoch"] == self.best_epoch)
        columns = (history.CLEAN_ACCURACY, history.CLEAN_LOSS, history.VAL_ACCURACY, history.VAL_LOSS)
        measured = {} if self.kept_training is None else {history.CLEAN_ACCURACY: self.kept_training.accuracy}
        return {column: row[column] for column in columns} | measured


def read_rows(folder: Path) -> list[dict[str, float]]:
    """The rows of a training's `history.csv`.

    Raises:
        DamagedError: The file has changed since the training, or cannot be read.
    """
    with checksums.reading(folder / "history.csv"):
        return history.read_csv(folder / "history.csv")
