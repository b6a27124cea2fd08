"""What surrounds the jobs of a sweep: a parent run in MLflow before them, a table and the winner's model after them."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.config.schema import Config
from pipeline.fit import history
from pipeline.tracking.store import Settings
from pipeline.tracking.training import PARENT_VARIABLE


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


@contextmanager
def sweep(folder: Path, overrides: list[str], config: Config) -> Iterator[None]:
    """Open the parent run, let the jobs run, then print the table, keep the winner's model and close the run.

    Args:
        folder: The sweep's folder, with a folder for each job in it.
        overrides: What the user gave on the command line.
        config: The configuration that all jobs start from; its section `tracking` counts.
    """
    parent = _Parent(Settings(**asdict(config.tracking)), folder, overrides)
    status = "KILLED"
    try:
        yield
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        os.environ.pop(PARENT_VARIABLE, None)
        jobs = results(folder, config.train.monitor)
        print_table(jobs, config.train.monitor)
        if any(job.status != "finished" for job in jobs) and status == "FINISHED":
            status = "FAILED"
        parent.close(jobs, config.train.monitor, status)


def results(folder: Path, monitor: str) -> list[JobResult]:
    """The jobs of the sweep in `folder`, the best by `monitor` first, those that did not finish last."""
    jobs = []
    for path in folder.glob("*/job.json"):
        record: dict[str, Any] = json.loads(path.read_text())
        best = None
        if record["status"] == "finished":
            best_epoch = json.loads((path.parent / "run.json").read_text())["best_epoch"]
            best = history.read_csv(path.parent / "history.csv")[best_epoch - 1]
        number, overrides = int(path.parent.name), tuple(record["overrides"])
        ending = record["status"], record["error"], record["seconds"]
        jobs.append(JobResult(number, path.parent, overrides, *ending, best))
    sign = -1 if history.higher_is_better(monitor) else 1
    return sorted(jobs, key=lambda job: (job.best is None, sign * job.best[monitor] if job.best else 0, job.number))


def print_table(jobs: list[JobResult], monitor: str) -> None:
    """Print the jobs, best first, with what set each apart and its measures at its best epoch."""
    shown = list(dict.fromkeys((monitor, history.VAL_LOSS, history.VAL_ACCURACY, history.CLEAN_ACCURACY)))
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    table = Table(title=f"{len(jobs)} jobs, sorted by {monitor} at the best epoch", title_justify="left")
    table.add_column("job", justify="right")
    table.add_column("what sets it apart", overflow="fold")
    for column in ("epoch", *shown, "seconds"):
        table.add_column(column.replace("/", "\n"), justify="right")
    for job in jobs:
        own = [override for override in job.overrides if override not in shared]
        if job.best is None:
            cells = [job.status, *[""] * len(shown)]
            own.append(str(job.error))
        else:
            cells = [str(int(job.best["epoch"])), *(f"{job.best[column]:.4f}" for column in shown)]
        table.add_row(str(job.number), Text("\n".join(own)), *cells, f"{job.seconds:.1f}")
    Console().print(table)


class _Parent:
    """The parent run; without a store that answers, the sweep goes on without one."""

    def __init__(self, settings: Settings, folder: Path, overrides: list[str]) -> None:
        self.store, self.run_id = None, None
        if not settings.enabled:
            return
        try:
            from pipeline.tracking.store import connect

            self.store = connect(settings)
            tags = {"goodfit.sweep": " ".join(overrides), "goodfit.sweep_folder": str(folder), **settings.tags}
            run = self.store.client.create_run(
                self.store.experiment_id, int(time.time() * 1000), tags, f"sweep-{folder.name}"
            )
            self.run_id = run.info.run_id
            os.environ[PARENT_VARIABLE] = run.info.run_id
        except Exception as error:
            print(f"tracking: the sweep has no parent run ({error})", file=sys.stderr)

    def close(self, jobs: list[JobResult], monitor: str, status: str) -> None:
        if self.store is None or self.run_id is None:
            return
        try:
            best = next((job for job in jobs if job.best is not None), None)
            self.store.client.log_metric(self.run_id, "jobs", len(jobs))
            if best is not None and best.best is not None:
                self._crown(best, monitor)
            self.store.client.set_terminated(self.run_id, status)
        except Exception as error:
            print(f"tracking: the sweep's parent run is not complete ({error})", file=sys.stderr)

    def _crown(self, job: JobResult, monitor: str) -> None:
        from pipeline.tracking.publish import log_model, read_record

        assert self.store is not None and self.run_id is not None and job.best is not None
        winner = read_record(job.folder)["mlflow_run_id"]
        self.store.client.set_tag(self.run_id, "goodfit.winner", str(winner))
        self.store.client.set_tag(self.run_id, "goodfit.winner_overrides", " ".join(job.overrides))
        self.store.client.log_metric(self.run_id, monitor, job.best[monitor])
        if winner is not None:
            log_model(self.store, winner, job.folder)
