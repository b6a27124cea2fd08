"""Shows many trainings in a table on the terminal while they run."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline import terminal
from pipeline.lab.trainings import Overrides, Trainings
from pipeline.metrics import history
from pipeline.sweep.job import LOG_VARIABLE

LOG = "jobs.log"
REFRESH_SECONDS = 0.5


@contextmanager
def shown(trainings: Trainings, selected: Sequence[Overrides], console: Console | None = None) -> Iterator[None]:
    """Within the block, the terminal shows a table of the trainings, and a file takes what they print.

    The trainings print as usual where the output is no terminal, where nothing is left to run, and where they run in this
    very process.

    Args:
        trainings: Trainings of the command.
        selected: Those that run in the block.
        console: Console to print on; None: the terminal, if there is one.
    """
    console = console or Console()
    in_this_process = any(override == "hydra/launcher=basic" for override in trainings.overrides)
    if not console.is_terminal or in_this_process or all(map(trainings.is_over, selected)):
        yield
        return
    os.environ[LOG_VARIABLE] = str(trainings.folder / LOG)
    ended = threading.Event()
    with Live(table(trainings, selected), console=console, auto_refresh=False, transient=True) as live:

        def refresh() -> None:
            while not ended.wait(REFRESH_SECONDS):
                live.update(table(trainings, selected), refresh=True)

        thread = threading.Thread(target=refresh, name="live", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            os.environ.pop(LOG_VARIABLE, None)


def table(trainings: Trainings, selected: Sequence[Overrides]) -> Table:
    """A row for each training: its overrides, its state, and its accuracies once it has finished."""
    unique = list(dict.fromkeys(selected))
    num_over = sum(map(trainings.is_over, unique))
    running = trainings.running()
    log = os.path.relpath(trainings.folder / LOG)
    filled = terminal.table(
        f"{num_over} of {len(unique)} trainings are over; what they print is in {log}",
        texts=("training", ""),
        numbers=("training", "validation", "gap"),
    )
    for overrides in unique:
        if trainings.has_finished(overrides):
            row = trainings.kept_row(overrides)
            train, val = row[history.CLEAN_ACCURACY], row[history.VAL_ACCURACY]
            filled.add_row(" ".join(overrides), "over", f"{train:.3f}", f"{val:.3f}", f"{train - val:.3f}")
        else:
            state = "failed" if trainings.is_over(overrides) else "runs" if overrides in running else "waits"
            filled.add_row(" ".join(overrides), state, "", "", "", style=None if state == "runs" else "dim")
    return filled
