"""How long a training is foreseen to compute."""

import json
from typing import Any

import pytest

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.lab import foresight
from tests.conftest import ROOT


def config(*overrides: str) -> Config:
    return compose(ROOT / "conf", ROOT / "params.yaml", ["data=digits", *overrides])


def dataset(num_train: int) -> Any:
    counts = {"train": [num_train // 2] * 2, "val": [10, 10], "confirm": [0, 0], "test": [0, 0]}
    return DatasetRecord.model_construct(classes=["a", "b"], counts=counts, channels=1, size=32, mean=[0.5], std=[0.2])


@pytest.fixture(autouse=True)
def even_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel a second, so that what a training looks at is all that counts."""
    monkeypatch.setattr(foresight, "_seconds_per_image", lambda network: float(json.loads(network)["size"] ** 2))


def test_epochs_images_and_pixels_count() -> None:
    epoch = (3 * 200 + 2 * 20) * 32**2
    assert foresight.foreseen(config("train.max_epochs=1"), dataset(200)) == (epoch, 0)
    assert foresight.foreseen(config("train.max_epochs=5"), dataset(200)) == (5 * epoch, 0)
    larger = config("model=convnet", "train.max_epochs=1", "prepare.size=64")
    assert foresight.foreseen(larger, dataset(200)) == (4 * epoch, 0)
    assert foresight.foreseen(config("train.max_epochs=1"), dataset(400)) == ((3 * 400 + 2 * 20) * 32**2, 0)


def test_a_frozen_body_looks_at_each_image_and_copy_once() -> None:
    head = config("model=efficientnet", "augment.copies=4", "train.max_epochs=50")
    assert foresight.foreseen(head, dataset(200)) == (0, (20 + 200) * 5 * 128**2)


def test_the_time_of_an_image_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    small, large = (
        foresight.foreseen(config("model=convnet", f"prepare.size={size}"), dataset(200)).each for size in (16, 128)
    )
    assert 0 < small < large
