"""`rounds.json`: the rounds of a cure, and what it adopted."""

from typing import Literal

from pipeline.artefacts.artefact import Artefact, Record
from pipeline.metrics.paired import Difference

Measure = Literal["accuracy", "balanced accuracy"]


class TrainingRecord(Record):
    """The diagnosis of one training in short. A number is None where the training diverged.

    Attributes:
        overrides: Overrides of the training, beside those of the user.
        verdict: Name of the verdict.
        sentence: The verdict with its numbers, in one sentence.
        loss: Validation loss of the weights that were kept, in nats.
        train_accuracy: Accuracy on the clean training probe, in [0, 1].
        val_accuracy: Accuracy on the validation split, in [0, 1].
        gap: `train_accuracy` less `val_accuracy`.
    """

    overrides: list[str]
    verdict: str
    sentence: str
    loss: float | None
    train_accuracy: float | None
    val_accuracy: float | None
    gap: float | None


class CandidateRecord(TrainingRecord):
    """A training that tries one change: a remedy, whose override sets it apart from the champion."""

    remedy: str
    override: str


class ConfirmationRecord(Record):
    """Challenger and champion compared on fresh seeds, paired by seed. Differences are challenger minus champion.

    Attributes:
        before: Verdict on the champion.
        after: Verdict on most of the challenger's seeds.
        measure: Name of the compared measure: `accuracy`, or `balanced accuracy` where a class is hardly ever recognised.
        accuracy: Difference in that measure on the confirm split.
        gap: Difference in the gap between training accuracy and that accuracy.
        p: p value of the sign-flip test on the accuracies.
    """

    before: str
    after: str
    measure: Measure = "accuracy"
    accuracy: Difference
    gap: Difference
    p: float


class RoundRecord(Record):
    """One round of a cure.

    Attributes:
        verdict: Verdict that the round treats.
        unrecognised: Names of the classes that are hardly ever recognised, where the round treats these.
        champion: Trainings of the champion, one for each seed; the treated one first.
        tried: Candidates, each with the seed of the treated training.
        left_out: Overrides that were not tried, as the budget would not have held their trainings.
        chosen: Override of the challenger; None where no candidate was better.
        adopted: Whether the challenger became the champion.
        confirmation: Comparison on fresh seeds; None where nothing was chosen.
    """

    verdict: str
    unrecognised: tuple[str, ...] = ()
    champion: list[TrainingRecord]
    tried: list[CandidateRecord]
    left_out: list[str]
    chosen: str | None
    adopted: bool
    confirmation: ConfirmationRecord | None


class RoundsRecord(Artefact, file="rounds.json", stage="cure"):
    """A cure that has ended.

    Attributes:
        reason: Why it ended, as a clause that follows "because".
        adopted: Overrides that remain of all adoptions, in their order.
        folds: Number of folds whose trainings stand behind each one, judged together; None: each stands for itself.
        before: Trainings of the user's configuration, one for each seed.
        after: Trainings of the champion at the end, likewise.
        rounds: Rounds in their order.
        more_data: Gain in accuracy from the second half of the training images; None where it was not measured.
        trainings: Number of trainings.
    """

    reason: str
    adopted: list[str]
    folds: int | None
    before: list[TrainingRecord]
    after: list[TrainingRecord]
    rounds: list[RoundRecord]
    more_data: Difference | None
    trainings: int
