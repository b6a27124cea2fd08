"""How much a command may still train: a number of trainings, and minutes, over all the times it was taken up again."""

import time
from collections.abc import Sequence

from pipeline.lab.trainings import Job, Trainings
from pipeline.storage import atomic

FILE = ".minutes"


class BudgetSpent(Exception):
    """What comes next does not fit into the budget; the message says which of the two is spent."""


class Budget:
    """Counts what the trainings of a question cost.

    Args:
        trainings: Of the question; their folder remembers the minutes over a kill.
        max_runs: Trainings at most.
        max_minutes: Of wall time at most; None: no limit.
    """

    def __init__(self, trainings: Trainings, max_runs: int, max_minutes: float | None) -> None:
        self.trainings, self.max_runs, self.max_minutes = trainings, max_runs, max_minutes
        self._file = trainings.folder / FILE
        self._earlier = float(self._file.read_text()) if self._file.exists() else 0.0
        self._begin = time.monotonic()
        self._begun_with = sum(trainings.over(job) for job in trainings.jobs)

    def spend(self, jobs: Sequence[Job]) -> None:
        """Make sure that those of `jobs` that have not run still fit.

        Raises:
            BudgetSpent: They do not, by what the trainings so far have taken.
        """
        over = sum(self.trainings.over(job) for job in self.trainings.jobs)
        new = sum(not self.trainings.over(job) for job in dict.fromkeys(jobs))
        minutes = self._earlier + (time.monotonic() - self._begin) / 60
        atomic.write_text(self._file, repr(minutes))
        if not new:
            return
        if over + new > self.max_runs:
            raise BudgetSpent(
                f"cure.max_runs={self.max_runs} is spent: {over} trainings have run, and what comes next takes {new}"
            )
        needed = new * minutes / over if over else 0.0
        if self.max_minutes is not None and minutes + needed > self.max_minutes:
            raise BudgetSpent(
                f"cure.max_minutes={self.max_minutes:g} is spent: {minutes:.1f} minutes have gone by, and what comes next "
                f"takes about {needed:.1f}"
            )
