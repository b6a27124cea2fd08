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
from pipeline.training.lr_range import HIGHEST, LAG, LOWEST, REPEATS, SAFE, Step, lr_range, read_csv, suggestion
from pipeline.training.optimizers import build_optimizer
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
    lr, reason = suggestion(steps, name)
    assert not reason
    assert 1e-5 < lr < 1
    at = next(step for step in steps if step.lr >= lr)
    assert min(step.smoothed for step in steps) < at.smoothed <= 1.01 * steps[0].smoothed


def test_a_suggested_rate_trains(images: TrainingImages) -> None:
    lr = suggestion(run(images), "adamw").lr
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


def steps_of(smoothed: list[float], noise: float = 0.0) -> list[Step]:
    """One step for each power of ten up to 0.1, with this smoothed loss."""
    begin = -len(smoothed)
    return [Step(10.0 ** (begin + n), value + noise * (-1) ** n, value) for n, value in enumerate(smoothed)]


def test_a_tenth_of_the_rate_of_the_lowest_loss_is_suggested() -> None:
    assert suggestion(steps_of([3, 2.5, 1, 2, 9]), "adamw") == (pytest.approx(1e-3 / LAG / 10, rel=0.03), "")


def test_the_smoothed_loss_is_late_and_the_suggestion_is_not() -> None:
    smoothed, steps = 2.0, []
    for number in range(100):  # falls until the 60th step, and rises as fast
        loss = 1.0 + abs(number - 60) / 60
        smoothed = 0.9 * smoothed + 0.1 * loss
        steps.append(Step(10.0 ** (-6 + 7 * number / 99), loss, smoothed))
    assert 0.5 < suggestion(steps, "adamw").lr / (steps[60].lr / 10) < 1, "without its lag it would be 2.7"


def test_the_rate_is_at_most_a_tenth_of_that_at_which_the_loss_is_back() -> None:
    assert suggestion(steps_of([3, 2.99, 2.5, 9]), "adamw").lr <= 0.1 / 10
    assert suggestion(steps_of([1.0, 1.0, 1.0, 9]), "sgd").lr <= 0.1 / 10, "where it never fell, too"


@pytest.mark.parametrize(
    ("smoothed", "noise", "reason"),
    [
        ([1.0, 1.0, 1.0], 0.0, "the loss did not fall by more than its noise"),
        ([1.0, 0.99, 0.985], 0.0, "the loss did not fall by more than its noise"),
        ([1.0, 0.95, 0.90, 1.4], 0.5, "the loss did not fall by more than its noise"),
    ],
)
def test_a_curve_that_tells_nothing_gives_a_safe_rate(smoothed: list[float], noise: float, reason: str) -> None:
    for name, safe in SAFE.items():
        lr, why = suggestion(steps_of(smoothed, noise), name)
        assert why == reason and lr <= safe


def test_a_loss_that_falls_to_the_end_gives_a_safe_rate() -> None:
    falling = [Step(10.0 ** (-6 + 7 * n / 99), 2.0 - n / 100, 2.0 - n / 100) for n in range(100)]
    assert suggestion(falling, "adamw") == (SAFE["adamw"], "the loss did not rise again")


def test_a_first_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(
        TrainingError, match=r"^optimizer\.lr=auto must begin with a finite loss; .* Look at the images\.$"
    ):
        suggestion([], "adamw")


def grown(case: int) -> float:
    """Loss after one epoch with the suggested rate over that before, for generated images of one kind or another."""
    generator = np.random.default_rng(case)
    count, classes = int(generator.integers(20, 300)), int(generator.integers(2, 10))
    labels = generator.integers(0, classes, count)
    signal = generator.integers(0, 256, (classes, 32, 32, 1)) * generator.uniform(0, 1)
    pixels = np.clip(signal[labels] + generator.normal(0, generator.uniform(1, 80), (count, 32, 32, 1)), 0, 255)
    images = TrainingImages(pixels.astype(np.uint8), labels, np.empty((0, count, 32, 32, 1), np.uint8), seed=0)
    torch.manual_seed(case)
    student = network(["lenet", "convnet"][case % 2], num_classes=classes)
    optimizer = list(OPTIMIZERS.values())[case // 2 % 2]
    options: dict[str, Any] = {"batch_size": 32, "optimizer": optimizer}
    tests = [lr_range(student, images, seed=seed, **options) for seed in range(REPEATS)]
    lr = min(suggestion(steps, optimizer.name, few=True).lr for steps in tests)
    stepper = build_optimizer(student.parameters(), optimizer, lr)
    shown = images[0, 0, np.arange(count)]
    student.train()

    def loss_of(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(student(pixels), labels)

    with torch.no_grad():
        before = float(loss_of(*shown))
    for part in np.array_split(generator.permutation(count), -(-count // 32)):
        stepper.zero_grad()
        loss_of(*images[0, 0, part]).backward()
        stepper.step()
    with torch.no_grad():
        return float(loss_of(*shown)) / before


@pytest.mark.long
@pytest.mark.parametrize("cases", [range(3), pytest.param(range(3, 200), marks=pytest.mark.slow)], ids=["few", "all"])
def test_no_suggested_rate_makes_the_loss_grow_in_its_first_epoch(cases: range) -> None:
    found = {case: grown(case) for case in cases}
    assert not {case: ratio for case, ratio in found.items() if not ratio <= 1.0}


def test_steps_read_back_bit_for_bit(images: TrainingImages, tmp_path: Path) -> None:
    steps = run(images)
    (tmp_path / "steps.csv").write_text(to_csv(Step._fields, steps))
    assert read_csv(tmp_path / "steps.csv") == steps
