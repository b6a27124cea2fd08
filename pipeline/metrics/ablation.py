"""What one change of a training is worth: arms beside their baseline, paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.metrics import history, paired
from pipeline.metrics.early_stopping import StoppingRule

BASELINE = "baseline"

SATURATED = 0.999
"""A training accuracy from which the gap has nothing left to shrink by but validation."""


@dataclass(frozen=True)
class Reading:
    """One training at the epoch whose weights count.

    Attributes:
        seed: Of the training.
        epoch: Counted from 1.
        row: The history there.
        num_parameters: Of the network.
        seconds: Of all epochs up to the last one that the rule would have run.
    """

    seed: int
    epoch: int
    row: Mapping[str, float]
    num_parameters: int
    seconds: float

    @property
    def accuracy(self) -> float:
        return self.row[history.VAL_ACCURACY]

    @property
    def train_accuracy(self) -> float:
        return self.row[history.CLEAN_ACCURACY]

    @property
    def gap(self) -> float:
        return self.train_accuracy - self.accuracy

    @property
    def loss(self) -> float:
        return self.row[history.VAL_LOSS]

    @property
    def calibration_error(self) -> float:
        return self.row[history.VAL_ECE]

    @property
    def norm(self) -> float:
        return self.row[history.WEIGHTS_NORM]

    @property
    def sparsity(self) -> float:
        return self.row[history.WEIGHTS_SPARSITY]


@dataclass(frozen=True)
class Arm:
    """Trainings that differ in their seed alone.

    Attributes:
        name: `baseline`, or what was changed.
        overrides: That make it from the baseline.
        readings: One for each seed, in the same order for all arms.
        histories: The rows of each.
    """

    name: str
    overrides: tuple[str, ...]
    readings: Sequence[Reading]
    histories: Sequence[Sequence[Mapping[str, float]]]

    def values(self, attribute: str) -> list[float]:
        """An attribute of its readings, seed by seed."""
        return [getattr(reading, attribute) for reading in self.readings]

    def mean(self, attribute: str) -> float:
        return fmean(self.values(attribute))


@dataclass(frozen=True)
class Effect:
    """An arm beside the baseline; each difference is arm minus baseline.

    Attributes:
        arm: What was changed.
        accuracy: Of validation.
        gap: Training accuracy minus validation accuracy, both measured alike.
        loss: Of validation, in nats.
        gap_p: The sign-flip p of the gap, corrected for the number of arms; None where the seeds are too few for it.
        saturated: Training accuracy is 1 in the arm as in the baseline, so that the gap moves with validation alone.
    """

    arm: Arm
    accuracy: paired.Difference
    gap: paired.Difference
    loss: paired.Difference
    gap_p: float | None
    saturated: bool

    def sentence(self) -> str:
        """What may be said of the gap, a null included."""
        found = self.gap
        span = f"[{found.low:+.3f}, {found.high:+.3f}]"
        if found.excludes_zero:
            verb = "shrinks" if found.mean < 0 else "widens"
            return f"{verb} the gap by {abs(found.mean):.3f} {span}"
        if found.mean == found.low == found.high == 0:
            return "every seed has the gap of the baseline"
        text = f"no effect on the gap was found: {found.mean:+.3f} {span}; {found.n} seeds find {found.detectable:.3f}"
        if self.saturated:
            text += "; training accuracy stays at 1, so that the gap can move with validation alone"
        return text


@dataclass(frozen=True)
class Dose:
    """One strength of a remedy, over the seeds of a tuning.

    Attributes:
        arm: Its name.
        override: The strength, as it is written on the command line; empty for the baseline.
        accuracies: Of validation, one for each seed.
        train_accuracies: Likewise.
        scores: The monitored metric, one for each seed.
    """

    arm: str
    override: str
    accuracies: tuple[float, ...]
    train_accuracies: tuple[float, ...]
    scores: tuple[float, ...]


def effects(baseline: Arm, arms: Sequence[Arm]) -> list[Effect]:
    """Each arm against the baseline, with p values corrected for the number of arms where the seeds allow it.

    Raises:
        ValueError: There are fewer than two seeds, or an arm has not the baseline's seeds.
    """
    if any(arm.values("seed") != baseline.values("seed") for arm in arms):
        raise ValueError("all arms must have the seeds of the baseline, in the same order")
    correct = paired.can_correct(len(baseline.readings), len(arms))
    raw = [paired.sign_flip_p(arm.values("gap"), baseline.values("gap")) for arm in arms] if correct else []
    corrected: list[float | None] = [*paired.holm(raw)] if correct else [None] * len(arms)
    return [
        Effect(
            arm,
            accuracy=paired.difference(arm.values("accuracy"), baseline.values("accuracy")),
            gap=paired.difference(arm.values("gap"), baseline.values("gap")),
            loss=paired.difference(arm.values("loss"), baseline.values("loss")),
            gap_p=p,
            saturated=min(arm.mean("train_accuracy"), baseline.mean("train_accuracy")) >= SATURATED,
        )
        for arm, p in zip(arms, corrected, strict=True)
    ]


def read(rows: Sequence[Mapping[str, float]], rule: StoppingRule, *, seed: int, num_parameters: int) -> Reading:
    """One training, read by `rule`."""
    epoch = rule.kept_epoch(rows)
    seconds = sum(row["seconds"] for row in rows[: rule.last_epoch(rows)])
    return Reading(seed, epoch, rows[epoch - 1], num_parameters, seconds)
