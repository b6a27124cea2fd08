"""Runs trainings side by side, each configuration with each seed once, within a budget."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.job import FAILED, FINISHED
from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.config import composition, validation
from pipeline.errors import ShapeError, TrainingError
from pipeline.stage import lineage
from pipeline.stage.inputs import input_folder
from pipeline.storage import atomic, checksums, lock
from pipeline.sweep import driver, records
from pipeline.sweep.job import RunJob, running

if TYPE_CHECKING:
    from pipeline.lab.foresight import Seconds

MINUTES_FILE = ".minutes"
"""Name of the file that keeps the minutes a command has taken, for when it is resumed."""

Overrides = tuple[str, ...]
"""Overrides that set a training apart from the others of its command."""

OF_REPETITIONS = ("seed=", "prepare.repeat=", "prepare.fold=")
"""Beginnings of the overrides that tell seeds and folds of one configuration from another."""

_EXPLAINED_FAILURES = (TrainingError.__name__, ShapeError.__name__)
"""Failures that follow from the configuration. Any other, such as a full disk, tells nothing about the configuration."""


class Took(NamedTuple):
    """Seconds of a training: of its epochs alone, with its features and checks, and of all that its job did."""

    alone: float
    whole: float
    job: float


class BudgetSpent(Exception):
    """Raised when the next trainings do not fit into the budget; the message names the limit that is reached."""


class Trainings:
    """The trainings of one command. They lie in the folder of a sweep, whose lock the caller holds.

    Args:
        command: Name of the command, under which `--resume` continues.
        folder: Folder from `pipeline.sweep.driver.create`; may hold trainings of an earlier process.
        overrides: Overrides that all trainings have in common, launcher included.
        train: Runs one training.

    Attributes:
        requested: Overrides of each training that was asked for; a training's folder is named by its index here.
    """

    def __init__(self, command: str, folder: Path, overrides: list[str], train: RunJob) -> None:
        self.command, self.folder, self.overrides, self.train = command, folder, overrides, train
        self.requested: list[Overrides] = records.read_jobs(folder)

    def run(self, trainings: Iterable[Overrides], *, may_diverge: bool = False) -> None:
        """Run the trainings that have not been run yet, with the launcher that Hydra is configured with.

        Args:
            trainings: Overrides of each training.
            may_diverge: Accept trainings whose loss became infinite or not a number; `has_finished` tells them apart.

        Raises:
            UserError: Some trainings did not finish.
        """
        self.requested = list(dict.fromkeys([*self.requested, *trainings]))
        accepted = _EXPLAINED_FAILURES if may_diverge else ()
        if not all(records.is_over(self.folder_of(overrides), accepted) for overrides in self.requested):
            train = partial(_train_once, self.train)
            driver.run_listed(self.command, self.folder, self.overrides, self.requested, train, accepted)

    def is_over(self, overrides: Overrides) -> bool:
        """Whether a training ran to its end, diverged, or cannot run with images of this size."""
        return overrides in self.requested and records.is_over(self.folder_of(overrides), _EXPLAINED_FAILURES)

    def has_finished(self, overrides: Overrides) -> bool:
        """Whether a training ran to its end."""
        return overrides in self.requested and records.status(self.folder_of(overrides)) == FINISHED

    def fits_images(self, overrides: Overrides) -> bool:
        """Whether the images were large enough for the network of a training."""
        job = records.record(self.folder_of(overrides)) if overrides in self.requested else None
        return job is None or job.status != FAILED or not str(job.error).startswith(ShapeError.__name__)

    def running(self) -> list[Overrides]:
        """The trainings that a process runs at this moment."""
        numbers = [int(folder.name) for folder in running(self.folder)]
        return [self.requested[number] for number in numbers if number < len(self.requested)]

    def folder_of(self, overrides: Overrides) -> Path:
        """The folder of a training that was asked for."""
        return self.folder / str(self.requested.index(overrides))

    def history(self, overrides: Overrides) -> list[dict[str, float]]:
        """The rows of a training's `history.csv`."""
        return read_rows(self.folder_of(overrides))

    def kept_row(self, overrides: Overrides) -> dict[str, float]:
        """The row of the epoch whose weights a training kept."""
        return self.history(overrides)[self.record(overrides).best_epoch - 1]

    def record(self, overrides: Overrides) -> RunRecord:
        """The `run.json` of a training."""
        return RunRecord.read(self.folder_of(overrides))

    def seconds(self, overrides: Overrides) -> "Took | None":
        """The times that a training took; None where it did not finish."""
        if not self.has_finished(overrides):
            return None
        run, job = self.record(overrides), records.record(self.folder_of(overrides))
        return Took(run.seconds, run.times_ms[-1] / 1000 - run.begin, 0.0 if job is None else job.seconds)

    def prepared(self, overrides: Overrides) -> Path:
        """The output of the prepare stage that a training was made from."""
        return input_folder(self.record(overrides), "prepare")

    def dataset(self, overrides: Overrides) -> DatasetRecord:
        """The `dataset.json` of the images that a training was made from."""
        return DatasetRecord.read(self.prepared(overrides))


