"""The budget of a cure in trainings and in minutes, over all processes that resumed it."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.lab.foresight import Seconds
from pipeline.lab.trainings import MINUTES_FILE, Budget, BudgetSpent, Overrides, Took


class Trainings:
    """Stands in for those of `pipeline.lab.trainings`: trainings that are over or not."""

    def __init__(self, folder: Path, done: list[Overrides], besides: list[float]) -> None:
        self.folder, self.requested, self.besides = folder, done, besides

    def is_over(self, overrides: Overrides) -> bool:
        return overrides in self.requested

    def seconds(self, overrides: Overrides) -> Took:
        alone, whole = computing(overrides).each, sum(computing(overrides))
        return Took(alone, whole, whole + self.besides[self.requested.index(overrides)])


def computing(overrides: Overrides) -> Seconds:
    if "model=efficientnet" in overrides:
        return Seconds(4.0, 156.0) if "model.train_layers=head" in overrides else Seconds(160.0, 0.0)
    return Seconds(10.0, 0.0)


def budget(folder: Path, done: int | list[Overrides], besides: list[float] | None = None, **limits: Any) -> Budget:
    names = [(str(number),) for number in range(done)] if isinstance(done, int) else done
    trainings: Any = Trainings(folder, names, besides or [0.0] * len(names))
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
    slow = {"besides": [110.0] * 4, "max_minutes": 11}  # and 10 s of computing: two minutes, one after the other
    budget(tmp_path, 4, **slow).check(some(4))
    with pytest.raises(
        BudgetSpent, match=r"cure.max_minutes=11 is spent: 8.0 minutes have gone by, .* takes about 4.0"
    ):
        budget(tmp_path, 4, **slow).check(some(4, 5))
    assert float((tmp_path / MINUTES_FILE).read_text()) == pytest.approx(8.0, abs=0.1)


def test_the_first_trainings_which_import_libraries_are_not_taken_for_the_usual(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text(repr(70 / 60))  # of five, two at once: sums of 140 s
    with pytest.raises(BudgetSpent, match=r"takes about 0\.8"):  # 10 s of the machine, and half of 5 s, each
        budget(tmp_path, 5, besides=[40.0, 40.0, 5.0, 5.0, 0.0], max_minutes=1).check(some(5, 6, 7, 8))


LENETS: list[Overrides] = [(f"seed={seed}",) for seed in range(3)]
LARGE: Overrides = ("model=efficientnet", "seed=0")


def test_a_training_unlike_any_other_is_foreseen_by_its_network(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text("0.5")  # three trainings of 10 s, one after the other
    found = budget(tmp_path, LENETS, max_minutes=3)
    assert found.fits([("augment=strong", "seed=0")]) and not found.fits([LARGE])
    with pytest.raises(BudgetSpent, match=r"takes about 2\.7"):  # 160 s
        found.check([LARGE])


HEAD = ("model=efficientnet", "model.train_layers=head")


def head(*folds: int, seed: int = 0) -> list[Overrides]:
    return [(*HEAD, f"prepare.fold={fold}", f"seed={seed}") for fold in folds]


def test_features_are_foreseen_once_for_all_folds(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text("0.5")
    found = budget(tmp_path, LENETS, max_minutes=3)
    with pytest.raises(BudgetSpent, match=r"takes about 2\.9"):  # 156 s, and 4 s for each of 5
        found.check(head(0, 1, 2, 3, 4))


def test_other_seeds_and_folds_take_what_the_first_took_without_its_features(tmp_path: Path) -> None:
    (tmp_path / MINUTES_FILE).write_text(repr(190 / 60))  # 3 of 10 s and one of 160 s
    found = budget(tmp_path, [*LENETS, *head(0)], max_minutes=3.2)
    for others in (head(1, 2, 3), head(0, 1, 2, seed=1)):
        with pytest.raises(BudgetSpent, match=r"takes about 0\.2"):  # 4 s each
            found.check(others)
    slow: list[Overrides] = [("model=efficientnet", f"seed={seed}") for seed in (0, 1)]
    with pytest.raises(BudgetSpent, match=r"takes about 2\.7"):  # 160 s
        budget(tmp_path, [*LENETS, slow[0]], max_minutes=3.2).check(slow[1:])
