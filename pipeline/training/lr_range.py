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
DIVERGED = 4.0
"""Ratio of the smoothed loss to its lowest value at which the test ends."""


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


def suggestion(steps: Sequence[Step]) -> float:
    """A tenth of the learning rate at which the smoothed loss was lowest: at the lowest point the loss is about to rise, at
    a tenth of it the loss still falls steeply (the rule of fast.ai's course).

    Raises:
        TrainingError: The loss never fell by as much as 2 %.
    """
    lowest = min(steps, key=lambda step: step.smoothed, default=Step(math.nan, math.nan, math.inf))
    if not steps or lowest.smoothed > 0.98 * steps[0].smoothed:
        raise TrainingError(
            "optimizer.lr=auto must find a learning rate at which the loss falls; it fell at none from "
            f"{LOWEST:g} to {steps[-1].lr if steps else LOWEST:.2g}. Set optimizer.lr to a number, and look at the images."
        )
    return float(f"{lowest.lr / 10:.2g}")


def read_csv(path: Path) -> list[Step]:
    """The steps of `lr_range.csv`, bit for bit."""
    with path.open(newline="") as file:
        return [Step(*(float(row[name]) for name in Step._fields)) for row in csv.DictReader(file)]
