"""The learning rate range test, and `optimizer.lr=auto`, which uses it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.schema import SGD, AdamW
from pipeline.errors import TrainingError
from pipeline.storage.tables import to_csv
from pipeline.training.batches import TrainingImages
from pipeline.training.lr_range import HIGHEST, LOWEST, Step, lr_range, read_csv, suggestion
from tests.networks import network

OPTIMIZERS: dict[str, SGD | AdamW] = {
    "sgd": SGD(name="sgd", lr="auto", momentum=0.9, nesterov=True, layer_decay=1.0),
    "adamw": AdamW(name="adamw", lr="auto", beta1=0.9, beta2=0.999, layer_decay=1.0),
}


@pytest.fixture
def images() -> TrainingImages:
    """Noise with a bright bar whose place tells the class."""
    labels = np.arange(96) % 3
    pixels = np.random.default_rng(0).integers(0, 90, (96, 32, 32, 1), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[8 * label + 4 : 8 * label + 9] = 220
    return TrainingImages(pixels, labels, np.empty((0, *pixels.shape), np.uint8), seed=0)


def run(images: TrainingImages, name: str = "adamw", seed: int = 0, dropout: float = 0.3) -> list[Step]:
    torch.manual_seed(0)
    student = network("lenet", num_classes=3, dropout=dropout)
    return lr_range(student, images, batch_size=32, optimizer=OPTIMIZERS[name], seed=seed)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls_and_then_leaps_and_the_suggestion_lies_in_the_fall(images: TrainingImages, name: str) -> None:
    steps = run(images, name)
    rates = [step.lr for step in steps]
    assert rates[0] == LOWEST and rates == sorted(rates) and rates[-1] <= HIGHEST
    lr = suggestion(steps)
    assert 1e-5 < lr < 1
    at = next(step for step in steps if step.lr >= lr)
    assert min(step.smoothed for step in steps) < at.smoothed <= 1.01 * steps[0].smoothed


def test_a_suggested_rate_trains(images: TrainingImages) -> None:
    lr = suggestion(run(images))
    torch.manual_seed(0)
    student = network("lenet", num_classes=3)
    optimizer = torch.optim.AdamW(student.parameters(), lr)
    pixels, labels = images[0, 0, np.arange(96)]
    first = nn.functional.cross_entropy(student(pixels), labels)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(student(pixels), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * first


def test_the_seed_decides_everything_and_nothing_outside_is_touched(images: TrainingImages) -> None:
    torch.manual_seed(0)
    student = network("lenet", num_classes=3, dropout=0.3)
    before, drawn = copy.deepcopy(student.state_dict()), torch.random.get_rng_state()
    options: dict[str, Any] = {"batch_size": 32, "optimizer": OPTIMIZERS["adamw"]}
    first, second, other = (lr_range(student, images, seed=seed, **options) for seed in (1, 1, 2))
    assert first == second != other
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_a_tenth_of_the_rate_of_the_lowest_loss_is_suggested() -> None:
    steps = [Step(10.0**power, 1.0, smoothed) for power, smoothed in zip(range(-5, 0), [3, 2.5, 1, 2, 9], strict=True)]
    assert suggestion(steps) == pytest.approx(1e-4)


@pytest.mark.parametrize("smoothed", [[], [1.0, 1.0, 1.0], [1.0, 0.99, 3.0]])
def test_a_loss_that_does_not_fall_is_refused(smoothed: list[float]) -> None:
    steps = [Step(10.0 ** (number - 3), value, value) for number, value in enumerate(smoothed)]
    message = (
        r"optimizer\.lr=auto must find a learning rate at which the loss falls; it fell at none .* Set optimizer\.lr"
    )
    with pytest.raises(TrainingError, match=message):
        suggestion(steps)


def test_steps_read_back_bit_for_bit(images: TrainingImages, tmp_path: Path) -> None:
    steps = run(images)
    (tmp_path / "steps.csv").write_text(to_csv(Step._fields, steps))
    assert read_csv(tmp_path / "steps.csv") == steps
