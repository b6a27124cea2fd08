"""Tests the verdicts on synthetic courses, and their invariances."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diagnosis import VERDICTS, Course, Thresholds, diagnose
from pipeline.diagnosis.measurements import Estimate, Measurements
from pipeline.diagnosis.record import MEANING
from tests import courses
from tests.courses import EXAMPLES


@pytest.mark.parametrize(("make", "verdict"), EXAMPLES.values(), ids=EXAMPLES)
def test_each_way_to_go_gets_its_verdict(make: Callable[..., Course], verdict: str) -> None:
    diagnosis = diagnose(make())
    assert diagnosis.verdict == verdict, diagnosis
    assert 0 < diagnosis.confidence <= 1


def test_every_verdict_has_an_example_but_the_one_that_is_left() -> None:
    assert {verdict for _, verdict in EXAMPLES.values()} == set(VERDICTS) - {"inconclusive"}


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (courses.overfitting(), "overfitting: training 1.000, validation 0.820, gap 0.180 [0.164, 0.197]"),
        (courses.diverged(), "diverged: a loss is not finite"),
        (
            courses.leak_suspected(),
            "leak suspected: training 0.930, validation 0.915, 2.0% of the validation images are also training images",
        ),
        (
            courses.not_learning(),
            "not learning: training 0.100, validation 0.100, guessing the commonest class gives 0.100",
        ),
        (
            courses.unstable(),
            "unstable: training 0.700, validation 0.690, training accuracy jumps in 100% of the last steps, 7 times down",
        ),
        (
            courses.underfitting(),
            "underfitting: training 0.620, validation 0.615, on these data 0.900 [0.886, 0.912] can be reached",
        ),
        (
            courses.still_learning(),
            "still learning: training 0.671, validation 0.661, both losses would go on falling; "
            "twice the epochs would bring about +0.221 [+0.092, +0.339] of validation accuracy",
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_the_sentence_gives_the_verdict_and_the_numbers_behind_it(made: Course, sentence: str) -> None:
    assert diagnose(made).sentence == sentence


def test_a_gap_is_that_of_the_weights_that_are_used() -> None:
    made = courses.overfitting()
    assert diagnose(made).verdict == "overfitting"
    early = diagnose(replace(made, kept_epoch=1))
    assert early.verdict != "overfitting" and early.epoch == 1


def test_too_long_a_training_is_cured_by_keeping_the_best_epoch() -> None:
    made = courses.overtrained()
    diagnosis = diagnose(made)
    assert (diagnosis.rule, diagnosis.causes) == ("overtrained", ("overtrained",))
    assert diagnose(replace(made, kept_epoch=6)).verdict == "good_fit"


def test_a_loss_that_rises_while_accuracy_holds_is_flagged_not_condemned() -> None:
    diagnosis = diagnose(courses.overconfident())
    assert diagnosis.verdict == "good_fit" and "overconfident" in diagnosis.flags
    assert "overconfident" not in diagnose(courses.good_fit()).flags


def test_a_floor_below_the_losses_does_not_hide_that_they_still_fall() -> None:
    made = courses.still_learning()
    for floor in (0.0, 1.0, 4.0):
        diagnosis = diagnose(replace(made, train_loss=made.train_loss + floor, val_loss=made.val_loss + floor))
        assert diagnosis.verdict == "still_learning" and "twice the epochs would bring about +0." in diagnosis.sentence


def test_a_slow_training_that_still_stands_at_guessing_learns() -> None:
    falling = 2.3 - 0.01 * np.arange(20)
    slow = replace(courses.not_learning(), train_loss=falling, val_loss=falling + 0.001)
    assert diagnose(courses.not_learning()).verdict == "not_learning"
    assert diagnose(slow).verdict != "not_learning"


def test_a_loss_below_that_of_guessing_is_learning_though_the_commonest_class_is_still_told_each_time() -> None:
    flat, falling = np.full(20, 0.4), np.linspace(1.6, 1.4, 20)
    known: dict[str, Any] = {"majority": 0.4, "chance_loss": 1.6, "num_classes": 6}
    stuck = courses.course(flat, flat, train_loss=np.full(20, 1.59), val_loss=np.full(20, 1.6), **known)
    assert diagnose(stuck).verdict == "not_learning"
    assert diagnose(replace(stuck, train_loss=falling, val_loss=falling + 0.01)).verdict != "not_learning"


def test_a_rate_that_ends_near_0_is_projected_from_its_high_part_and_the_sentence_says_so() -> None:
    rates = np.concatenate([np.full(20, 1.0), np.linspace(0.4, 0.0, 10)])
    falling, flat = 1.5 * np.exp(-np.arange(20) / 15) + 0.5, np.linspace(0.86, 0.85, 10)
    loss = np.concatenate([falling, flat])
    train = np.concatenate([np.linspace(0.3, 0.7, 20), np.full(10, 0.75)])
    made = courses.course(train, train - 0.02, train_loss=loss, val_loss=loss + 0.05)
    at_its_end, annealed = diagnose(made), diagnose(replace(made, lr=rates))
    ahead, less = annealed.evidence["val_ahead"], at_its_end.evidence["val_ahead"]
    assert isinstance(ahead, Estimate) and isinstance(less, Estimate) and ahead.value > 2 * less.value
    assert (
        annealed.verdict == "still_learning"
        and "twice the epochs, with the schedule stretched, would" in annealed.sentence
    )
    constant = diagnose(replace(courses.still_learning(), lr=np.full(20, 0.1)))
    assert constant.verdict == "still_learning" and "twice the epochs would" in constant.sentence
    short = diagnose(replace(courses.still_learning(), lr=np.concatenate([np.full(9, 1.0), np.zeros(11)])))
    assert "val_ahead" not in short.evidence


def test_no_more_is_promised_than_there_are_mistakes_and_less_where_a_falling_rate_has_lowered_the_loss_already() -> (
    None
):
    falling = np.concatenate([np.linspace(2.3, 1.3, 20), np.full(10, 0.65)])
    train = np.concatenate([np.linspace(0.2, 0.5, 20), np.full(10, 0.8)])
    rates = np.concatenate([np.full(20, 1.0), np.linspace(0.4, 0.0, 10)])
    made = courses.course(train, train, train_loss=falling, val_loss=falling, lr=rates)
    until = courses.course(train[:20], train[:20], train_loss=falling[:20], val_loss=falling[:20], lr=rates[:20])
    whole, high = (Measurements(each, Thresholds()) for each in (made, until))
    assert whole.val_ahead is not None and high.val_ahead is not None and whole.accuracy_ahead is not None
    assert 0 < whole.val_ahead.value < 0.55 * high.val_ahead.value
    assert whole.accuracy_ahead.high <= 0.2 + 1e-9


def test_mistakes_are_projected_to_fall_by_no_larger_share_than_the_loss() -> None:
    rising = np.linspace(0.2, 0.9, 20)
    measured = Measurements(courses.course(rising, rising, val_loss=np.linspace(2.3, 1.0, 20)), Thresholds())
    assert measured.val_ahead is not None and measured.accuracy_ahead is not None
    end = float(np.median(measured.course.val_loss[-3:]))
    left = 1 - float(np.median(rising[-3:]))
    assert measured.accuracy_ahead.value == pytest.approx(left * measured.val_ahead.value / end)


def test_the_interval_of_a_projected_gain_holds_the_chance_of_its_images_and_reaches_further_above() -> None:
    few, many = (
        Measurements(courses.still_learning(num_val=number), Thresholds()).accuracy_ahead for number in (100, 100_000)
    )
    assert few is not None and many is not None and few.value == many.value > 0
    assert few.low < 0.08 < many.low and few.high >= many.high == pytest.approx(1 - 0.661, abs=0.002)


def test_where_it_underfits_more_epochs_must_close_half_of_what_is_missing() -> None:
    slow = np.linspace(0.4, 0.5, 20)
    made = courses.course(slow, slow, reference=0.55, num_reference=2000)
    assert diagnose(made).verdict == "still_learning"
    far = replace(made, reference=0.95)
    assert diagnose(far).verdict == "underfitting"
    assert diagnose(far, Thresholds(closes=0.01)).verdict == "still_learning"


def test_where_no_training_image_is_mistaken_nothing_is_left_to_learn() -> None:
    train, val = np.minimum(1.0, np.linspace(0.9, 1.1, 20)), np.linspace(0.85, 0.935, 20)
    made = courses.course(train, val, train_loss=np.linspace(0.8, 0.1, 20))
    assert diagnose(made).verdict == "overfitting"
    assert diagnose(replace(made, train_accuracy=train - 0.02)).verdict == "still_learning"


def test_where_a_longer_training_was_no_better_the_curves_promise_nothing() -> None:
    many = {"num_train": 5000, "num_val": 5000}
    promising, known = (courses.still_learning(settled=settled, **many) for settled in (False, True))
    assert diagnose(promising).verdict == "still_learning" and diagnose(known).verdict == "good_fit"
    few = diagnose(courses.still_learning(settled=True, num_train=60, num_val=60))
    assert few.verdict == "inconclusive" and "epochs" not in few.settled_by


def test_jumps_while_learning_count_only_beyond_chance() -> None:
    shaken = 0.6 + 0.02 * (-1.0) ** np.arange(30)
    made = courses.course(shaken, np.full(30, 0.59), num_train=200)
    assert diagnose(made).verdict == "unstable"
    assert diagnose(replace(made, clean=False)).verdict != "unstable"
    assert diagnose(replace(made, clean=False, num_train=20_000)).verdict == "unstable"


def test_validation_surely_above_guessing_has_a_signal_however_many_classes_there_are() -> None:
    made = replace(courses.no_signal(), num_classes=60, val_accuracy=np.full(30, 0.017))
    assert diagnose(made).verdict == "no_signal"
    assert diagnose(replace(made, val_accuracy=np.full(30, 0.05))).verdict == "overfitting"


def test_where_a_simple_method_finds_a_signal_the_data_have_one() -> None:
    assert diagnose(courses.no_signal(reference=0.11, num_reference=500)).verdict == "no_signal"
    found = diagnose(courses.no_signal(reference=0.2, num_reference=500))
    assert found.verdict == "overfitting"


def test_each_meaning_says_only_what_its_rule_has_checked() -> None:
    for make, verdict in EXAMPLES.values():
        settles = "settle" in MEANING[verdict]
        found = diagnose(make())
        falling = found.evidence.get("val_falling", 0.0)
        assert not settles or verdict in ("good_fit", "still_learning", "unstable")
        assert verdict != "good_fit" or (isinstance(falling, float) and falling <= Thresholds().falling)


def test_training_that_dropout_holds_back_while_learning_counts_as_no_worse_than_validation() -> None:
    train, val = courses.rising(0.2, 0.69, 30), courses.rising(0.2, 0.72, 30)
    known = {"num_train": 600, "num_val": 500, "reference": 0.78, "num_reference": 500}
    verdicts = [diagnose(courses.course(train, val, clean=clean, **known)).verdict for clean in (True, False)]
    assert verdicts[0] == "underfitting" != verdicts[1]
    assert diagnose(courses.course(train, train, clean=False, **known)).verdict == "underfitting"


def test_without_a_reference_a_poor_fit_is_not_called_underfitting() -> None:
    diagnosis = diagnose(replace(courses.underfitting(), reference=None))
    assert "underfitting" in diagnosis.not_judged and diagnosis.verdict == "good_fit"


def test_what_holds_a_network_back_is_told_from_what_it_cannot_do() -> None:
    poor = courses.underfitting()
    assert diagnose(poor).causes == ("capacity",)
    held = replace(poor, learning_accuracy=poor.train_accuracy - 0.2)
    assert diagnose(held).causes == ("regularised",)


def test_why_nothing_is_learned_is_read_off_the_signals() -> None:
    stuck = courses.not_learning()
    signs: dict[str, dict[str, Any]] = {
        "dead_relu": {"dead_relu": np.full(20, 0.9)},
        "no_updates": {"update_ratio": np.full(20, 1e-10)},
        "initialisation": {"initial_loss": 5.0},
        "one_batch": {"learns_one_batch": False},
        "penalty": {"penalty_share": np.full(20, 0.8)},
    }
    assert diagnose(stuck).causes == ()
    for cause, sign in signs.items():
        assert diagnose(replace(stuck, **sign)).causes == (cause,)


def test_few_images_make_the_same_gap_inconclusive_and_it_says_how_many_would_do() -> None:
    narrow = {"num_train": 60, "num_val": 60}
    many, few = courses.course(*_gap_of(0.07)), courses.course(*_gap_of(0.07), **narrow)
    assert diagnose(many).verdict == "overfitting"
    diagnosis = diagnose(few)
    assert diagnosis.verdict == "inconclusive" and "validation images" in diagnosis.settled_by
    assert diagnosis.settled_by.startswith("a cross-validation, which counts all images (prepare.folds=5,")
    needed = int(diagnosis.settled_by.split("about ")[1].split()[0].replace(",", ""))
    assert diagnose(replace(few, num_train=2 * needed, num_val=2 * needed)).verdict in ("overfitting", "good_fit")


def _gap_of(gap: float) -> tuple[np.ndarray, np.ndarray]:
    return courses.rising(0.5, 0.95, 30), courses.rising(0.5, 0.95 - gap, 30)


def test_few_epochs_block_only_what_needs_many() -> None:
    assert diagnose(courses.overfitting(5)).verdict == "overfitting"
    diagnosis = diagnose(courses.course(courses.rising(0.5, 0.93, 9, 2.0), courses.rising(0.5, 0.915, 9, 2.0)))
    assert diagnosis.verdict == "inconclusive" and "10 epochs" in diagnosis.settled_by
    assert {"unstable", "overtrained", "good_fit"} <= set(diagnosis.not_judged)


def test_signals_that_nobody_measured_are_listed_not_passed() -> None:
    bare = diagnose(courses.good_fit())
    assert {"leak_suspected", "eval_mismatch", "underfitting"} == set(bare.not_judged)
    known = courses.good_fit(duplicates=0.0, reference=0.9, learning_accuracy=courses.rising(0.4, 0.92, 30))
    assert diagnose(known).not_judged == ()


def test_training_measured_while_learning_is_said_so() -> None:
    assert "no_clean_probe" in diagnose(courses.good_fit(clean=False)).flags


def test_confidence_is_the_distance_from_the_nearest_threshold() -> None:
    near, far = diagnose(courses.course(*_gap_of(0.066))), diagnose(courses.course(*_gap_of(0.11)))
    assert near.verdict == far.verdict == "overfitting" and near.confidence < far.confidence
    assert near.confidence == pytest.approx(0.1, abs=0.02), "6.6 points are 10 % above 6"
    assert near.close_call == "with a gap smaller by 0.006 it would no longer be overfitting" and not far.close_call
    other = diagnose(courses.course(*_gap_of(0.056)))
    assert other.verdict == "good_fit" and other.close_call == "with a gap larger by 0.004 it would be overfitting"


def test_a_reference_counts_with_its_interval_and_what_validation_reaches_is_reached() -> None:
    poor = courses.course(courses.rising(0.3, 0.823, 30), courses.rising(0.3, 0.80, 30), num_train=500, num_val=500)
    assert diagnose(replace(poor, reference=0.95)).verdict == "underfitting"
    assert diagnose(replace(poor, reference=0.850)).verdict != "underfitting", "within the interval of 500 images"
    ahead = courses.course(
        courses.rising(0.3, 0.823, 30), courses.rising(0.3, 0.851, 30), num_train=9_000, num_val=9_000
    )
    assert diagnose(replace(ahead, reference=0.850, num_reference=10**6)).verdict != "underfitting"


def test_gap_and_rise_are_told_whatever_the_verdict() -> None:
    found = {name: {each.name: each for each in diagnose(make()).findings} for name, (make, _) in EXAMPLES.items()}
    assert not found["diverged"]
    assert all(set(each) == {"gap", "rise"} for name, each in found.items() if name != "diverged")
    gap, rise = diagnose(courses.overfitting()).findings
    assert gap.present and gap.text == "training is ahead of validation by 0.180 [0.164, 0.197], too far"
    assert not diagnose(courses.good_fit()).findings[0].present
    gap, rise = diagnose(courses.overconfident()).findings
    assert rise.present and not gap.present and rise.estimate.low > 0 and "more than noise explains" in rise.text
    gap, rise = diagnose(courses.overfitting(clean=False)).findings
    assert "dropout and augmentation hide a part of it" in gap.text and "needs no clean probe" in rise.text


@pytest.mark.parametrize(("make", "verdict"), EXAMPLES.values(), ids=EXAMPLES)
def test_epochs_in_which_nothing_happens_change_no_verdict(make: Callable[..., Course], verdict: str) -> None:
    made = make()
    if verdict in ("still_learning", "unstable"):
        return  # what these say is that something still happens
    longer: dict[str, Any] = {
        name: np.concatenate([value, np.full(15, value[-1])])
        for name, value in _given(made).items()
        if isinstance(value, np.ndarray)
    }
    assert diagnose(Course(**{**_given(made), **longer})).verdict == verdict


@pytest.mark.parametrize(("make", "verdict"), EXAMPLES.values(), ids=EXAMPLES)
def test_noise_as_small_as_more_images_make_it_changes_no_verdict(make: Callable[..., Course], verdict: str) -> None:
    made = make(num_train=20_000, num_val=20_000)
    draw = np.random.default_rng(0)
    for _ in range(5):
        noisy = {
            name: np.clip(value + draw.normal(0, 0.3 / 20_000**0.5, len(value)), 0, 1)
            for name, value in _given(made).items()
            if name.endswith("_accuracy") and isinstance(value, np.ndarray)
        }
        assert diagnose(replace(made, **noisy)).verdict == verdict


@pytest.mark.parametrize("make", [make for make, _ in EXAMPLES.values()], ids=EXAMPLES)
def test_any_prefix_gets_a_verdict(make: Callable[..., Course]) -> None:
    made = make()
    for length in range(1, made.num_epochs):
        shorter = {name: value[:length] for name, value in _given(made).items() if isinstance(value, np.ndarray)}
        assert diagnose(Course(**{**_given(made), **shorter})).verdict in VERDICTS


ACCURACIES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(st.data(), ACCURACIES, st.sampled_from([1, 7, 60, 5000]), st.sampled_from([2, 10, 1000]))
def test_whatever_the_numbers_there_is_one_verdict(
    data: st.DataObject, train: list[float], images: int, classes: int
) -> None:
    losses = st.lists(st.floats(0, 1e6) | st.just(float("nan")), min_size=len(train), max_size=len(train))
    made = Course(
        np.array(data.draw(losses)),
        np.array(train),
        np.array(data.draw(losses)),
        np.array(data.draw(st.permutations(train))),
        images,
        images,
        classes,
    )
    diagnosis = diagnose(made)
    assert diagnosis.verdict in VERDICTS and 0 <= diagnosis.confidence <= 1
    assert diagnosis.sentence.startswith(diagnosis.verdict.replace("_", " "))


def test_a_short_training_whose_loss_rose_before_it_fell_is_still_learning() -> None:
    there_and_back, rising = np.array([1.0, 3.0, 2.0, 1.5, 1.0]), np.linspace(0.3, 0.5, 5)
    made = courses.course(rising, rising, train_loss=there_and_back, val_loss=there_and_back)
    assert diagnose(made).verdict == "still_learning"


def test_thresholds_are_what_decides() -> None:
    made = courses.course(*_gap_of(0.06))
    assert diagnose(made, Thresholds(gap=0.2, relative_gap=0.5, good_gap=0.2)).verdict == "good_fit"


def _given(made: Course) -> dict[str, Any]:
    return {field.name: getattr(made, field.name) for field in fields(made) if field.init}


def test_two_epochs_that_fell_are_not_the_end_of_learning() -> None:
    early = courses.course(np.array([0.3, 0.6]), np.array([0.3, 0.59]), reference=0.8)
    assert diagnose(early).verdict == "still_learning"
