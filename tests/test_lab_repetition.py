"""What stands behind one repetition of a cure, and how two configurations are compared."""

import numpy as np
import pytest

from pipeline.lab.repetition import Folds, Seeds
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


def test_folds_that_share_training_images_count_for_less_than_seeds() -> None:
    before = np.linspace(0.5, 0.6, 10)
    after = before + np.tile([0.02, 0.04], 5)
    seeds, _ = Seeds().compare(after.tolist(), before.tolist())
    folds, p_of_folds = Folds(5).compare(after.tolist(), before.tolist())
    assert seeds.mean == folds.mean == pytest.approx(0.03)
    assert folds.high - folds.low == pytest.approx((seeds.high - seeds.low) * np.sqrt(1 + 10 / 4))
    assert p_of_folds > paired.t_p(seeds)


def test_chance_is_rarely_taken_for_a_gain_by_the_corrected_interval() -> None:
    """Values of two equal classifiers on 2 × 5 folds, whose shared training images are worth a correlation of 1/5."""
    generator = np.random.default_rng(0)
    alarms = {"corrected": 0, "plain": 0}
    for _ in range(400):
        differences = generator.normal(0, np.sqrt(0.2)) + generator.normal(0, np.sqrt(0.8), 10)
        alarms["corrected"] += Folds(5).compare(differences.tolist(), [0.0] * 10)[0].excludes_zero
        alarms["plain"] += Seeds().compare(differences.tolist(), [0.0] * 10)[0].excludes_zero
    assert alarms["corrected"] <= 0.05 * 400 < 0.15 * 400 <= alarms["plain"], alarms
