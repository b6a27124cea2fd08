"""What surrounds the jobs of a sweep: a parent run in MLflow before them; a table, pictures and the winner after them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artefacts.job import OVER
from pipeline.artefacts.run import RunRecord
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.metrics import history
from pipeline.stage import lineage
from pipeline.storage import atomic
from pipeline.sweep import adoption, importance, leaderboard
from pipeline.sweep.records import JobResult, results
from pipeline.tracking.parent import Parent, parent_run
from pipeline.tracking.publish import log_model


@contextmanager
def sweep(folder: Path, overrides: list[str], config: Config) -> Iterator[None]:
    """Open the parent run, let the jobs run, then print the table, keep the winner's model and close the run.

    Args:
        folder: The sweep's folder, with a folder for each job in it.
        overrides: What the user gave on the command line.
        config: The configuration that all jobs start from; its section `tracking` counts.
    """
    monitor = config.train.monitor
    with parent_run(config.tracking, folder, "sweep", overrides) as parent:
        try:
            yield
        finally:
            jobs = results(folder, monitor)
            parent.incomplete = any(job.status not in OVER for job in jobs)
            if jobs:
                print_table(jobs, monitor)
                parent.add(summarize(folder, jobs, monitor), metrics={"jobs": len(jobs)})
            entries = leaderboard.rank(jobs, monitor)
            if entries:
                _log_winner(parent, entries[0], monitor)
                _print_adoption(folder, entries[0])


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
    from pipeline.plotting import sweep as sweep_figures

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


def _print_adoption(folder: Path, best: leaderboard.Entry) -> None:
    numbers = sorted(job.number for job in best.jobs)
    names = ("jobs " if len(numbers) > 1 else "job ") + ", ".join(str(number) for number in numbers)
    winner = RunRecord.read(best.jobs[0].folder).config
    try:
        command = adoption.command(folder / ".source" / "conf", lineage.PROJECT / "params.yaml", winner)
    except ConfigError as error:  # it was edited since
        print(f"the best is {names}; params.yaml cannot adopt it as it stands: {error}")
        return
    if command is None:
        print(f"the best is {names}, which is what params.yaml says already")
    else:
        print(f"the best is {names}; this adopts it:\n{command}")


def _log_winner(parent: Parent, best: leaderboard.Entry, monitor: str) -> None:
    """Name the winner in the parent run, and give the winner's run its model, which jobs leave out."""
    spread = best.spread(monitor)
    winner = RunRecord.read(best.jobs[0].folder).mlflow_run_id
    metrics = {monitor: best.mean(monitor), **({} if spread is None else {f"{monitor}_sd": spread})}
    tags = {"goodfit.winner": str(winner), "goodfit.winner_overrides": " ".join(best.overrides)}
    parent.add([], metrics=metrics, tags=tags)
    if parent.store is not None and winner is not None:
        try:
            log_model(parent.store, winner, best.jobs[0].folder)
        except Exception as error:
            print(f"tracking: the winner has no model in MLflow ({error})", file=sys.stderr)
