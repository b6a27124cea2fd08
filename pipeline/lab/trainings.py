"""Trainings side by side, each configuration with each seed trained once, whoever asked for it first."""

import json
import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.artefacts.job import FAILED, FINISHED, JobRecord
from pipeline.config import validation
from pipeline.errors import ShapeError, TrainingError
from pipeline.metrics import history
from pipeline.stage import lineage
from pipeline.stage.inputs import input_folder, read_run
from pipeline.storage import atomic, lock
from pipeline.sweep import driver, records
from pipeline.sweep.job import RunJob, running

Job = tuple[str, ...]
"""The overrides that set a training apart from the others of its question."""


_RESULTS = (TrainingError.__name__, ShapeError.__name__)
"""Failures that the configuration explains; any other one, such as a full disk, tells nothing of it."""


class Trainings:
    """The trainings of one question, in the folder of a sweep, which the caller holds.

    Args:
        command: The name of the command that asks, under which `--resume` goes on.
        folder: From `pipeline.sweep.driver.create`; may hold trainings of an earlier try.
        overrides: What all have in common, launcher included.
        train: Runs one training.
    """

    def __init__(self, command: str, folder: Path, overrides: list[str], train: RunJob) -> None:
        self.command, self.folder, self.overrides, self.train = command, folder, overrides, train
        self.jobs: list[Job] = records.read_jobs(folder)

    def run(self, jobs: Iterable[Job], *, may_diverge: bool = False) -> None:
        """Train what has not been trained yet, as Hydra's launcher says.

        Args:
            jobs: Which.
            may_diverge: Take a training whose loss left the finite numbers for a result; `finished` tells which did not.

        Raises:
            UserError: Some trainings did not finish.
        """
        self.jobs = list(dict.fromkeys([*self.jobs, *jobs]))
        results = _RESULTS if may_diverge else ()
        if not all(records.is_over(self.of(job), results) for job in self.jobs):
            once = partial(_once, self.train)
            driver.run_listed(self.command, self.folder, self.overrides, self.jobs, once, results)

    def over(self, job: Job) -> bool:
        """Whether it has run, to its end or until its loss left the finite numbers, or cannot run with these images."""
        return job in self.jobs and records.is_over(self.of(job), _RESULTS)

    def fits(self, job: Job) -> bool:
        """Whether the images were large enough for the network."""
        return not self._error(job).startswith(ShapeError.__name__)

    def finished(self, job: Job) -> bool:
        """Whether it has run to its end."""
        return job in self.jobs and records.status(self.of(job)) == FINISHED

    def _error(self, job: Job) -> str:
        """Why it failed; empty where it did not."""
        if job not in self.jobs or records.status(self.of(job)) != FAILED:
            return ""
        return str(JobRecord.read(self.of(job)).error)

    def of(self, job: Job) -> Path:
        """The folder of a training that has run."""
        return self.folder / str(self.jobs.index(job))

    def running(self) -> list[Job]:
        """Those that a process is at work on."""
        return [self.jobs[int(out.name)] for out in running(self.folder) if int(out.name) < len(self.jobs)]

    def rows(self, job: Job) -> list[dict[str, float]]:
        """Its history."""
        return history.read_csv(self.of(job) / "history.csv")

    def record(self, job: Job) -> dict[str, Any]:
        """Its `run.json`."""
        return read_run(self.of(job), "the folder")

    def dataset(self, job: Job) -> dict[str, Any]:
        """The `dataset.json` of what it was trained on."""
        prepared = input_folder(self.record(job), "prepare")
        content: dict[str, Any] = json.loads((prepared / "dataset.json").read_text())
        return content


def _once(train: RunJob, composed: Any, overrides: tuple[str, ...], out: Path) -> None:
    """Train into the project's cache, unless it has been done, and put the same files into `out`."""
    from omegaconf import OmegaConf

    config = validation.validate(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]
    name = lineage.expected_fingerprint("train", config)
    kept = lineage.CACHE / f"trained-{name}"
    with lock.held(kept, wait=True):
        if lineage.recorded_fingerprint("train", kept) == name:
            os.utime(kept)
            print(f"trained before: {os.path.relpath(kept)}")
        else:
            train(composed, overrides, kept)
    with atomic.folder(out) as scratch:
        shutil.copytree(kept, scratch, dirs_exist_ok=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    """A second name for the same bytes, or a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
