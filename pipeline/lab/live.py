"""A table on the terminal that shows many trainings while they run."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.lab.trainings import Job, Trainings
from pipeline.metrics import history
from pipeline.sweep.job import LOG_VARIABLE

LOG = "jobs.log"
SECONDS = 0.5


@contextmanager
def shown(trainings: Trainings, jobs: Sequence[Job], console: Console | None = None) -> Iterator[None]:
    """Within the block, a terminal shows what each training is at, and what they print goes into a file.

    Where the output is no terminal, where nothing is to be trained, and where the trainings have no processes of their own,
    they print as they do.

    Args:
        trainings: Of which `jobs` are trained in the block.
        jobs: Which.
        console: Where to; None: the terminal, if there is one.
    """
    console = console or Console()
    here = any(override == "hydra/launcher=basic" for override in trainings.overrides)
    if not console.is_terminal or here or all(trainings.over(job) for job in jobs):
        yield
        return
    os.environ[LOG_VARIABLE] = str(trainings.folder / LOG)
    over = threading.Event()
    with Live(table(trainings, jobs), console=console, auto_refresh=False, transient=True) as live:

        def follow() -> None:
            while not over.wait(SECONDS):
                live.update(table(trainings, jobs), refresh=True)

        follower = threading.Thread(target=follow, name="live", daemon=True)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()
            os.environ.pop(LOG_VARIABLE, None)


def table(trainings: Trainings, jobs: Sequence[Job]) -> Table:
    """A row for each training: what sets it apart, whether it waits, runs or is over, and what it came to."""
    unique = list(dict.fromkeys(jobs))
    over = sum(trainings.over(job) for job in unique)
    running = trainings.running()
    found = Table(
        title=f"{over} of {len(unique)} trainings are over; what they print is in {os.path.relpath(trainings.folder / LOG)}",
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    found.add_column("training", no_wrap=True)
    found.add_column("", no_wrap=True)
    for name in ("training", "validation", "gap"):
        found.add_column(name, justify="right", no_wrap=True)
    for job in unique:
        if trainings.finished(job):
            kept = trainings.rows(job)[trainings.record(job)["best_epoch"] - 1]
            train, val = kept[history.CLEAN_ACCURACY], kept[history.VAL_ACCURACY]
            found.add_row(" ".join(job), "over", f"{train:.3f}", f"{val:.3f}", f"{train - val:.3f}")
        else:
            state = "failed" if trainings.over(job) else "runs" if job in running else "waits"
            found.add_row(" ".join(job), state, "", "", "", style=None if state == "runs" else "dim")
    return found
