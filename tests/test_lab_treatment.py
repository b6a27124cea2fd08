"""The decisions of a cure, on made-up courses, without a training."""

from typing import Any

import pytest

from pipeline.artefacts.rounds import ConfirmationRecord
from pipeline.diagnosis import Course, diagnose
from pipeline.lab.treatment import (
    DiagnosedTraining,
    as_underfitting,
    best,
    candidates,
    changed,
    fits_poorly,
    is_adopted,
    is_better,
    longer_is_no_better,
    majority,
    reason,
)
from pipeline.metrics import paired
from tests import courses

SETTINGS: dict[str, Any] = {
    "augment": {"name": "none", "strength": 1.0},
    "model": {"name": "convnet", "width": 16, "depth": 3, "dropout": 0.0, "conv_dropout": 0.0},
    "regularization": {"l1": 0.0, "l2": 0.1, "label_smoothing": 0.0},
    "optimizer": {"name": "adamw", "lr": 0.003},
    "train": {"max_epochs": 40, "early_stopping": {"patience": None, "restore_best": False}},
    "prepare": {"size": 32, "fit": "pad"},
}


def diagnosed(course: Course, *overrides: str, loss: float = 1.0) -> DiagnosedTraining:
    return DiagnosedTraining(overrides, diagnose(course), loss)


def with_gap(gap: float, **changes: Any) -> Course:
    return courses.course(courses.rising(0.5, 1.0, 30), courses.rising(0.5, 1.0 - gap, 30), **changes)


OVERFITTING = diagnose(courses.overfitting())


def test_a_round_tries_three_strengths_of_the_three_most_promising_remedies() -> None:
    found = candidates(OVERFITTING, SETTINGS, adopted={}, tried=set())
    assert [override for _, override in found] == [
        "augment=standard", "augment=light", "augment=strong",
        "regularization.l2=1", "regularization.l2=3", "regularization.l2=0.3",
        "model.dropout=0.5", "model.dropout=0.3", "model.dropout=0.7",
    ]  # fmt: skip
    assert found[0][0] == "augment the images more"


def test_what_was_tried_is_not_tried_again_and_other_remedies_move_up() -> None:
    tried = {override for _, override in candidates(OVERFITTING, SETTINGS, adopted={}, tried=set())}
    following = [override for _, override in candidates(OVERFITTING, SETTINGS, adopted={}, tried=tried)]
    assert following[0] == "regularization.label_smoothing=0.1" and not tried & set(following)


def test_nothing_is_tried_on_a_good_fit_nor_where_the_data_are_at_fault() -> None:
    for made in (courses.good_fit(), courses.overfitting(duplicates=0.1)):
        assert candidates(diagnose(made), SETTINGS, adopted={}, tried=set()) == []


@pytest.mark.parametrize(
    ("adopted", "tried_again"),
    [
        ({"model.width": 8}, ["model.width=32", "model.width=64", "model.width=24"]),  # the same way on
        ({"model.width": 32}, ["model.width=23", "model.width=24"]),  # back to 32: half way; 24 is less than that
        ({"model.width": 17}, []),  # nothing lies between
    ],
)
def test_what_was_adopted_is_bisected_never_undone(adopted: dict[str, Any], tried_again: list[str]) -> None:
    underfitting = diagnose(courses.underfitting())
    found = candidates(underfitting, SETTINGS, adopted=adopted, tried=set())
    assert [override for _, override in found if override.startswith("model.width")] == tried_again


def test_an_option_that_was_left_is_not_chosen_again() -> None:
    held_back = courses.underfitting(learning_accuracy=courses.rising(0.2, 0.4, 30))
    settings = {**SETTINGS, "augment": {"name": "standard", "strength": 1.0}}
    free = candidates(diagnose(held_back), settings, adopted={}, tried=set())
    bound = candidates(diagnose(held_back), settings, adopted={"augment": "none"}, tried=set())
    assert {"augment=none" in [override for _, override in changes] for changes in (free, bound)} == {True, False}


def test_better_is_a_milder_verdict_or_less_of_the_same() -> None:
    overfitting = diagnosed(with_gap(0.2))
    assert is_better(diagnosed(courses.good_fit()), overfitting)
    assert is_better(diagnosed(with_gap(0.15)), overfitting) and not is_better(diagnosed(with_gap(0.25)), overfitting)
    assert not is_better(diagnosed(courses.underfitting()), overfitting), (
        "another fault of the same severity is no gain"
    )
    assert is_better(diagnosed(with_gap(0.1)), diagnosed(courses.underfitting())), "more is learned"
    assert not is_better(overfitting, diagnosed(courses.good_fit()))
    poor = diagnosed(courses.course(courses.rising(0.3, 0.7, 30), courses.rising(0.3, 0.6, 30)))
    assert is_better(diagnosed(with_gap(0.2)), poor), "accuracy that is surely higher is worth a gap"


def test_a_likely_gain_with_a_lower_loss_is_worth_a_confirmation_whatever_the_gap() -> None:
    few = {"num_train": 100, "num_val": 100}
    before = diagnosed(courses.course(courses.rising(0.5, 0.9, 30), courses.rising(0.5, 0.75, 30), **few))
    after = with_gap(0.2, **few)
    assert before.measured("gap") < diagnosed(after).measured("gap")
    assert is_better(diagnosed(after, loss=0.9), before) and not is_better(diagnosed(after, loss=1.1), before)


