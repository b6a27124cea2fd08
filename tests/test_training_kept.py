"""The kept weights are measured on the training images themselves, once, after the training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pipeline.model
from pipeline.config.composition import compose
from pipeline.training import kept
from pipeline.training.training import Inputs, train
from tests.conftest import ROOT

SETTINGS = [
    *("model=convnet", "model.width=4", "model.depth=2", "train.max_epochs=3", "train.batch_size=16"),
    *("train.accelerator=cpu", "train.threads=1"),
]


@pytest.fixture
def inputs(make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]) -> Inputs:
    prepared = make_prepared(num_train=90, num_val=12)
    return Inputs(prepared, make_augmented(prepared))


@pytest.mark.parametrize(("most", "number"), [(20_000, 90), (50, 50)])
def test_all_training_images_count_or_as_many_as_are_cheap(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, number: int
) -> None:
    monkeypatch.setattr(kept, "MOST", most)
    out, working = tmp_path / "out", tmp_path / "working"
    out.mkdir()
    working.mkdir()
    config = compose(ROOT / "conf", ROOT / "params.yaml", SETTINGS)
    record = train(inputs, tmp_path / "cache", working, out, config, lambda row, time_ms: None)
    assert record.kept_training is not None and record.kept_training.num_images == number
    images, labels = (np.load(inputs.prepare / "train" / f"{name}.npy") for name in ("images", "labels"))
    network = pipeline.model.load(out / "model.ckpt")[0]
    right = pipeline.model.probabilities(network, images, batch_size=30).argmax(axis=1) == labels
    if number == 90:
        assert record.kept_training.accuracy == right.mean()
    assert right.sum() - (90 - number) <= record.kept_training.accuracy * number <= right.sum()
