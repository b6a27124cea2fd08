"""Compares the arms of an ablation with their baseline, paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.metrics import history, paired
from pipeline.metrics.early_stopping import StoppingRule

BASELINE = "baseline"

SATURATED = 0.999
"""Training accuracy from which the gap can shrink only by a rise of validation accuracy."""


def _column(key: str) -> property:
    """A property of `Reading` that is a column of its row."""
    return property(lambda reading: reading.row[key])


@dataclass(frozen=True)
class Reading:
    """One training at the epoch whose weights are kept.

    Attributes:
        seed: Seed of the training.
        epoch: Epoch whose weights are kept, counted from 1.
        row: Row of the history at that epoch.
        num_parameters: Number of parameters of the network.
        seconds: Duration of all epochs up to the last one that the stopping rule would have run.
    """

    seed: int
    epoch: int
    row: Mapping[str, float]
    num_parameters: int
    seconds: float

    accuracy, train_accuracy = _column(history.VAL_ACCURACY), _column(history.CLEAN_ACCURACY)
    loss, calibration_error = _column(history.VAL_LOSS), _column(history.VAL_ECE)
    norm, sparsity = _column(history.WEIGHTS_NORM), _column(history.WEIGHTS_SPARSITY)

    @property
    def gap(self) -> float:
        return self.row[history.CLEAN_ACCURACY] - self.row[history.VAL_ACCURACY]


@dataclass(frozen=True)
class Arm:
    """Trainings that differ only in their seed.

    Attributes:
        name: `baseline`, or the name of the change.
        overrides: Overrides that turn the baseline into this arm.
        readings: One reading for each seed, in the same order for all arms.
        histories: Rows of each training's history, in the order of `readings`.
    """

    name: str
    overrides: tuple[str, ...]
    readings: Sequence[Reading]
    histories: Sequence[Sequence[Mapping[str, float]]]

    def values(self, attribute: str) -> list[float]:
        """The values of an attribute of `Reading`, one for each seed."""
        return [getattr(reading, attribute) for reading in self.readings]

    def mean(self, attribute: str) -> float:
        return fmean(self.values(attribute))


@dataclass(frozen=True)
class Effect:
    """Differences between an arm and the baseline, each arm minus baseline.

    Attributes:
        arm: The arm.
        accuracy: Difference in validation accuracy.
        gap: Difference in the gap, which is training accuracy minus validation accuracy, both in evaluation mode.
        loss: Difference in validation loss, in nats.
        gap_p: p value of the sign-flip test of the gap, corrected for the number of arms; None with too few seeds.
        saturated: Whether training accuracy is 1 in both, so that only validation accuracy can change the gap.
    """

    arm: Arm
    accuracy: paired.Difference
    gap: paired.Difference
    loss: paired.Difference
    gap_p: float | None
    saturated: bool

    def sentence(self) -> str:
        """The effect on the gap in words; without a clear effect, also the smallest effect that could be detected."""
        gap = self.gap
        interval = f"[{gap.low:+.3f}, {gap.high:+.3f}]"
        if gap.excludes_zero:
            verb = "shrinks" if gap.mean < 0 else "widens"
            return f"{verb} the gap by {abs(gap.mean):.3f} {interval}"
        if gap.mean == gap.low == gap.high == 0:
            return "every seed has the gap of the baseline"
        text = f"no effect on the gap was found: {gap.mean:+.3f} {interval}; {gap.n} seeds find {gap.detectable:.3f}"
        if self.saturated:
            text += "; training accuracy stays at 1, so that the gap can move with validation alone"
        return text


@dataclass(frozen=True)
class Dose:
    """One strength of a remedy, trained with each seed of a tuning.

    Attributes:
        arm: Name of the remedy's arm.
        override: Override that sets the strength; empty for the baseline.
        accuracies: Validation accuracy, one for each seed.
        train_accuracies: Training accuracy, one for each seed.
        scores: Monitored metric, one for each seed.
    """

    arm: str
    override: str
    accuracies: tuple[float, ...]
    train_accuracies: tuple[float, ...]
    scores: tuple[float, ...]


def effects(baseline: Arm, arms: Sequence[Arm]) -> list[Effect]:
    """Compares each arm with the baseline; p values are corrected for the number of arms.

    Raises:
        ValueError: There are fewer than two seeds, or the seeds of an arm differ from those of the baseline.
    """
    if any(arm.values("seed") != baseline.values("seed") for arm in arms):
        raise ValueError("all arms must have the seeds of the baseline, in the same order")
    correct = paired.can_correct(len(baseline.readings), len(arms))
    raw = [paired.sign_flip_p(arm.values("gap"), baseline.values("gap")) for arm in arms] if correct else []
    corrected: list[float | None] = [*paired.holm(raw)] if correct else [None] * len(arms)
    compared = []
    for arm, p in zip(arms, corrected, strict=True):
        accuracy, gap, loss = (
            paired.difference(arm.values(measure), baseline.values(measure)) for measure in ("accuracy", "gap", "loss")
        )
        saturated = min(arm.mean("train_accuracy"), baseline.mean("train_accuracy")) >= SATURATED
        compared.append(Effect(arm, accuracy, gap, loss, p, saturated))
    return compared


def read(rows: Sequence[Mapping[str, float]], rule: StoppingRule, *, seed: int, num_parameters: int) -> Reading:
    """Reads one training at the epoch that `rule` keeps."""
    epoch = rule.kept_epoch(rows)
    seconds = sum(row["seconds"] for row in rows[: rule.last_epoch(rows)])
    return Reading(seed, epoch, rows[epoch - 1], num_parameters, seconds)
