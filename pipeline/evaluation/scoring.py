"""Scores a training on images that it has not seen."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.evaluation import EvaluationRecord, Scores
from pipeline.artefacts.outputs import CALIBRATION, EVALUATED
from pipeline.artefacts.predictions import Predictions
from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.artefacts.signals import SignalsRecord
from pipeline.evaluation.accuracy import KEY, best_weights
from pipeline.evaluation.mistakes import most_confident_mistakes, write_mistakes
from pipeline.evaluation.outputs import Reference, outputs_of, reference
from pipeline.metrics import history, scores
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.intervals import newcombe, wilson
from pipeline.stage.inputs import check_input
from pipeline.storage import atomic
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import read_parquet_column, write_csv

NUM_MISTAKES = 24
CLASS_COLUMNS = (
    "count", "recall", "recall_low", "recall_high", "predicted", "precision", "precision_low", "precision_high", "f1",
)  # fmt: skip


def evaluate(*, training: Path, prepared: Path, batch_size: int, out: Path, tta: str = "none") -> EvaluationRecord:
    """Score a training on the test split, or for want of one on validation; write the output of the stage, and give the scores.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that the training was made from.
        batch_size: Number of images at a time; changes speed and memory, not the result.
        out: Folder to fill.
        tta: Views of each test image to average over: `none`, `flip` or `flip_shift`.

    Raises:
        DataError: The training or its weights are missing, damaged or not of this dataset.
    """
    from pipeline.plotting import figures

    run = RunRecord.read(training, KEY)
    check_input(run, "prepare", prepared, KEY)
    dataset = DatasetRecord.read(prepared)
    classes = dataset.classes
    network = best_weights(training, run, classes)
    split = "test" if any(dataset.counts["test"]) else "val"
    images = read_array(prepared / split / "images.npy")
    known = reference(network, prepared, tta=tta, batch_size=batch_size)
    measured = outputs_of(network, prepared, split, tta=tta, batch_size=batch_size)
    labels = measured.labels
    probabilities = calibrated(measured.log_probabilities, known.calibration.temperature)
    predictions = Predictions(read_parquet_column(prepared / split / "ids.parquet", "id"), labels, probabilities)
    predicted, confidence = predictions.predicted, predictions.confidence

    found = _scores(labels, probabilities, calibrated(measured.log_probabilities, 1.0))
    record = EvaluationRecord(
        split=split, training=run.id, calibration=known.calibration, scores=found, confirm=_confirm(known),
        **_fit(training, run),
    )  # fmt: skip
    record.write(out)
    known.write(out)
    measured.write(out, EVALUATED)
    matrix = scores.confusion(labels, probabilities)
    predictions.write(out)
    pairs = ((classes[label], classes[guess]) for label, guess in zip(labels, predicted, strict=True))
    write_csv(out / "confusion.csv", ("actual", "predicted"), pairs)
    per_class = zip(classes, scores.per_class(labels, probabilities), strict=True)
    lines = ((name, *_class_row(score)) for name, score in per_class)
    write_csv(out / "per_class.csv", ("class", *CLASS_COLUMNS), lines)
    temperature = known.calibration.temperature
    write_mistakes(
        out, network, prepared, split, predictions, temperature=temperature, batch_size=batch_size
    )  # fmt: skip
    worst = most_confident_mistakes(labels, predicted, confidence)[:NUM_MISTAKES]
    shown = figures.mistakes(images[worst], labels[worst], predicted[worst], confidence[worst], classes)
    atomic.write_bytes(out / "mistakes.png", shown)
    atomic.write_bytes(out / "confusion.png", figures.confusion(matrix, classes))
    return record


def _confirm(known: Reference) -> Interval | None:
    """Accuracy on the confirm split, which `known` has where it alone calibrated the network."""
    if known.calibration.splits != ["confirm"]:
        return None
    outputs = known.outputs[CALIBRATION]
    correct = int((outputs.log_probabilities.argmax(axis=1) == outputs.labels).sum())
    return Interval(
        value=correct / len(outputs), **dict(zip(("low", "high"), wilson(correct, len(outputs)), strict=True))
    )


def _scores(labels: NDArray[np.int64], probabilities: NDArray[np.float32], uncalibrated: NDArray[np.float32]) -> Scores:
    low, high = wilson(int((labels == probabilities.argmax(axis=1)).sum()), len(labels))
    balanced_low, balanced_high = scores.balanced_accuracy_interval(labels, probabilities)
    balanced = scores.balanced_accuracy(labels, probabilities)
    return Scores(
        accuracy=Interval(value=scores.accuracy(labels, probabilities), low=low, high=high),
        balanced_accuracy=Interval(value=balanced, low=balanced_low, high=balanced_high),
        precision_macro=scores.precision_macro(labels, probabilities),
        f1_macro=scores.f1_macro(labels, probabilities),
        loss=scores.negative_log_likelihood(labels, probabilities),
        ece=scores.expected_calibration_error(labels, probabilities),
        loss_uncalibrated=scores.negative_log_likelihood(labels, uncalibrated),
        ece_uncalibrated=scores.expected_calibration_error(labels, uncalibrated),
    )


def _class_row(score: scores.ClassScore) -> tuple[float, ...]:
    """The values of `CLASS_COLUMNS`."""
    recall, precision = (score.recall, *score.recall_interval()), (score.precision, *score.precision_interval())
    return (score.count, *recall, score.predicted, *precision, score.f1)


def _fit(training: Path, run: RunRecord) -> dict[str, Any]:
    """The fields of the record about the epoch whose weights were kept, and the gap between training and validation accuracy.

    The gap's 95 % interval is that of a difference of two proportions (Newcombe 1998, method 10).
    """
    kept, signals = run.at_kept_epoch(read_rows(training)), SignalsRecord.read(training)
    num_train = signals.num_probe if run.kept_training is None else run.kept_training.num_images
    num_val, clean, val = signals.num_val, kept[history.CLEAN_ACCURACY], kept[history.VAL_ACCURACY]
    low, high = newcombe(round(clean * num_train), num_train, round(val * num_val), num_val)
    return {"kept_epoch": kept, "gap": Interval(value=clean - val, low=low, high=high)}
