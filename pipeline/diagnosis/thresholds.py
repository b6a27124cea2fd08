"""Holds the thresholds of the rules, and replaces some by those of a user."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of the rules; the defaults come from a study on small data (docs/diagnosis.md).

    Accuracies, shares and their differences are in [0, 1]. "Surely" refers to the bound of a 95 % interval. The guessing
    loss is that of predicting the shares of the classes.

    Attributes:
        duplicates: Share of validation images among the training images above which a leak is suspected.
        mismatch: Largest lead of training mode over evaluation mode on training images.
        skill: Smallest lead over the majority class that counts as learned.
        known: Share of the guessing loss by which the training loss must be below it for something to be learned, whatever
            the accuracy.
        no_signal_train: Smallest lead of training over the majority class at which validation without one means no signal.
        no_signal_val: Largest lead of validation over the majority class in that case.
        jump: Smallest change of training accuracy between two epochs that counts as a jump; at least three images.
        jumps: Share of jumps in the last half of the epochs above which a training is unstable.
        once_learned: Lead of the best training accuracy over the majority class above which a training that ends at the
            level of the majority class was thrown off, instead of never having learned.
        thrown: Ratio of the first epoch's loss, also while learning, to the guessing loss above which it was thrown off too.
        ahead: Largest lead of validation over training.
        falling: Largest relative fall of a loss in the last quarter of the epochs that counts as settled.
        sure_fall: Lower bound of the projected fall of the validation loss above which it is still learning, as a share of the
            guessing loss.
        fall: Smallest projected fall of both losses for that, as a share of the guessing loss.
        worth: Smallest projected gain of validation accuracy for that.
        closes: Share of the distance to the reference that the gain must close where training accuracy is surely below it.
        left: Share of mistakes on training images above which there is something left to learn.
        last_step: Share of the whole fall that the last step of a short training must exceed for it to be still learning.
        hopeless_loss: Share of the guessing loss below which a validation loss has little left to fall.
        small_gap: Gap below which `still_learning` is tried before `overfitting`.
        gap: Gap above which a training overfits, if it is also sure that there is one.
        relative_gap: Share of training's lead over the majority class; a gap surely above it is overfitting too.
        rise: Smallest rise of the validation loss that noise does not explain, as a share of its minimum.
        rise_noise: The same in standard deviations of the noise; the largest of the three counts.
        rise_guessing: The same as a share of the guessing loss.
        loss_of_accuracy: Loss of validation accuracy since its best above which such a rise is overfitting.
        good_gap: Largest upper bound of the gap's interval of a good fit.
        dead: Share of dead ReLUs, or of penalties in the objective, above which they can be why nothing is learned.
        frozen: Largest ‖Δw‖/‖w‖ of a step below which the weights do not move.
        off_at_start: Largest relative distance of the loss before training from the guessing loss.
        held_back: Deficit of training mode against evaluation mode above which regularisation causes underfitting.
        penalised: Share of penalties in the objective above which regularisation causes underfitting.
        min_epochs: Smallest number of epochs to judge stability, a rise, or whether a curve has settled.
    """

    duplicates: float = 0.005
    mismatch: float = 0.05
    skill: float = 0.02
    known: float = 0.05
    no_signal_train: float = 0.2
    no_signal_val: float = 0.05
    jump: float = 0.03
    jumps: float = 0.2
    once_learned: float = 0.05
    thrown: float = 1.2
    ahead: float = 0.02
    falling: float = 0.1
    sure_fall: float = 0.002
    fall: float = 0.005
    worth: float = 0.002
    closes: float = 0.5
    left: float = 0.01
    last_step: float = 0.05
    hopeless_loss: float = 0.1
    small_gap: float = 0.1
    gap: float = 0.06
    relative_gap: float = 0.1
    rise: float = 0.05
    rise_noise: float = 3.0
    rise_guessing: float = 0.02
    loss_of_accuracy: float = 0.02
    good_gap: float = 0.08
    dead: float = 0.5
    frozen: float = 1e-8
    off_at_start: float = 0.1
    held_back: float = 0.02
    penalised: float = 0.2
    min_epochs: int = 10

    @classmethod
    def changed(cls, changes: Mapping[str, float]) -> Self:
        """The default thresholds with some replaced by new values, keyed by the name of the threshold.

        Raises:
            ValueError: A name is unknown, or a value is not above 0.
        """
        names = {field.name for field in fields(cls)}
        for name, value in changes.items():
            if name not in names:
                raise ValueError(f"{name} is none of the thresholds {', '.join(sorted(names))}")
            if not value > 0:
                raise ValueError(f"{name} must be above 0; got {value:g}")
        values: Mapping[str, Any] = changes
        if "min_epochs" in changes:
            values = {**changes, "min_epochs": round(changes["min_epochs"])}
        return cls(**values)
