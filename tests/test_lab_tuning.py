"""Strengths: the best by the monitored metric is chosen, written down, read back and taken by the arms."""

from pathlib import Path

import pytest

from pipeline.config.schema import Ablate
from pipeline.errors import ConfigError, DataError
from pipeline.lab import tuning
from pipeline.metrics import history
from tests.ablation_arms import made_up_arm

ARMS = {
    ("baseline", ""): made_up_arm("baseline", 2),
    ("augmentation", "augment=light x.copies=2"): made_up_arm("smaller", 2),
    ("augmentation", "augment=strong x.copies=2"): made_up_arm("augmentation", 2),
    ("dropout", "model.dropout=0.2"): made_up_arm("dropout", 2),
    ("dropout", "model.dropout=0.5"): made_up_arm("dropout", 2),
}


def settings(**arms: list[str]) -> Ablate:
    return Ablate.model_construct(
        only=None, arms=arms, doses={"dropout": ["model.dropout=0.2", "model.dropout=0.5 model.depth=2"]}
    )


def test_the_best_strength_is_chosen_and_of_equals_the_weaker() -> None:
    found = tuning.choose(ARMS, history.VAL_ACCURACY)
    assert found.chosen == {"augmentation": "augment=strong x.copies=2", "dropout": "model.dropout=0.2"}
    assert [dose.override for dose in found.doses] == [text for _, text in ARMS]


def test_a_loss_is_best_where_it_is_least() -> None:
    arms = {key: ARMS[key] for key in ARMS if key[0] != "dropout"}
    found = tuning.choose(arms, history.VAL_LOSS)
    losses = {key[1]: arm.mean("loss") for key, arm in arms.items() if key[0] == "augmentation"}
    assert found.chosen == {"augmentation": min(losses, key=lambda text: losses[text])}


def test_a_tuning_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = tuning.choose(ARMS, history.VAL_ACCURACY)
    (tmp_path / tuning.RESULT).write_text(tuning.to_json(found))
    assert tuning.read(str(tmp_path)) == found


def test_arms_take_what_was_chosen_and_the_others_stay() -> None:
    found = tuning.choose(ARMS, history.VAL_ACCURACY)
    arms = tuning.arms(settings(dropout=["model.dropout=0.9"], augmentation=["augment=none"], l2=["a.b=1"]), found)
    assert arms == {"dropout": ["model.dropout=0.2"], "augmentation": ["augment=strong", "x.copies=2"], "l2": ["a.b=1"]}


def test_a_strength_may_hold_several_overrides() -> None:
    assert tuning.candidates(settings()) == {
        ("dropout", "model.dropout=0.2"): ["model.dropout=0.2"],
        ("dropout", "model.dropout=0.5 model.depth=2"): ["model.dropout=0.5", "model.depth=2"],
    }


def test_what_is_no_tuning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ablate\.tuned must be the folder of a tuning that finished; got '.*'"):
        tuning.read(str(tmp_path))
    with pytest.raises(ConfigError, match=r"must have the arms of ablate\.tuned; it lacks augmentation, dropout"):
        tuning.arms(settings(l2=[]), tuning.choose(ARMS, history.VAL_ACCURACY))
