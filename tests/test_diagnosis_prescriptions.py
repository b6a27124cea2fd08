"""Tests that prescriptions follow from the verdict and from the configuration of the training."""

from typing import Any

import numpy as np
import pytest

from pipeline.config.composition import compose
from pipeline.diagnosis import Course, diagnose, prescribe, remedies
from tests import courses
from tests.conftest import ROOT

DEFAULTS: dict[str, Any] = {
    "augment": {"name": "light", "strength": 1.0},
    "model": {"name": "convnet", "width": 32, "depth": 3, "dropout": 0.0, "conv_dropout": 0.0, "normalization": "batch"},
    "regularization": {"l1": 0.0, "l2": 0.0, "label_smoothing": 0.0},
    "optimizer": {"name": "adamw", "lr": 0.003},
    "scheduler": {"warmup_fraction": 0.25},
    "train": {
        "max_epochs": 20, "batch_size": 256, "early_stopping": {"patience": 5, "restore_best": True},
        "gradient_clip_norm": None, "ema_decay": 0.0,
    },
    "prepare": {"size": 32},
}  # fmt: skip


def prescribed(course: Course, **changes: dict[str, Any]) -> list[str]:
    settings = {section: {**values, **changes.get(section, {})} for section, values in DEFAULTS.items()}
    return [each.override for each in prescribe(diagnose(course), settings)]


