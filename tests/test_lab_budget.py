"""The budget of a cure in trainings and in minutes, over all processes that resumed it."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.lab.trainings import MINUTES_FILE, Budget, BudgetSpent, Overrides


class Trainings:
    """Stands in for those of `pipeline.lab.trainings`: trainings that are over or not."""

    def __init__(self, folder: Path, done: list[Overrides]) -> None:
        self.folder, self.requested = folder, done

    def is_over(self, overrides: Overrides) -> bool:
        return overrides in self.requested


def budget(folder: Path, done: int, **limits: Any) -> Budget:
    trainings: Any = Trainings(folder, [(str(number),) for number in range(done)])
    return Budget(trainings, **{"max_runs": 10, "max_minutes": None, **limits})


def some(*numbers: int) -> list[Overrides]:
    return [(str(number),) for number in numbers]


def test_trainings_that_were_run_cost_nothing(tmp_path: Path) -> None:
    budget(tmp_path, done=10).check(some(0, 1, 2))
    budget(tmp_path, done=8).check(some(0, 8, 9, 9))


def test_more_trainings_than_are_left_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent, match=r"cure.max_runs=10 is spent: 8 trainings have run, .* takes 3"):
        budget(tmp_path, done=8).check(some(8, 9, 10))


def test_minutes_of_earlier_times_count_and_what_comes_next_is_foreseen(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text("8.0")
    budget(tmp_path, done=4, max_minutes=11).check(some(4))
    with pytest.raises(
        BudgetSpent, match=r"cure.max_minutes=11 is spent: 8.0 minutes have gone by, .* takes about 4.0"
    ):
        budget(tmp_path, done=4, max_minutes=11).check(some(4, 5))
    assert float((tmp_path / MINUTES_FILE).read_text()) == pytest.approx(8.0, abs=0.1)
