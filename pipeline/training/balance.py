"""Balances classes of unequal size: weights the loss, or draws each class equally often."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.seeds import derive_seed

Indices = NDArray[np.int64]


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """Class weights n / (k · n_c), for n images, k classes that have any, and n_c images of the class.

    All classes then weigh the same in an epoch, and an image weighs 1 on average (scikit-learn's
    `compute_class_weight("balanced")`). A class without images weighs 0.

    >>> balanced_weights(np.array([0, 0, 0, 2]), num_classes=3).tolist()
    [0.6666666865348816, 0.0, 2.0]
    """
    counts = np.bincount(labels, minlength=num_classes)
    fair = len(labels) / np.count_nonzero(counts)
    return torch.tensor([fair / count if count else 0.0 for count in counts], dtype=torch.float32)


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with a weight w for each class, and the weight of the batch.

    With t the target's shares before smoothing, s those after it, and p the predicted probabilities:

        Σ_i Σ_c w_c · s_ic · (−ln p_ic)  /  Σ_i Σ_c w_c · t_ic

    A mixed image counts for each of its classes by its share, and is divided by the weight expected of it. With labels it
    is torch's `CrossEntropyLoss(weight=w, label_smoothing=…)`. Torch's own loss of shares divides by the number of images
    instead, and would grow with the share of rare classes in a batch.

    Args:
        logits: Shape (batch, classes).
        targets: Labels int64 (batch,), or shares of the classes (batch, classes), each row of sum 1.
        weights: Class weights w, of shape (classes,).
        label_smoothing: Share of each target that is spread over all classes.

    Returns:
        The loss, and its denominator.
    """
    total = F.cross_entropy(logits, targets, weights, label_smoothing=label_smoothing, reduction="sum")
    weight = (weights[targets] if targets.ndim == 1 else targets * weights).sum()
    return total / weight, weight


def members(labels: NDArray[np.int64]) -> list[Indices]:
    """The indices of the images of each class that has any, in the order of the labels.

    >>> [indices.tolist() for indices in members(np.array([2, 0, 2, 0, 0]))]
    [[1, 3, 4], [0, 2]]
    """
    counts = np.bincount(labels)
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(counts[counts > 0])[:-1])


def balanced_draws(classes: Sequence[Indices], num_draws: int, seed: int, epoch: int) -> Indices:
    """Indices of the images of one epoch that shows all classes equally often, give or take one image.

    Each class is drawn in one random order after another, and an epoch goes on where the one before it ended. So no image is
    repeated before all others of its class were drawn, and over the epochs all images are drawn equally often. The result
    depends on the arguments alone, so that earlier epochs need not be drawn.

    Args:
        classes: Indices of the images of each class, from `members`.
        num_draws: Number of images in the epoch, repeated ones included.
        seed: Seed of the orders.
        epoch: Number of the epoch, counted from 0.

    Returns:
        int64 of shape (num_draws,), class after class.
    """
    quotas = [num_draws // len(classes) + (number < num_draws % len(classes)) for number in range(len(classes))]
    drawn = [
        _in_turn(images, epoch * quota, (epoch + 1) * quota, derive_seed(seed, f"class {number}"))
        for number, (images, quota) in enumerate(zip(classes, quotas, strict=True))
    ]
    return np.concatenate(drawn)


def _in_turn(images: Indices, begin: int, end: int, seed: int) -> Indices:
    """Positions `begin` to `end` of an endless series of random orders of `images`."""

    def order(number: int) -> Indices:
        return np.random.default_rng([seed, number]).permutation(images)

    (first, skipped), (last, rest) = divmod(begin, len(images)), divmod(end, len(images))
    if first == last:
        return order(first)[skipped:rest]
    # The caller shuffles the result, so that of the orders between these two only the images count.
    return np.concatenate([order(first)[skipped:], np.tile(images, last - first - 1), order(last)[:rest]])
