"""Reads and writes the folder of a sweep: the request, the list of jobs, and the results of the jobs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts.job import FINISHED, JobRecord
from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.errors import DataError
from pipeline.metrics import history
from pipeline.storage import atomic, checksums

_REQUEST, _JOBS = "sweep.json", "jobs.json"


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        number: Number of the job in its sweep.
        folder: Folder of the job.
        overrides: Overrides that set the job apart from the others.
        status: Status in which the job ended.
        error: Why it did not finish; None where it did.
        seconds: Time that the job took.
        best: Row of the history at the best epoch; None where the job did not finish.
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]
    status: str
    error: str | None
    seconds: float
    best: dict[str, float] | None


def write_request(source: Path, stage: str, overrides: list[str]) -> None:
    """Note what a sweep was asked for, beside its copy of the configuration."""
    atomic.write_text(source / _REQUEST, json.dumps({"stage": stage, "overrides": overrides}, indent=2))


def read_request(folder: Path, stage: str) -> list[str]:
    """The overrides that the sweep in `folder` was asked for.

    Raises:
        DataError: The folder holds no sweep of this stage.
    """
    try:
        request = json.loads((folder / ".source" / _REQUEST).read_text())
        known, overrides = request["stage"], [str(override) for override in request["overrides"]]
    except (OSError, ValueError, LookupError, TypeError):
        known, overrides = None, []
    if known != stage:
        raise DataError(
            f"--resume must name the folder of a sweep of {stage}; got {str(folder)!r}. "
            f"`ls multirun/{stage}` lists those there are."
        )
    return overrides


def add_overrides(folder: Path, stage: str, overrides: list[str]) -> None:
    """Note what was decided while the sweep ran, so that one which goes on decides the same."""
    write_request(folder / ".source", stage, [*read_request(folder, stage), *overrides])


def write_jobs(folder: Path, jobs: Sequence[Sequence[str]]) -> None:
    """Note the overrides of each job, for a sweep whose jobs are a list."""
    atomic.write_text(folder / ".source" / _JOBS, json.dumps([list(job) for job in jobs], indent=2))


def read_jobs(folder: Path) -> list[tuple[str, ...]]:
    """The overrides of each job; none where nobody has asked for one yet.

    Raises:
        DamagedError: Their list cannot be read.
    """
    path = folder / ".source" / _JOBS
    if not path.exists():
        return []
    with checksums.reading(path):
        return [tuple(map(str, job)) for job in json.loads(path.read_text())]


def record(out: Path) -> JobRecord | None:
    """The record of the job in this folder; None while it has not ended."""
    return JobRecord.read(out) if (out / JobRecord.FILE).exists() else None


def status(out: Path) -> str | None:
    """The status in which the job in this folder ended; None while it has not."""
    ended = record(out)
    return None if ended is None else ended.status


def is_over(out: Path, results: tuple[str, ...] = ()) -> bool:
    """Whether the job in this folder is not run again; one that failed with an error named in `results` is over too."""
    ended = record(out)
    return ended is not None and ended.is_over(results)


def folders(sweep: Path) -> list[Path]:
    """The folders of the jobs that have ended, in the order of their numbers."""
    return sorted((path.parent for path in sweep.glob(f"[0-9]*/{JobRecord.FILE}")), key=lambda out: int(out.name))


def forget(folder: Path, statuses: tuple[str, ...]) -> None:
    """Remove the records of the jobs that ended like this, so that they run again."""
    for out in folders(folder):
        if status(out) in statuses:
            (out / JobRecord.FILE).unlink()


def result(out: Path) -> JobResult:
    """The result of the job in this folder."""
    job, best = JobRecord.read(out), None
    if job.status == FINISHED:
        best = read_rows(out)[RunRecord.read(out).best_epoch - 1]
    return JobResult(int(out.name), out, job.overrides, job.status, job.error, job.seconds, best)


def results(folder: Path, monitor: str) -> list[JobResult]:
    """The jobs of the sweep in `folder`, the best by `monitor` first, those that did not finish last."""
    sign = -1 if history.higher_is_better(monitor) else 1
    jobs = [result(out) for out in folders(folder)]
    return sorted(jobs, key=lambda job: (job.best is None, sign * job.best[monitor] if job.best else 0, job.number))
