"""What stands behind one repetition of a cure, and how two configurations are compared."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.lab.repetition import Confirmed, Folds, Seeds
from pipeline.metrics import paired


def test_a_repetition_is_one_seed_or_all_folds_of_one_division() -> None:
    asked = ("model.width=8", "seed=7")
    assert Seeds().trainings(asked) == [asked]
    parts = Folds(3).trainings(asked)
    common = ("model.width=8", "prepare.confirm_fraction=0", "prepare.folds=3", "prepare.repeat=7")
    assert parts == [(*common, f"prepare.fold={fold}", "seed=7") for fold in range(3)]


def test_repetitions_give_the_pairs_that_are_asked_for() -> None:
    assert Seeds().number(6) == 6
    assert [Folds(5).number(pairs) for pairs in (3, 5, 6, 11)] == [1, 1, 2, 3]


def confirmed(right: NDArray[np.bool_], fold: int = 0, train_accuracy: float = 0.9) -> Confirmed:
    return Confirmed({f"{fold} {image}": float(each) for image, each in enumerate(right)}, train_accuracy)


def test_the_gain_over_seeds_and_over_folds_is_the_mean_difference() -> None:
    before = [confirmed(np.arange(100) < count, fold) for fold, count in enumerate((50, 55, 60, 52, 58))]
    after = [confirmed(np.arange(100) < count, fold, 0.8) for fold, count in enumerate((54, 57, 66, 54, 62))]
    for repetition in (Seeds(), Folds(5)):
        found = repetition.compare(after, before)
        assert found.accuracy.mean == pytest.approx(0.036) and found.gap.mean == pytest.approx(-0.136)
        assert found.accuracy.low > 0 and found.p < 0.07


def test_repeats_on_the_same_images_narrow_an_interval_only_so_far() -> None:
    generator = np.random.default_rng(0)
    before = generator.random((5, 40)) < 0.5
    after = before ^ (generator.random((5, 40)) < 0.2)
    widths = {}
    for repeats in (1, 40):
        sides = ([confirmed(each, fold) for fold, each in enumerate(side)] * repeats for side in (after, before))
        found = Folds(5).compare(*sides).accuracy
        widths[repeats] = found.high - found.low
    alone = paired.paired_shares(after.ravel(), before.ravel())
    assert widths[40] == pytest.approx(alone.high - alone.low, rel=0.05) and widths[40] < widths[1]


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_chance_is_rarely_taken_for_a_gain(spread: float) -> None:
    """Two equal classifiers on 2 × 5 folds of 200 images, each as hard in both repeats; trainings differ by `spread`."""
    generator, alarms, number = np.random.default_rng(0), 0, 400
    for _ in range(number):
        hard = list(enumerate(generator.beta(2, 2, (5, 40)))) * 2
        sides = (
            [confirmed(generator.random(40) < each + generator.normal(0, spread), fold) for fold, each in hard]
            for _ in range(2)
        )
        alarms += Folds(5).compare(*sides).accuracy.excludes_zero
    assert alarms <= 0.07 * number, "95 % intervals, of 400 experiments"
