"""Where the rules of a diagnosis draw their lines."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Thresholds:
    """The lines, those of a pilot on small data; shares and accuracies in [0, 1].

    Attributes:
        duplicates: Share of validation images that are also training images, from which a leak is suspected.
        mismatch: By how much training mode may beat evaluation mode on the training images.
        skill: By how much an accuracy must beat the majority class to count as learned.
        no_signal_train: By how much training must beat it for validation at its level to mean that there is no signal.
        no_signal_val: By how much validation may beat it then.
        jump: Change of the training accuracy between two epochs that is no settled course; at least three images'.
        jumps: Share of such changes in the last half of the epochs.
        once_learned: By how much the best training accuracy must surely beat the majority class for a training that ends at its
            level to have been thrown off, instead of never having learned; so does a first loss above `thrown`.
        thrown: Times the guessing loss that the loss of the first epoch, also while learning, must exceed for that.
        ahead: By how much validation may beat training.
        falling: Share of the loss by which the last quarter of the epochs may still lower it once a curve has settled.
        last_step: Of a few epochs, share of the whole fall that the last step may still bring.
        hopeless_loss: Share of the guessing loss below which more epochs have nothing left to bring.
        learned_loss: Share of it below which the training loss has nothing left to fall.
        small_gap: Gap below which a curve that still falls is called so before it is called overfitting.
        gap: From which it is overfitting, where its interval lies above `sure_gap`.
        sure_gap: See `gap`.
        relative_gap: Of the accuracy above the majority class, from which a gap is overfitting too.
        rise: Of the validation loss above its least, as a share of that, from which a training went on too long.
        rise_noise: The same in standard deviations of the curve's noise.
        rise_guessing: The same as a share of the guessing loss.
        loss_of_accuracy: Of validation, below its best, that must go with such a rise.
        good_gap: That the upper bound of a good fit's gap may reach.
        dead: Share of dead ReLUs, and of penalties in the objective, that can be why nothing is learned.
        frozen: Largest ‖Δw‖/‖w‖ of a step below which the weights stand still.
        off_at_start: Share of the guessing loss by which the loss before training may differ from it.
        held_back: By how much training mode must surely be worse than evaluation mode for regularisers to be why it underfits.
        penalised: Share of penalties in the objective from which they can be.
        min_epochs: Fewer tell nothing of stability, rise or plateau.
    """

    duplicates: float = 0.005
    mismatch: float = 0.05
    skill: float = 0.02
    no_signal_train: float = 0.2
    no_signal_val: float = 0.05
    jump: float = 0.03
    jumps: float = 0.2
    once_learned: float = 0.05
    thrown: float = 1.2
    ahead: float = 0.02
    falling: float = 0.1
    last_step: float = 0.05
    hopeless_loss: float = 0.1
    learned_loss: float = 0.03
    small_gap: float = 0.1
    gap: float = 0.06
    sure_gap: float = 0.02
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
        """The lines, some of them moved.

        Raises:
            ValueError: There is no such line, or it would not lie above 0.
        """
        names = {field.name for field in fields(cls)}
        for name, value in changes.items():
            if name not in names:
                raise ValueError(f"{name} is none of the thresholds {', '.join(sorted(names))}")
            if not value > 0:
                raise ValueError(f"{name} must be above 0; got {value:g}")
        whole: dict[str, Any] = {
            name: round(value) if name == "min_epochs" else value for name, value in changes.items()
        }
        return cls(**whole)