class Budget:
    """Limits the number of trainings and the minutes of a cure, over all processes that resumed it.

    Args:
        trainings: Trainings of the cure; their folder keeps the minutes.
        max_runs: Largest number of trainings.
        max_minutes: Largest wall time in minutes; None: no limit.
        computing: Foresees what a training computes with the whole machine, without what it takes to start.
    """

    def __init__(
        self,
        trainings: Trainings,
        max_runs: int,
        max_minutes: float | None,
        computing: Callable[[Overrides], "Seconds"],
    ) -> None:
        self.trainings, self.max_runs, self.max_minutes = trainings, max_runs, max_minutes
        self._computing = cache(computing)
        self._file = trainings.folder / MINUTES_FILE
        with checksums.reading(self._file):
            self._earlier_minutes = float(self._file.read_text()) if self._file.exists() else 0.0
        self._begin = time.monotonic()

    def minutes(self) -> float:
        """Minutes that have gone by, which are kept for the next process."""
        minutes = self._earlier_minutes + (time.monotonic() - self._begin) / 60
        atomic.write_text(self._file, repr(minutes))
        return minutes

    def fits(self, trainings: Iterable[Overrides]) -> bool:
        """Whether those of `trainings` that have not run yet fit into the budget."""
        return not self._lack(trainings)

    def check(self, trainings: Iterable[Overrides]) -> None:
        """Make sure that those of `trainings` that have not run yet fit into the budget.

        Raises:
            BudgetSpent: They do not fit.
        """
        if lack := self._lack(trainings):
            raise BudgetSpent(lack)

    def _lack(self, trainings: Iterable[Overrides]) -> str:
        """A clause that names the limit of the budget that the trainings exceed; empty where they fit."""
        minutes, over = self.minutes(), list(filter(self.trainings.is_over, self.trainings.requested))
        new = [overrides for overrides in dict.fromkeys(trainings) if not self.trainings.is_over(overrides)]
        if not new:
            return ""
        if len(over) + len(new) > self.max_runs:
            spent = f"cure.max_runs={self.max_runs} is spent: {len(over)} trainings have run"
            return f"{spent}, and what comes next takes {len(new)}"
        needed = self._foreseen(new, over, minutes) if over else 0.0
        if self.max_minutes is None or minutes + needed <= self.max_minutes:
            return ""
        return (
            f"cure.max_minutes={self.max_minutes:g} is spent: {minutes:.1f} minutes have gone by, and what comes next takes "
            f"about {needed:.1f}"
        )

    def _foreseen(self, new: Sequence[Overrides], over: Sequence[Overrides], minutes: float) -> float:
        """The minutes that new trainings will take: what they compute, and what most needed beside that so far.

        One that differs from others in its seed or its fold alone computes as long as they did, without their features, which
        are kept; any other, as long as its network is foreseen to. The first trainings of a process also import libraries, so
        that they are not what most need.
        """
        times = {overrides: took for overrides in over if (took := self.trainings.seconds(overrides)) is not None}
        if not times:
            return len(new) * minutes / len(over)
        side_by_side = max(1.0, sum(took.job for took in times.values()) / (60 * minutes))
        besides = median(max(0.0, took.job - took.whole) for took in times.values()) / side_by_side
        seconds, unlike = len(new) * besides, []
        for overrides in new:
            alike = [took.alone for other, took in times.items() if _configuration(other) == _configuration(overrides)]
            if alike:
                seconds += fmean(alike) / side_by_side
            else:
                unlike.append(overrides)
        return (seconds + self._computed(unlike)) / 60

    def _computed(self, trainings: Sequence[Overrides]) -> float:
        """Seconds that trainings are foreseen to compute; features count once for all seeds and folds."""
        once = {_configuration(overrides): self._computing(overrides).once for overrides in trainings}
        return sum(self._computing(overrides).each for overrides in trainings) + sum(once.values())


def _configuration(overrides: Overrides) -> Overrides:
    """The overrides without those that tell the seeds and the folds of one configuration from another."""
    return tuple(override for override in overrides if not override.startswith(OF_REPETITIONS))


def _train_once(train: RunJob, composed: Any, overrides: tuple[str, ...], out: Path) -> None:
    """Train into the project's cache, unless the same training is there, and put its files into `out`."""
    config = validation.validate(composition.plain(composed))
    fingerprint = lineage.expected_fingerprint("train", config)
    cached = lineage.CACHE / f"trained-{fingerprint}"
    with lock.held(cached, wait=True):
        if checksums.is_whole(cached) and lineage.recorded_fingerprint(cached) == fingerprint:
            os.utime(cached)
            print(f"trained before: {os.path.relpath(cached)}")
        else:
            train(composed, overrides, cached)
    with atomic.folder(out) as scratch:
        shutil.copytree(cached, scratch, dirs_exist_ok=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    """Make a hard link, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
