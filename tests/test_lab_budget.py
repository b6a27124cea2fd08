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

    def seconds(self, overrides: Overrides) -> tuple[float, float]:
        """Of a training alone, and with the features of its images."""
        return computing(overrides), computing(overrides) + 20.0 * ("model=efficientnet" in overrides)


def computing(overrides: Overrides) -> float:
    return 160.0 if "model=efficientnet" in overrides else 10.0


def budget(folder: Path, done: int | list[Overrides], **limits: Any) -> Budget:
    names = [(str(number),) for number in range(done)] if isinstance(done, int) else done
    trainings: Any = Trainings(folder, names)
    return Budget(trainings, **{"max_runs": 10, "max_minutes": None, "computing": computing, **limits})


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


LENETS: list[Overrides] = [(f"seed={seed}",) for seed in range(3)]
LARGE: Overrides = ("model=efficientnet", "seed=0")


def test_a_training_unlike_any_other_is_foreseen_by_its_network(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text("0.5")  # three trainings of 10 s, one after the other
    found = budget(tmp_path, LENETS, max_minutes=3)
    assert found.fits([("augment=strong", "seed=0")]) and not found.fits([LARGE])
    with pytest.raises(BudgetSpent, match=r"takes about 2\.7"):  # 160 s
        found.check([LARGE])


def test_another_seed_takes_what_the_first_one_took_without_its_features(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text(repr(210 / 60))  # 3 of 10 s and one of 180 s
    again: Overrides = ("model=efficientnet", "seed=1")
    found = budget(tmp_path, [*LENETS, LARGE], max_minutes=3.5)
    with pytest.raises(BudgetSpent, match=r"takes about 2\.7"):  # 160 s
        found.check([again])


def test_another_fold_takes_what_the_first_one_took_with_its_features(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text(repr(210 / 60))
    first, other = (("model=efficientnet", f"prepare.fold={fold}", "seed=0") for fold in (0, 1))
    found = budget(tmp_path, [*LENETS, first], max_minutes=3.5)
    with pytest.raises(BudgetSpent, match=r"takes about 3\.0"):  # 180 s
        found.check([other])
