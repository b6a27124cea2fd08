"""Surrounds the jobs of a sweep: opens their parent run, then ranks them and logs the winner's model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.artefacts.job import OVER
from pipeline.config.schema import Config
from pipeline.sweep import leaderboard
from pipeline.sweep.records import results
from pipeline.sweep.summary import print_adoption, print_table, summarize
from pipeline.tracking import packages
from pipeline.tracking.parent import Parent, parent_run


@contextmanager
def sweep(folder: Path, overrides: list[str], config: Config) -> Iterator[None]:
    """Open the parent run and let the jobs run; then print the table, log the winner's model and close the run.

    The arguments are those of `pipeline.sweep.driver.Surround`.
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
                _log_winner(parent, entries[0], config)
                print_adoption(folder, entries[0])
                packages.say(Path(os.path.relpath(entries[0].jobs[0].folder)))


def _log_winner(parent: Parent, best: leaderboard.Entry, config: Config) -> None:
    """Name the winner in the parent run, and make its package, which jobs leave out."""
    monitor = config.train.monitor
    spread = best.spread(monitor)
    metrics = {monitor: best.mean(monitor), **({} if spread is None else {f"{monitor}_sd": spread})}
    parent.add([], metrics=metrics, tags={"goodfit.winner_overrides": " ".join(best.overrides)})
    winner = best.jobs[0].folder
    parent.crown(winner)
    packages.make(winner, config)
