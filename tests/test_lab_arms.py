"""The arms of an ablation: every one composes, multiples follow the baseline, early stopping trains nothing."""

from typing import Any

import pytest

from pipeline.config import composition
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.lab.arms import TO_THE_END, plans
from pipeline.metrics import history
from pipeline.metrics.early_stopping import StoppingRule
from tests.conftest import ROOT


def composer(*overrides: str) -> Any:
    def compose(more: list[str]) -> Config:
        return composition.compose(ROOT / "conf", ROOT / "params.yaml", [*overrides, *more])

    return compose


@pytest.mark.long
@pytest.mark.parametrize("model", ["lenet", "convnet", "resnet"])
def test_the_ten_arms_fit_every_network(model: str) -> None:
    compose = composer(f"model={model}")
    planned = plans(compose([]).ablate.arms, compose)
    assert [plan.name for plan in planned] == [
        "baseline", "smaller", "larger", "early_stopping", "dropout", "augmentation", "l1", "l2", "label_smoothing", "all",
    ]  # fmt: skip
    trained = {plan.training(1) for plan in planned}
    assert len(trained) == 9, "early stopping is read off the baseline's curves"


def test_a_multiple_is_of_what_the_baseline_has() -> None:
    compose = composer("model=convnet", "model.width=10", "optimizer.lr=0.01")
    arms = {"smaller": ["model.width=x0.25"], "slower": ["optimizer.lr=x.5"], "tiny": ["model.width=x0.01"]}
    _, smaller, slower, tiny = plans(arms, compose)
    assert smaller.overrides == ("model.width=2",), "a whole number stays one"
    assert slower.overrides == ("optimizer.lr=0.005",)
    assert tiny.overrides == ("model.width=1",)


def test_a_name_stands_for_what_that_arm_changes() -> None:
    arms = {"a": ["model.dropout=0.5"], "b": ["regularization.l2=x2"], "both": ["a", "b"]}
    both = plans(arms, composer("regularization.l2=0.1"))[-1]
    assert both.overrides == ("model.dropout=0.5", "regularization.l2=0.2")


def test_trainings_run_to_their_end_and_deployed_ones_stop_early() -> None:
    stopping = ["train.early_stopping.patience=5", "train.early_stopping.restore_best=true"]
    baseline, arm = plans({"early": [*stopping, "model.dropout=0.1"]}, composer("train.early_stopping.patience=3"))
    assert baseline.rule == StoppingRule(history.VAL_LOSS), "the baseline is never stopped"
    assert arm.rule == StoppingRule(history.VAL_LOSS, patience=5, restore_best=True)
    assert arm.training(7) == (*TO_THE_END, "model.dropout=0.1", "seed=7")
    assert arm.deployed(7) == (*TO_THE_END, *stopping, "model.dropout=0.1", "seed=7")
    assert baseline.training(7) == baseline.deployed(7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widht=3", r"ablate\.arms\.wrong must fit the baseline; model\.widht is not a configuration key"),
        ("model.dropout=2", r"ablate\.arms\.wrong must fit the baseline; model\.dropout must be a number in \[0, 1\)"),
        (
            "model.name=x2",
            r"must fit the baseline; model\.name=x2 must multiply a number .* it has model\.name='lenet'",
        ),
        ("model.none=x2", r"model\.none=x2 must multiply a number of the baseline; it has model\.none=None"),
        ("droput", r"it holds 'droput', which is neither key=value nor an arm\. Did you mean 'dropout'\?"),
    ],
)
def test_an_arm_that_does_not_fit_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plans({"dropout": ["model.dropout=0.5"], "wrong": [override]}, composer())


def test_some_of_the_arms_may_be_asked_for_and_a_wrong_name_is_refused() -> None:
    compose = composer()
    arms = compose([]).ablate.arms
    assert [plan.name for plan in plans(arms, compose, ["l2", "all"])] == ["baseline", "l2", "all"]
    with pytest.raises(
        ConfigError, match=r"ablate\.only must name arms, smaller, .*; got 'droput'\. Did you mean 'dropout'"
    ):
        plans(arms, compose, ["droput"])
