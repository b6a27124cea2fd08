"""Prints the ranking of a sweep's jobs, draws it, and prints the command that adopts the best."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from pipeline import terminal
from pipeline.artefacts.run import RunRecord
from pipeline.errors import ConfigError
from pipeline.metrics import history
from pipeline.stage import lineage
from pipeline.storage import atomic
from pipeline.sweep import adoption, importance, leaderboard
from pipeline.sweep.records import JobResult


def print_table(jobs: Sequence[JobResult], monitor: str) -> None:
    """Print the ranking, best first: the overrides of each entry, and its metrics at its best epoch.

    Jobs that differ in their seed or fold alone are one row with mean ± sample standard deviation.
    """
    entries = leaderboard.rank(jobs, monitor)
    grouped = any(len(entry.jobs) > 1 for entry in entries)
    shown = list(dict.fromkeys((monitor, history.VAL_LOSS, history.VAL_ACCURACY, history.CLEAN_ACCURACY)))
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    over = " and ".join(leaderboard.REPEATED[key] for key in leaderboard.REPEATED if key in leaderboard.settings(jobs))
    how = f"; mean ± sample standard deviation over {over}" if over else ""
    title = f"{len(jobs)} jobs, sorted by {monitor} at the best epoch{how}"
    table = terminal.table(title)
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
    terminal.console().print(table)


def summarize(folder: Path, jobs: Sequence[JobResult], monitor: str) -> list[Path]:
    """Write `leaderboard.csv` and the pictures for which there are enough jobs into `folder`, and give the files' paths."""
    from pipeline.plotting import sweep as sweep_figures

    files = {"leaderboard.csv": leaderboard.to_csv(jobs, monitor).encode()}
    finished = [job for job in jobs if job.best is not None]
    settings, scores = leaderboard.settings(finished), [job.best[monitor] for job in finished if job.best is not None]
    if settings and len(finished) > 1:
        files["parallel_coordinates.png"] = sweep_figures.parallel_coordinates(
            settings, scores, monitor, higher_is_better=history.higher_is_better(monitor)
        )
        importances = importance.measure(settings, scores)
        if importances is None:
            needed = f"it needs {importance.MIN_JOBS} finished jobs with different results"
            print(f"no picture of importance: {needed}; there are {len(set(scores))}")
        else:
            files["importance.png"] = sweep_figures.importances(**asdict(importances), metric=monitor)
    for name, content in files.items():
        atomic.write_bytes(folder / name, content)
    return [folder / name for name in files]


def _mean_and_spread(entry: leaderboard.Entry, metric: str) -> str:
    spread = entry.spread(metric)
    return f"{entry.mean(metric):.4f}" + (f"\n± {spread:.4f}" if spread is not None else "")


def print_adoption(folder: Path, best: leaderboard.Entry) -> None:
    """Print the command that writes the best job's overrides into `params.yaml`."""
    numbers = sorted(job.number for job in best.jobs)
    names = ("jobs " if len(numbers) > 1 else "job ") + ", ".join(str(number) for number in numbers)
    winner = RunRecord.read(best.jobs[0].folder).config
    try:
        command = adoption.command(folder / ".source" / "conf", lineage.PROJECT / "params.yaml", winner)
    except ConfigError as error:  # params.yaml was edited since
        print(f"the best is {names}; params.yaml cannot adopt it as it stands: {error}")
        return
    if command is None:
        print(f"the best is {names}, which is what params.yaml says already")
    else:
        print(f"the best is {names}; this adopts it:\n{command}")