def test_a_good_fit_that_simple_methods_reach_too_is_treated_as_one_that_underfits() -> None:
    poor, good = (diagnosed(courses.good_fit(reference=value, num_reference=2000)) for value in (0.915, 0.8))
    assert fits_poorly(poor) and not fits_poorly(good) and not fits_poorly(diagnosed(courses.good_fit()))
    settings = {"data": {"name": "folder"}, "model": {"name": "lenet", "weights": None}, "prepare": {"size": 32}}
    tried = candidates(as_underfitting(poor).diagnosis, settings, adopted={}, tried=set())
    assert [override for _, override in tried] == [
        "model=efficientnet", "model=convnet prepare.size=64", "model=resnet prepare.size=64", "optimizer.lr=auto",
    ]  # fmt: skip


def test_the_challenger_has_the_lowest_loss_of_those_that_are_better() -> None:
    worse = diagnosed(with_gap(0.25), "worse", loss=0.1)
    first, second = diagnosed(with_gap(0.15), "first", loss=0.9), diagnosed(with_gap(0.19), "second", loss=0.8)
    assert best(diagnosed(with_gap(0.2)), [worse, first, second]) is second
    assert best(diagnosed(with_gap(0.2)), [worse]) is None


def test_a_training_has_settled_where_some_were_longer_and_none_of_them_better() -> None:
    champion, worse = with_gap(0.1), with_gap(0.15)
    treated = diagnosed(champion, "train.max_epochs=20", "seed=0")
    longer = diagnosed(worse, "train.max_epochs=40", "seed=0")
    assert longer_is_no_better(treated, [longer, diagnosed(worse, "train.max_epochs=60", "seed=0")])
    assert not longer_is_no_better(treated, [longer, diagnosed(with_gap(0.05), "train.max_epochs=60", "seed=0")])
    assert not longer_is_no_better(treated, [diagnosed(worse, "train.max_epochs=20", "train.batch_size=8", "seed=0")])
    assert not longer_is_no_better(treated, [])


def confirmation(accuracy: float, gap: float, *, before: str, after: str, spread: float = 0.002) -> ConfirmationRecord:
    noise = [-spread, spread, 0.0, -spread, spread, 0.0]
    zero = [0.0] * 6
    return ConfirmationRecord(
        before=before, after=after, accuracy=paired.difference([accuracy + each for each in noise], zero),
        gap=paired.difference([gap + each for each in noise], zero), p=0.03,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "adopted", "told"),
    [
        (confirmation(0.01, -0.05, before="overfitting", after="overfitting"), True, "overfitting → overfitting"),
        (confirmation(-0.05, -0.1, before="overfitting", after="good_fit"), False, "may cost more than 1% of accuracy"),
        (confirmation(0.01, 0.0, before="overfitting", after="overfitting"), False, "6 pairs of trainings do not show"),
        (confirmation(0.0, 0.0, before="overfitting", after="good_fit"), True, "overfitting → good fit"),
        (confirmation(0.03, 0.02, before="underfitting", after="overfitting"), True, "underfitting → overfitting"),
        (confirmation(0.08, 0.05, before="overfitting", after="overfitting"), True, "overfitting → overfitting"),
        (confirmation(0.0, 0.0, before="good_fit", after="good_fit"), False, "do not show a higher accuracy"),
        (confirmation(0.03, 0.0, before="good_fit", after="good_fit"), True, "good fit → good fit"),
        (confirmation(0.0, -0.1, before="underfitting", after="underfitting"), False, "do not show a higher accuracy"),
        (confirmation(0.0, -0.1, before="overfitting", after="overfitting", spread=0.05), False, "may cost more"),
    ],
)  # fmt: skip
def test_a_change_stays_where_it_is_surely_better_and_not_inferior(
    made: ConfirmationRecord, adopted: bool, told: str
) -> None:
    assert is_adopted(made) is adopted
    assert told in reason(made)


@pytest.mark.parametrize(("gain", "adopted"), [(0.1, True), (0.0, False)])
def test_for_a_class_that_is_hardly_recognised_the_balanced_accuracy_decides(gain: float, adopted: bool) -> None:
    compared = confirmation(gain, 0.1, before="good_fit", after="overfitting")
    made = compared.model_copy(update={"measure": "balanced accuracy"})
    assert is_adopted(made) is adopted
    assert reason(made).startswith(f"balanced accuracy {gain:+.3f} [")
    assert ("do not show that the classes gain" in reason(made)) is not adopted


def test_a_diagnosis_of_several_seeds_is_that_of_most() -> None:
    assert majority(["overfitting", "overfitting", "good_fit"]) == "overfitting"
    assert majority(["overfitting", "underfitting", "good_fit"]) == "inconclusive"


def test_a_new_choice_makes_the_keys_of_the_old_one_void() -> None:
    assert changed(("augment=light", "augment.copies=8"), "augment=strong") == ("augment=strong",)
    assert changed(("model.width=8",), "model.width=16") == ("model.width=16",)
    assert changed(("train.max_epochs=8",), "train.early_stopping={patience: 3}") == (
        "train.max_epochs=8", "train.early_stopping={patience: 3}",
    )  # fmt: skip


def test_a_change_may_be_several_overrides_that_belong_together() -> None:
    both = "model=convnet prepare.size=64"
    assert changed(("model.width=4", "prepare.size=48", "seed=1"), both) == (
        "seed=1",
        "model=convnet",
        "prepare.size=64",
    )
    settings = {**SETTINGS, "data": {"name": "folder"}, "model": {"name": "lenet", "weights": None}}
    found = candidates(OVERFITTING, settings, adopted={}, tried=set())
    assert ("a network with normalisation, and twice the pixels", both) in found
    halved = candidates(OVERFITTING, settings, adopted={"prepare.size": 128}, tried=set())
    assert "model=convnet prepare.size=64" in [override for _, override in halved]
    kept = candidates(OVERFITTING, settings, adopted={"model": "convnet"}, tried=set())
    assert "prepare.size=64" in [override for _, override in kept], (
        "what would undo an adopted change is left out of it"
    )
