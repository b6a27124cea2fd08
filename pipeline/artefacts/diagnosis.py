"""`diagnosis.json`: the verdict on a training, its evidence, and what to change; `metrics.json`: what people compare of it."""

from pathlib import Path

from pipeline.artefacts.artefact import Artefact, Interval, Record, write_metrics


class Prescribed(Record):
    """A change that may cure the verdict: a remedy, the override to begin with, and overrides of other strengths."""

    remedy: str
    override: str
    strengths: list[str]


class Found(Record):
    """A sign of overfitting, the gap or the rise, with its size; told whatever the verdict.

    Attributes:
        name: `gap` of the accuracies, or `rise` of the validation loss from its least.
        present: Whether there is one.
        interval: Its size, of accuracy or in nats.
        text: The finding as a clause.
    """

    name: str
    present: bool
    interval: Interval
    text: str


class Concern(Record):
    """A finding beside the verdict that should worry a reader.

    Attributes:
        name: Name of the kind of finding.
        evidence: Clause with the numbers that show it.
        interval: The number that tells most, with its interval.
        step: Action that mends it, as a clause.
    """

    name: str
    evidence: str
    interval: Interval
    step: str


class DiagnosisRecord(Artefact, file="diagnosis.json", stage="diagnose"):
    """A diagnosis as it is stored.

    Attributes:
        training: Our own id of the weights; None for the training of another tool.
        verdict: Name of the verdict.
        confidence: Distance from the nearest threshold, in [0, 1].
        close_call: Smallest change of a number that gives another verdict, as a clause; empty where the confidence is high.
        sentence: The verdict with its numbers, in one sentence.
        meaning: Meaning of the verdict for the two curves.
        rule: Name of the rule that fired.
        epoch: Epoch whose weights were judged, counted from 1; None for the end of the training.
        evidence: Measured values by name, with their intervals where they have one.
        findings: Gap and rise, by name; none of a training that diverged.
        causes: Likely causes, as clauses.
        flags: Remarks beside the verdict, by name.
        not_judged: Rules that could not be judged.
        settled_by: Measurement that would settle an inconclusive verdict; empty otherwise.
        prescriptions: Changes to try, the most promising first.
        concerns: Findings beside the verdict, which do not change it.
    """

    training: str | None
    verdict: str
    confidence: float
    close_call: str
    sentence: str
    meaning: str
    rule: str
    epoch: int | None
    evidence: dict[str, Interval | float | None]
    findings: list[Found]
    causes: list[str]
    flags: dict[str, str]
    not_judged: list[str]
    settled_by: str
    prescriptions: list[Prescribed]
    concerns: list[Concern]

    def write(self, folder: Path) -> None:
        """Write both files into `folder`."""
        super().write(folder)
        few: dict[str, str | float] = {"verdict": self.verdict, "concerns": len(self.concerns)}
        for name in ("train_accuracy", "val_accuracy", "gap"):
            if name in self.evidence:
                few[name] = self.interval(name).value
        write_metrics(folder, few)

    def interval(self, name: str) -> Interval:
        """A measured value that has an interval, such as `gap`.

        Raises:
            KeyError: The value was not measured, or has no interval.
        """
        value = self.evidence[name]
        if not isinstance(value, Interval):
            raise KeyError(name)
        return value


class ReferenceRecord(Artefact, file="reference.json", stage="diagnose"):
    """Best validation accuracy of simple methods on the prepared data, and the number of images that it was measured on."""

    accuracy: float
    num_images: int


class LabelNoiseRecord(Artefact, file="label_noise.json", stage="diagnose"):
    """Estimate of the share of labels that are wrong in training and validation.

    Attributes:
        share, low, high: The share, with its 95 % interval.
        accuracy: Share of the labels that a logistic regression predicts on images that it was not fitted on.
        majority: Share of the most frequent class.
        num_images: Number of images behind it.
        views: Names of what the logistic regression saw.
    """

    share: float
    low: float
    high: float
    accuracy: float
    majority: float
    num_images: int
    views: list[str]

    @property
    def skill(self) -> float:
        """Accuracy on the labels that are not surely wrong, on a scale from guessing (0) to no mistake (1); 0 where half of
        them are wrong, as nothing tells that from images that are too hard."""
        if self.low >= 0.5 or self.majority == 1:
            return 0.0
        return (min(1.0, self.accuracy / (1 - self.low)) - self.majority) / (1 - self.majority)


class SizeTrialRecord(Artefact, file="size_trial.json", stage="diagnose"):
    """Accuracy of a logistic regression on edges at twice the size less that at the size of training, on the same images.

    Attributes:
        size: Larger size, in pixels.
        num_images: Number of images behind it.
        gain: The difference, with its 95 % interval.
    """

    size: int
    num_images: int
    gain: Interval
