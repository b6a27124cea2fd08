"""What the folder of a sweep tells: what was asked for, and how each of its jobs ended."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.metrics import history
from pipeline.storage import atomic

JOB_FILE = "job.json"
FINISHED, PRUNED, FAILED, SKIPPED, STOPPED = "finished", "pruned", "failed", "skipped", "stopped"
OVER = (FINISHED, PRUNED)
"""What a job ends as that is not run again."""

_REQUEST, _JOBS = "sweep.json", "jobs.json"


@dataclass(frozen=True)
class JobResult:
    """One job of a sweep: what set it apart, how it ended, and its row of the best epoch where it finished."""

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
    except (OSError, ValueError):
        request = {"stage": None}
    if request["stage"] != stage:
        raise DataError(
            f"--resume must name the folder of a sweep of {stage}; got {str(folder)!r}. "
            f"`ls multirun/{stage}` lists those there are."
        )
    overrides: list[str] = request["overrides"]
    return overrides


def add_overrides(folder: Path, stage: str, overrides: list[str]) -> None:
    """Note what was decided while the sweep ran, so that one which goes on decides the same."""
    write_request(folder / ".source", stage, [*read_request(folder, stage), *overrides])


def write_jobs(folder: Path, jobs: Sequence[Sequence[str]]) -> None:
    """Note the overrides of each job, for a sweep whose jobs are a list."""
    atomic.write_text(folder / ".source" / _JOBS, json.dumps([list(job) for job in jobs], indent=2))


def read_jobs(folder: Path) -> list[tuple[str, ...]]:
    """The overrides of each job; none where nobody has asked for one yet."""
    path = folder / ".source" / _JOBS
    return [tuple(job) for job in json.loads(path.read_text())] if path.exists() else []


def write(out: Path, overrides: tuple[str, ...], status: str, error: str | None, seconds: float) -> None:
    """Note in the job's folder how it ended."""
    record = {"overrides": overrides, "status": status, "error": error, "seconds": seconds}
    atomic.write_text(out / JOB_FILE, json.dumps(record))


def status(out: Path) -> str | None:
    """How the job in this folder ended; None while it has not."""
    return str(read(out)["status"]) if (out / JOB_FILE).exists() else None


def is_over(out: Path, results: tuple[str, ...] = ()) -> bool:
    """Whether the job in this folder is not run again.

    Args:
        out: The job's folder.
        results: Names of the errors with which a job that failed counts as over too.
    """
    if not (out / JOB_FILE).exists():
        return False
    record = read(out)
    return record["status"] in OVER or (record["status"] == FAILED and str(record["error"]).startswith(results))


def read(out: Path) -> dict[str, Any]:
    """What the job in this folder noted at its end."""
    content: dict[str, Any] = json.loads((out / JOB_FILE).read_text())
    return content


def folders(sweep: Path) -> list[Path]:
    """The folders of the jobs that have ended, in the order of their numbers."""
    return sorted((path.parent for path in sweep.glob(f"[0-9]*/{JOB_FILE}")), key=lambda out: int(out.name))


def forget(folder: Path, statuses: tuple[str, ...]) -> None:
    """Remove the records of the jobs that ended like this, so that they run again."""
    for out in folders(folder):
        if status(out) in statuses:
            (out / JOB_FILE).unlink()


def result(out: Path) -> JobResult:
    """What the job in this folder came to."""
    record, best = read(out), None
    if record["status"] == FINISHED:
        best_epoch = json.loads((out / "run.json").read_text())["best_epoch"]
        best = history.read_csv(out / "history.csv")[best_epoch - 1]
    ending = record["status"], record["error"], record["seconds"]
    return JobResult(int(out.name), out, tuple(record["overrides"]), *ending, best)


def results(folder: Path, monitor: str) -> list[JobResult]:
    """The jobs of the sweep in `folder`, the best by `monitor` first, those that did not finish last."""
    sign = -1 if history.higher_is_better(monitor) else 1
    jobs = [result(out) for out in folders(folder)]
    return sorted(jobs, key=lambda job: (job.best is None, sign * job.best[monitor] if job.best else 0, job.number))
