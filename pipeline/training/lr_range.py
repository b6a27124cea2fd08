"""The learning rate range test: a short training in which the rate only grows, to see where the loss falls."""

import copy
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.config.schema import SGD, AdamW
from pipeline.errors import TrainingError
from pipeline.training.batches import TrainingImages
from pipeline.training.optimizers import build_optimizer

LOWEST, HIGHEST, NUM_STEPS = 1e-6, 10.0, 100
SMOOTHING = 0.9
LAG = (HIGHEST / LOWEST) ** (SMOOTHING / (1 - SMOOTHING) / (NUM_STEPS - 1))
"""Ratio of a step's learning rate to that of the losses in its smoothed loss, which are 9 steps older in the mean."""

DIVERGED = 4.0
"""Ratio of the smoothed loss to its lowest value at which the test ends."""


SAFE = {"adamw": 1e-3, "sgd": 1e-2}
"""Learning rates that train most networks, if not fast."""

SMALLEST_FALL = 0.02

FEW_IMAGES, REPEATS, FEW_SHARE = 1_000, 3, 1 / 3
"""Below so many images the test is repeated with other seeds, and a third of the lowest rate counts: its curves are noisy."""


class Step(NamedTuple):
    """One step of the test: its learning rate, the loss of its batch, and the loss smoothed."""

    lr: float
    loss: float
    smoothed: float


def lr_range(
    network: nn.Module, images: TrainingImages, *, batch_size: int, optimizer: SGD | AdamW, seed: int
) -> list[Step]:
    """Train a copy of the network while the learning rate grows by the same factor at each step (Smith 2017, section 3.3,
    https://arxiv.org/abs/1506.01186), until the loss has grown `DIVERGED`-fold.

    Args:
        network: Network to copy; it stays as it is, and so does torch's global generator.
        images: Training images, drawn as in the first epochs of a training.
        batch_size: Number of images in a step.
        optimizer: Settings of the optimiser; its `lr` does not count.
        seed: Seed of the order of the images and of dropout.
    """
    network_copy = copy.deepcopy(network).train()
    copy_optimizer = build_optimizer(network_copy.parameters(), optimizer, LOWEST)
    generator = np.random.default_rng(seed)
    steps: list[Step] = []
    average = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number in range(NUM_STEPS):
            lr = LOWEST * (HIGHEST / LOWEST) ** (number / (NUM_STEPS - 1))
            chosen = generator.integers(0, len(images.labels), min(batch_size, len(images.labels)))
            pixels, labels = images[0, number, chosen]
            loss = F.cross_entropy(network_copy(pixels), labels)
            if not torch.isfinite(loss):
                break
            average = SMOOTHING * average + (1 - SMOOTHING) * loss.item()
            steps.append(Step(lr, loss.item(), average / (1 - SMOOTHING ** (number + 1))))
            if steps[-1].smoothed > DIVERGED * min(step.smoothed for step in steps):
                break
            copy_optimizer.param_groups[0]["lr"] = lr
            copy_optimizer.zero_grad()
            loss.backward()
            copy_optimizer.step()
    return steps


class Suggestion(NamedTuple):
    """A learning rate, and why it is not the one that the test points to; empty where it is."""

    lr: float
    reason: str


def suggestion(steps: Sequence[Step], optimizer: str, *, few: bool = False) -> Suggestion:
    """A tenth of the learning rate at which the smoothed loss was lowest: at the lowest point the loss is about to rise, at
    a tenth of it the loss still falls steeply (the rule of fast.ai's course). The smoothed loss is late by `LAG`, so the rate
    is divided by it too.

    It is at most a tenth of the rate at which the loss was above its beginning by more than its noise. Where the test points
    nowhere, because the loss did not fall by more than its noise or did not rise again, it is `SAFE`, or a tenth of the rate
    of the rise, if that is lower.

    Args:
        steps: Steps of the test.
        optimizer: Name of the optimiser.
        few: Whether there are fewer than `FEW_IMAGES`.

    Raises:
        TrainingError: There are no steps, as the first loss was not finite.
    """
    if not steps:
        raise TrainingError(
            "optimizer.lr=auto must begin with a finite loss; that of the untrained network is not. Look at the images."
        )
    place = min(range(len(steps)), key=lambda number: steps[number].smoothed)
    lowest, first = steps[place], steps[0].smoothed
    noise = max(SMALLEST_FALL * first, 3 * _error(steps[: place + 1]))
    risen = next((step.lr for step in steps[place:] if step.smoothed > first + noise), None)
    if risen is None and len(steps) < NUM_STEPS:
        risen = steps[-1].lr  # the next loss was not finite
    highest = SAFE[optimizer] if risen is None else risen / 10
    if first - lowest.smoothed <= noise:
        return Suggestion(_rounded(min(SAFE[optimizer], highest)), "the loss did not fall by more than its noise")
    if risen is None:
        return Suggestion(_rounded(min(SAFE[optimizer], lowest.lr / LAG / 10)), "the loss did not rise again")
    return Suggestion(_rounded(min(lowest.lr / LAG / 10 * (FEW_SHARE if few else 1), highest)), "")


def _error(steps: Sequence[Step]) -> float:
    """Standard error of the smoothed loss, from how much the losses of neighbouring batches differ."""
    if len(steps) < 3:
        return 0.0
    spread = float(np.std(np.diff([step.loss for step in steps]))) / math.sqrt(2)
    return spread * math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING))


def _rounded(lr: float) -> float:
    return float(f"{lr:.2g}")


def read_csv(path: Path) -> list[Step]:
    """The steps of `lr_range.csv`, bit for bit."""
    with path.open(newline="") as file:
        return [Step(*(float(row[name]) for name in Step._fields)) for row in csv.DictReader(file)]
