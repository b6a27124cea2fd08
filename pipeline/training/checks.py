"""Checks a network before training: it should start near chance, and be able to learn a single batch by heart."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.artefacts.signals import OneBatch, SignalsRecord
from pipeline.errors import TrainingError
from pipeline.seeds import derive_seed
from pipeline.terminal import progress
from pipeline.training.batches import ImageBatches

ONE_BATCH_IMAGES, ONE_BATCH_STEPS, ONE_BATCH_LR = 32, 100, 3e-3


def measure_signals(network: nn.Module, batches: ImageBatches, num_classes: int, seed: int) -> SignalsRecord:
    """Measure the loss at initialisation beside ln C, and whether the network can learn one batch by heart.

    Both checks are from Karpathy, "A recipe for training neural networks" (2019). The network is left as it was.

    Args:
        network: Freshly initialised network.
        batches: Batches of the training; the checks take the first one of the clean training probe.
        num_classes: Number of classes, C.
        seed: Seed of the training.
    """
    images, labels = batches.probe[0]
    with torch.no_grad():
        initial_loss = float(F.cross_entropy(network.eval()(images), labels))
    network.train()
    return SignalsRecord(
        initial_loss=initial_loss, initial_loss_expected=math.log(num_classes),
        one_batch=_one_batch(network, images, labels, derive_seed(seed, "checks")), num_classes=num_classes,
        num_train=len(batches.train.labels), num_probe=len(batches.probe.labels), num_val=len(batches.val.labels),
    )  # fmt: skip


def _one_batch(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> OneBatch:
    """A copy of the network, without dropout, is trained on one batch with AdamW until every label is right."""
    torch.manual_seed(seed)
    images, labels = images[:ONE_BATCH_IMAGES], labels[:ONE_BATCH_IMAGES]
    student = copy.deepcopy(network).train()
    for layer in student.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.eval()
    optimizer = torch.optim.AdamW(student.parameters(), ONE_BATCH_LR, weight_decay=0.0)
    first_loss, loss, accuracy, steps = math.nan, math.nan, 0.0, 0
    with progress("learning one batch by heart, a check", ONE_BATCH_STEPS) as show:
        for steps in range(ONE_BATCH_STEPS + 1):
            show(steps)
            logits = student(images)
            objective = F.cross_entropy(logits, labels)
            loss, accuracy = objective.item(), float((logits.argmax(1) == labels).double().mean())
            first_loss = loss if steps == 0 else first_loss
            if not math.isfinite(loss) or accuracy == 1.0 or steps == ONE_BATCH_STEPS:
                break
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
    if not math.isfinite(first_loss):
        raise TrainingError(f"the loss of the untrained network must be finite; got {first_loss}. Look at the images.")
    return OneBatch(
        num_images=len(labels), steps=steps, loss_before=first_loss, loss_after=loss if math.isfinite(loss) else None,
        accuracy_after=accuracy, passed=accuracy == 1.0,
    )  # fmt: skip
