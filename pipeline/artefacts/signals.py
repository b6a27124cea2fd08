"""`signals.json`: what is measured once, before a training."""

from pipeline.artefacts.artefact import Artefact, Record


class OneBatch(Record):
    """Whether a copy of the network learns one batch by heart.

    Attributes:
        num_images: Number of images in the batch.
        steps: Number of optimiser steps that were made.
        loss_before: Cross-entropy before the first step.
        loss_after: Cross-entropy after the last step; None where it was not finite.
        accuracy_after: Accuracy after the last step, in [0, 1].
        passed: Whether every label was right in the end.
    """

    num_images: int
    steps: int
    loss_before: float
    loss_after: float | None
    accuracy_after: float
    passed: bool


class SignalsRecord(Artefact, file="signals.json", stage="train"):
    """The start of a training, and the number of images that its curves are measured on.

    Attributes:
        initial_loss: Cross-entropy of the untrained network.
        initial_loss_expected: Cross-entropy of guessing, ln(num_classes).
        one_batch: Result of the one-batch test.
        num_classes: Number of classes.
        num_train: Number of training images.
        num_probe: Number of images of the clean training probe.
        num_val: Number of validation images.
    """

    initial_loss: float
    initial_loss_expected: float
    one_batch: OneBatch
    num_classes: int
    num_train: int
    num_probe: int
    num_val: int