@pytest.mark.parametrize(
    ("course", "overrides"),
    [
        (courses.overfitting(), ["augment=standard", "regularization.l2=0.1", "model.dropout=0.5"]),
        (courses.underfitting(), ["model.width=64", "model.depth=4", "prepare.size=48"]),
        (courses.still_learning(), ["train.max_epochs=40", "optimizer.lr=0.009"]),
        (courses.unstable(), ["optimizer.lr=0.0003", "train.gradient_clip_norm=1", "train.batch_size=1024"]),
        (courses.diverged(), ["optimizer.lr=0.0003", "optimizer.lr=auto", "train.gradient_clip_norm=1"]),
        (courses.eval_mismatch(), ["model.normalization=group", "train.batch_size=1024"]),
        (courses.not_learning(), ["optimizer.lr=auto", "optimizer.lr=0.3", "optimizer.lr=0.0003"]),
        (courses.overconfident(), ["regularization.label_smoothing=0.1", "regularization.l2=0.1"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "course",
)
def test_each_verdict_has_its_changes_in_order(course: Course, overrides: list[str]) -> None:
    assert prescribed(course) == overrides


@pytest.mark.parametrize(
    "course", [courses.good_fit(), courses.no_signal(), courses.split_mismatch(), courses.leak_suspected()]
)
def test_a_good_fit_and_what_lies_in_the_data_get_none(course: Course) -> None:
    assert prescribed(course) == []


@pytest.mark.parametrize(
    "course", [courses.overfitting(), courses.underfitting(), courses.overfitting(num_val=20, num_train=20)]
)
def test_on_peoples_own_pictures_network_start_and_pixels_come_first(course: Course) -> None:
    own: dict[str, Any] = {"data": {"name": "folder"}, "model": {"name": "lenet", "weights": None}}
    settings = {**DEFAULTS, **own}
    first = [each.override for each in prescribe(diagnose(course), settings)]
    assert first[:2] == ["model=efficientnet", "model=convnet prepare.size=64"] and "prepare.size=64" not in first
    resnet = settings | {"model": {"name": "resnet", "weights": None}}
    assert [each.override for each in prescribe(diagnose(course), resnet)][:2] == [
        "model=efficientnet",
        "prepare.size=64",
    ]
    settings |= {"model": {"name": "efficientnet", "weights": "imagenet"}, "prepare": {"size": 128}}
    assert "model=efficientnet" not in [each.override for each in prescribe(diagnose(course), settings, most=None)]


def test_small_pictures_are_enlarged_rather_than_framed() -> None:
    own = {**DEFAULTS, "data": {"name": "folder"}, "model": {"name": "lenet", "weights": None}}
    own |= {"prepare": {"size": 32, "fit": "pad"}}
    found = diagnose(courses.overfitting())

    def changes(side: float | None, **sections: dict[str, Any]) -> list[str]:
        return [each.override for each in prescribe(found, own | sections, source_side=side)][:3]

    assert changes(8) == [
        "model=efficientnet prepare.fit=stretch", "model=convnet prepare.size=64 prepare.fit=stretch",
        "prepare.fit=stretch",
    ]  # fmt: skip
    assert changes(48)[:2] == [
        "model=efficientnet prepare.fit=stretch",
        "model=convnet prepare.size=64 prepare.fit=stretch",
    ]
    assert "prepare.fit=stretch" not in changes(48)
    for side, section in ((400, {}), (None, {}), (8, {"prepare": {"size": 32, "fit": "crop"}})):
        assert "stretch" not in " ".join(changes(side, **section))


def test_the_size_of_the_pretrained_network_is_that_of_its_option() -> None:
    config = compose(ROOT / "conf", ROOT / "params.yaml", ["model=efficientnet"])
    assert config.model.input_size == config.prepare.size == remedies.PRETRAINED_SIZE


def test_after_the_last_layer_all_may_learn() -> None:
    own = {**DEFAULTS, "data": {"name": "folder"}, "prepare": {"size": 128}}
    started = {"name": "efficientnet", "weights": "imagenet", "train_layers": "head"}
    found = diagnose(courses.underfitting())
    assert prescribe(found, own | {"model": started})[0].override.startswith("model.train_layers=gradual optimizer.lr=")
    for other in (started | {"train_layers": "gradual"}, started | {"weights": None}):
        every = prescribe(found, own | {"model": other}, most=None)
        assert not any("train_layers" in each.override for each in every)


def test_few_steps_get_smaller_batches() -> None:
    own = {**DEFAULTS, "data": {"name": "folder"}, "model": {"name": "lenet", "weights": None}}
    found = diagnose(courses.overfitting())
    few = [each.strengths for each in prescribe(found, own, num_images=337)]
    assert few == [
        ("model=efficientnet train.batch_size=32",),
        tuple(f"model={name} prepare.size=64 train.batch_size=32" for name in ("convnet", "resnet")),
        ("train.batch_size=32", "train.batch_size=16"),
    ]
    assert prescribe(found, own, num_images=2560)[0].override == "model=efficientnet"
    slow = diagnose(courses.still_learning())
    assert prescribe(slow, DEFAULTS, num_images=141)[0].strengths == (
        "train.batch_size=8",
        "train.batch_size=4",
    )
    small = DEFAULTS | {"train": {**DEFAULTS["train"], "batch_size": 4}}
    assert prescribe(slow, small, num_images=20)[0].override == "train.max_epochs=40"


def test_what_is_open_gets_more_images_for_validation_before_anything_else() -> None:
    few = courses.good_fit(num_val=60, num_train=60)
    assert diagnose(few).verdict == "inconclusive"
    assert prescribed(few)[0] == "prepare.val_fraction=0.2"
    assert "prepare.val_fraction=0.2" not in prescribed(few, prepare={"val_fraction": 0.25})


def test_what_is_used_up_gives_way_to_what_comes_next() -> None:
    used = {"augment": {"name": "strong", "strength": 2.0}, "model": {"dropout": 0.7, "conv_dropout": 0.3}}
    assert prescribed(courses.overfitting(), **used) == [
        "regularization.l2=0.1", "regularization.label_smoothing=0.1", "model.width=16",
    ]  # fmt: skip
    assert prescribed(courses.overfitting(), augment={"name": "strong"})[0] == "augment.strength=1.5"
    assert prescribed(courses.overfitting(), regularization={"l2": 0.2})[1] == "regularization.l2=2"


def test_what_holds_a_network_back_is_loosened_before_it_grows() -> None:
    poor = courses.underfitting()
    held = courses.underfitting(learning_accuracy=poor.train_accuracy - 0.2)
    assert prescribed(held, model={"dropout": 0.6}, regularization={"l1": 1e-3, "l2": 0.5}) == [
        "regularization.l1=0", "regularization.l2=0.05", "model.dropout=0",
    ]  # fmt: skip


def test_why_nothing_is_learned_decides_what_to_change() -> None:
    dead = courses.not_learning(dead_relu=np.full(20, 0.9))
    assert prescribed(dead)[:2] == ["model.activation=leaky_relu", "optimizer.lr=0.0003"]
    crushed = courses.not_learning(penalty_share=np.full(20, 0.9))
    assert prescribed(crushed, regularization={"l1": 1.0})[0] == "regularization.l1=0"


def test_a_training_that_went_on_too_long_is_stopped_early() -> None:
    endless = {"train": {"early_stopping": {"patience": None, "restore_best": False}}}
    first, second = prescribed(courses.overtrained(), **endless)
    assert first == "train.early_stopping={patience: 3, restore_best: true}" and second == "regularization.l2=0.1"


def test_each_prescription_has_other_strengths_to_try() -> None:
    first, *_ = prescribe(diagnose(courses.overfitting()), DEFAULTS)
    assert first.strengths == ("augment=standard", "augment=strong")


def test_another_tool_is_advised_as_if_it_had_our_defaults() -> None:
    assert [each.override for each in prescribe(diagnose(courses.overfitting()))] == [
        "augment=standard", "regularization.l2=0.1", "model.dropout=0.5",
    ]  # fmt: skip
