"""A budget in trainings and in minutes, over all the times a command was taken up again."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.lab.budget import FILE, Budget, BudgetSpent

Job = tuple[str, ...]


class Trainings:
    """Stands for those of `pipeline.lab.trainings`: jobs that are over or not."""

    def __init__(self, folder: Path, done: list[Job]) -> None:
        self.folder, self.jobs = folder, done

    def over(self, job: Job) -> bool:
        return job in self.jobs


def budget(folder: Path, done: int, **limits: Any) -> Budget:
    trainings: Any = Trainings(folder, [(str(number),) for number in range(done)])
    return Budget(trainings, **{"max_runs": 10, "max_minutes": None, **limits})


def jobs(*numbers: int) -> list[Job]:
    return [(str(number),) for number in numbers]


def test_trainings_that_were_run_cost_nothing(tmp_path: Path) -> None:
    budget(tmp_path, done=10).spend(jobs(0, 1, 2))
    budget(tmp_path, done=8).spend(jobs(0, 8, 9, 9))


def test_more_trainings_than_are_left_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent, match=r"cure.max_runs=10 is spent: 8 trainings have run, .* takes 3"):
        budget(tmp_path, done=8).spend(jobs(8, 9, 10))


def test_minutes_of_earlier_times_count_and_what_comes_next_is_foreseen(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("8.0")
    budget(tmp_path, done=4, max_minutes=11).spend(jobs(4))
    with pytest.raises(
        BudgetSpent, match=r"cure.max_minutes=11 is spent: 8.0 minutes have gone by, .* takes about 4.0"
    ):
        budget(tmp_path, done=4, max_minutes=11).spend(jobs(4, 5))
    assert float((tmp_path / FILE).read_text()) == pytest.approx(8.0, abs=0.1)
