"""Tests the comparison of arms with a baseline: the kept epoch, the differences, and the sentence without an effect."""

from collections.abc import Sequence

import pytest

from pipeline.metrics import history
from pipeline.metrics.ablation import Arm, effects, read
from pipeline.metrics.early_stopping import StoppingRule

END = StoppingRule(history.VAL_LOSS)
LOSSES = [3.0, 2.0, 2.1, 2.2, 1.0]


def rows(losses: Sequence[float], train: float = 0.9, val: float = 0.8) -> list[dict[str, float]]:
    return [
        {
            **dict.fromkeys(history.METRICS, 0.0), "epoch": epoch, "seconds": 1.0, history.VAL_LOSS: loss,
            history.CLEAN_ACCURACY: train, history.VAL_ACCURACY: val,
        }
        for epoch, loss in enumerate(losses, start=1)
    ]  # fmt: skip


def arm(name: str, gaps: Sequence[float], train: float = 0.9) -> Arm:
    histories = [rows([1.0], train, train - gap) for gap in gaps]
    readings = [read(each, END, seed=seed, num_parameters=10) for seed, each in enumerate(histories)]
    return Arm(name, (), readings, histories)


@pytest.mark.parametrize(
    ("rule", "epoch", "seconds"),
    [
        (END, 5, 5.0),
        (StoppingRule(history.VAL_LOSS, 2, restore_best=True), 2, 4.0),
        (StoppingRule(history.VAL_LOSS, 2), 4, 4.0),
        (StoppingRule(history.VAL_LOSS, 3, restore_best=True), 5, 5.0),
        (StoppingRule(history.VAL_LOSS, 2, warmup_epochs=3, restore_best=True), 5, 5.0),
    ],
)
def test_a_training_that_ran_to_its_end_is_read_as_if_it_had_stopped(
    rule: StoppingRule, epoch: int, seconds: float
) -> None:
    reading = read(rows(LOSSES), rule, seed=1, num_parameters=10)
    assert (reading.epoch, reading.loss, reading.seconds) == (epoch, LOSSES[epoch - 1], seconds)


def test_a_rising_metric_keeps_its_highest_epoch() -> None:
    risen = [{**row, history.VAL_ACCURACY: value} for row, value in zip(rows(LOSSES), [1, 3, 2, 2, 2], strict=True)]
    assert StoppingRule(history.VAL_ACCURACY, 2, restore_best=True).kept_epoch(risen) == 2


def test_an_arm_that_shrinks_the_gap_of_every_seed_is_said_to() -> None:
    baseline = arm("baseline", [0.20, 0.21, 0.19, 0.20])
    [found] = effects(baseline, [arm("dropout", [0.15, 0.17, 0.13, 0.15])])
    assert found.gap.mean == pytest.approx(-0.05) and found.gap.high < 0
    assert found.accuracy.mean == pytest.approx(0.05)
    assert found.sentence().startswith("shrinks the gap by 0.050 [-0.063, -0.037]")
    [wider] = effects(baseline, [arm("larger", [0.25, 0.27, 0.23, 0.25])])
    assert wider.sentence().startswith("widens the gap by 0.050 [+0.037, +0.063]")


def test_a_null_is_reported_with_what_could_have_been_found() -> None:
    baseline = arm("baseline", [0.20, 0.21, 0.19, 0.20], train=1.0)
    [found] = effects(baseline, [arm("L2", [0.21, 0.20, 0.20, 0.19], train=1.0)])
    assert found.saturated
    assert found.sentence() == (
        "no effect on the gap was found: +0.000 [-0.018, +0.018]; 4 seeds find 0.025; "
        "training accuracy stays at 1, so that the gap can move with validation alone"
    )


def test_an_arm_that_changes_nothing_is_said_to() -> None:
    baseline = arm("baseline", [0.20, 0.21])
    assert effects(baseline, [baseline])[0].sentence() == "every seed has the gap of the baseline"


def test_p_values_are_given_only_where_the_seeds_allow_their_correction() -> None:
    few, many = [0.2, 0.21, 0.22, 0.2], [0.2 + 0.001 * seed for seed in range(10)]
    assert effects(arm("baseline", few), [arm("a", few), arm("b", few)])[0].gap_p is None
    shrunk = arm("a", [gap - 0.05 - 0.0001 * seed for seed, gap in enumerate(many)])
    clear, null = effects(arm("baseline", many), [shrunk, arm("b", many)])
    assert clear.gap_p == pytest.approx(2 * 2 / 2**10) and null.gap_p == 1.0


def test_arms_of_other_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="must have the seeds of the baseline"):
        effects(arm("baseline", [0.1, 0.2]), [arm("a", [0.1, 0.2, 0.3])])
