"""What surrounds the jobs of a sweep: a parent run in MLflow before them; a table, pictures and the winner after them."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.config.errors import ConfigError
from pipeline.config.schema import Config
from pipeline.fit import history
from pipeline.storage import atomic, lineage
from pipeline.sweep import adopting, importance, leaderboard
from pipeline.sweep.records import JobResult, results
from pipeline.tracking.store import Settings
from pipeline.tracking.training import PARENT_VARIABLE

PARENT_FILE = ".parent_run"
"""Names the parent run in the sweep's folder, so that a sweep which goes on after a kill has the same one."""


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
        monitor = config.train.monitor
        jobs = results(folder, monitor)
        if any(job.status not in ("finished", "pruned") for job in jobs) and status == "FINISHED":
            status = "FAILED"
        files = []
        if jobs:
            print_table(jobs, monitor)
            files = summarize(folder, jobs, monitor)
        parent.close(jobs, monitor, files, status)
        if status in ("FINISHED", "FAILED"):
            _print_adoption(folder, jobs, monitor)


def print_table(jobs: Sequence[JobResult], monitor: str) -> None:
    """Print the ranking, best first: what set each entry apart, and its measures at its best epoch.

    Jobs that differ in their seed alone are one row with mean ± sample standard deviation.
    """
    entries = leaderboard.rank(jobs, monitor)
    grouped = any(len(entry.jobs) > 1 for entry in entries)
    shown = list(dict.fromkeys((monitor, history.VAL_LOSS, history.VAL_ACCURACY, history.CLEAN_ACCURACY)))
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    how = "; mean ± sample standard deviation over seeds" if grouped else ""
    title = f"{len(jobs)} jobs, sorted by {monitor} at the best epoch{how}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("jobs" if grouped else "job", justify="right", overflow="fold", max_width=12)
    table.add_column("what sets it apart", overflow="fold")
    for column in (*(["n"] if grouped else []), "epoch", *shown, "seconds"):
        table.add_column(column.replace("/", "\n").replace("_", "\n"), justify="right", no_wrap=True)
    for entry in entries:
        own = entry.overrides if grouped else entry.jobs[0].overrides
        table.add_row(
            ", ".join(str(number) for number in sorted(job.number for job in entry.jobs)),
            Text("\n".join(override for override in own if override not in shared)),
            *([str(len(entry.repetitions))] if grouped else []),
            f"{entry.mean('epoch'):.0f}",
            *(_mean_and_spread(entry, metric) for metric in shown),
            f"{sum(job.seconds for job in entry.jobs) / len(entry.jobs):.1f}",
        )
    for job in (job for job in jobs if job.best is None):
        own = tuple(override for override in job.overrides if override not in shared)
        cells = [*([""] if grouped else []), job.status, *[""] * len(shown)]
        table.add_row(str(job.number), Text("\n".join((*own, str(job.error)))), *cells, f"{job.seconds:.1f}")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def summarize(folder: Path, jobs: Sequence[JobResult], monitor: str) -> list[Path]:
    """Write `leaderboard.csv` and the pictures that these jobs are enough for; gives their paths.

    Args:
        folder: The sweep's.
        jobs: As `results` gives them.
        monitor: The metric that decides.
    """
    from pipeline.page import sweep_figures

    files = {"leaderboard.csv": leaderboard.to_csv(jobs, monitor).encode()}
    finished = [job for job in jobs if job.best is not None]
    settings, scores = leaderboard.settings(finished), [job.best[monitor] for job in finished if job.best is not None]
    if settings and len(finished) > 1:
        better = history.higher_is_better(monitor)
        picture = sweep_figures.parallel_coordinates(settings, scores, monitor, higher_is_better=better)
        files["parallel_coordinates.png"] = picture
        measured = importance.measure(settings, scores)
        if measured is None:
            print(
                f"no picture of importance: it needs {importance.MIN_JOBS} finished jobs with different results; "
                f"there are {len(set(scores))}"
            )
        else:
            files["importance.png"] = sweep_figures.importances(**asdict(measured), metric=monitor)
    for name, content in files.items():
        atomic.write_bytes(folder / name, content)
    return [folder / name for name in files]


