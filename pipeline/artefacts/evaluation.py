"""`details.json`: scores of the images that training has not seen, and `metrics.json`: the few of them that people compare."""

from pathlib import Path

from pipeline.artefacts.artefact import Artefact, Interval, Record, write_metrics

SPLIT_TITLES = {"test": "test", "val": "validation"}
"""Splits that an evaluation can be of, as people call them."""


class Scores(Record):
    """Scores of the weights that were kept, on one split.

    Accuracies, precision, F1 and the calibration error lie in [0, 1]; the loss is a cross-entropy in nats.

    Attributes:
        accuracy: Share of the images that were classified rightly.
        balanced_accuracy: Mean of the recall over the classes.
        precision_macro: Mean of the precision over the classes.
        f1_macro: Mean over the classes of the harmonic mean of recall and precision.
        loss: Cross-entropy of the calibrated probabilities.
        ece: Expected calibration error of the calibrated probabilities.
        loss_uncalibrated: Cross-entropy before calibration.
        ece_uncalibrated: Expected calibration error before calibration.
    """

    accuracy: Interval
    balanced_accuracy: Interval
    precision_macro: float
    f1_macro: float
    loss: float
    ece: float
    loss_uncalibrated: float
    ece_uncalibrated: float

    def by_name(self, prefix: str) -> dict[str, float]:
        """The scores and the ends of their intervals, such as `<prefix>accuracy` and `<prefix>accuracy_low`."""
        values: dict[str, float] = {}
        for name, score in self:
            if isinstance(score, Interval):
                values |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
            else:
                values[name] = score
        return {f"{prefix}{name}": value for name, value in values.items()}


class Calibration(Record):
    """The calibration of a network's probabilities p, which become p^(1/temperature), scaled to a sum of 1.

    Attributes:
        splits: Splits whose images it was fitted on: `confirm`, and `val` too where that one has few.
        num_images: Number of these images.
        tta: Views of each image that the probabilities are means over; see `evaluate.tta`.
        temperature: Temperature; 1 where the images were too few to fit one.
    """

    splits: list[str]
    num_images: int
    tta: str
    temperature: float


class EvaluationRecord(Artefact, file="details.json", stage="evaluate"):
    """An evaluation as it is stored.

    Attributes:
        split: `test`; `val` for data without a test split.
        training: Our own id of the training.
        calibration: Calibration of the probabilities.
        scores: Scores on that split.
        kept_epoch: Losses and accuracies of the weights that were kept, by column of the history.
        gap: Accuracy on the clean training probe less that on the validation split, at that epoch.
        confirm: Accuracy on the confirm split; None where it has too few images to calibrate on alone.
    """

    VERSION = 2

    split: str
    training: str
    calibration: Calibration
    scores: Scores
    kept_epoch: dict[str, float]
    gap: Interval
    confirm: Interval | None = None

    def by_name(self) -> dict[str, float]:
        """The scores on the test split as MLflow names them; none for an evaluation of another split."""
        return self.scores.by_name("test/") if self.split == "test" else {}

    def write(self, folder: Path) -> None:
        """Write both files into `folder`."""
        super().write(folder)
        scores = self.by_name()
        names = [f"test/{name}" for name in ("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "loss")]
        write_metrics(folder, {name: scores[name] for name in names if name in scores})