def _mean_and_spread(entry: leaderboard.Entry, metric: str) -> str:
    spread = entry.spread(metric)
    return f"{entry.mean(metric):.4f}" + (f"\n± {spread:.4f}" if spread is not None else "")


def _print_adoption(folder: Path, jobs: Sequence[JobResult], monitor: str) -> None:
    from pipeline.tracking.publish import read_record

    entries = leaderboard.rank(jobs, monitor)
    if not entries:
        return
    numbers = sorted(job.number for job in entries[0].jobs)
    best = ("jobs " if len(numbers) > 1 else "job ") + ", ".join(str(number) for number in numbers)
    winner = read_record(entries[0].jobs[0].folder)["config"]
    try:
        command = adopting.command(folder / ".source" / "conf", lineage.PROJECT / "params.yaml", winner)
    except ConfigError as error:  # it was edited since
        print(f"the best is {best}; params.yaml cannot adopt it as it stands: {error}")
        return
    if command is None:
        print(f"the best is {best}, which is what params.yaml says already")
    else:
        print(f"the best is {best}; this adopts it:\n{command}")


class _Parent:
    """The parent run; without a store that answers, the sweep goes on without one."""

    def __init__(self, settings: Settings, folder: Path, overrides: list[str]) -> None:
        self.store, self.run_id = None, None
        if not settings.enabled:
            return
        try:
            from pipeline.tracking.store import connect

            self.store = connect(settings)
            self.run_id = self._reopen(folder) or self._open(settings, folder, overrides)
            os.environ[PARENT_VARIABLE] = self.run_id
        except Exception as error:
            print(f"tracking: the sweep has no parent run ({error})", file=sys.stderr)

    def close(self, jobs: Sequence[JobResult], monitor: str, files: Sequence[Path], status: str) -> None:
        if self.store is None or self.run_id is None:
            return
        try:
            entries = leaderboard.rank(jobs, monitor)
            self.store.client.log_metric(self.run_id, "jobs", len(jobs))
            for path in files:
                self.store.client.log_artifact(self.run_id, str(path), "sweep")
            if entries:
                self._crown(entries[0], monitor)
            self.store.client.set_terminated(self.run_id, status)
        except Exception as error:
            print(f"tracking: the sweep's parent run is not complete ({error})", file=sys.stderr)

    def _open(self, settings: Settings, folder: Path, overrides: list[str]) -> str:
        assert self.store is not None
        tags = {"goodfit.sweep": " ".join(overrides), "goodfit.sweep_folder": str(folder), **settings.tags}
        begin_ms = int(time.time() * 1000)
        run = self.store.client.create_run(self.store.experiment_id, begin_ms, tags, f"sweep-{folder.name}")
        atomic.write_text(folder / PARENT_FILE, run.info.run_id)
        return str(run.info.run_id)

    def _reopen(self, folder: Path) -> str | None:
        from mlflow.exceptions import MlflowException

        assert self.store is not None
        if not (folder / PARENT_FILE).exists():
            return None
        run_id = (folder / PARENT_FILE).read_text()
        try:
            self.store.client.update_run(run_id, status="RUNNING")
        except MlflowException:
            return None  # the store does not know it: another machine, or a deleted store
        return run_id

    def _crown(self, entry: leaderboard.Entry, monitor: str) -> None:
        from pipeline.tracking.publish import log_model, read_record

        assert self.store is not None and self.run_id is not None
        job, spread = entry.jobs[0], entry.spread(monitor)
        winner = read_record(job.folder)["mlflow_run_id"]
        self.store.client.set_tag(self.run_id, "goodfit.winner", str(winner))
        self.store.client.set_tag(self.run_id, "goodfit.winner_overrides", " ".join(entry.overrides))
        self.store.client.log_metric(self.run_id, monitor, entry.mean(monitor))
        if spread is not None:
            self.store.client.log_metric(self.run_id, f"{monitor}_sd", spread)
        if winner is not None:
            log_model(self.store, winner, job.folder)
