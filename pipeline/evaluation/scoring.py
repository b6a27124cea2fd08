"""Scores a training on the test split."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.metrics import MetricsRecord
from pipeline.artefacts.run import RunRecord, read_rows
from pipeline.artefacts.signals import SignalsRecord
from pipeline.errors import DataError
from pipeline.evaluation.accuracy import KEY, best_weights
from pipeline.metrics import history, scores
from pipeline.metrics.intervals import newcombe, wilson
from pipeline.stage.inputs import check_input
from pipeline.storage import atomic
from pipeline.storage.arrays import read_array
from pipeline.storage.tables import read_parquet_column, write_csv

NUM_MISTAKES = 24
CLASS_COLUMNS = (
    "count", "recall", "recall_low", "recall_high", "predicted", "precision", "precision_low", "precision_high", "f1",
)  # fmt: skip


def evaluate(*, training: Path, prepared: Path, batch_size: int, out: Path, tta: str = "none") -> MetricsRecord:
    """Score a training on the test split, write the output of the evaluate stage, and give the scores.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that the training was made from.
        batch_size: Number of images at a time; changes speed and memory, not the result.
        out: Folder to fill.
        tta: Views of each test image to average over: `none`, `flip` or `flip_shift`.

    Raises:
        DataError: The training or its weights are missing, damaged or not of this dataset, or the test split is empty.
    """
    from pipeline import model
    from pipeline.plotting import figures

    run = RunRecord.read(training, KEY)
    check_input(run, "prepare", prepared, KEY)
    classes = DatasetRecord.read(prepared).classes
    network = best_weights(training, run, classes)
    images = read_array(prepared / "test" / "images.npy")
    labels = read_array(prepared / "test" / "labels.npy", mapped=False)
    if len(labels) == 0:
        raise DataError(
            f"the test split must hold at least one image; got none in {str(prepared)!r}. Set prepare.test_fraction above "
            "0, or add images to the source's own test split."
        )
    probabilities = model.probabilities(network, images, tta=tta, batch_size=batch_size)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), predicted]

    metrics = MetricsRecord(**_test_metrics(labels, probabilities), **_fit_metrics(training, run))
    metrics.write(out)
    matrix = scores.confusion(labels, probabilities)
    _write_predictions(out / "predictions.parquet", prepared / "test" / "ids.parquet", labels, predicted, probabilities)
    pairs = ((classes[label], classes[guess]) for label, guess in zip(labels, predicted, strict=True))
    write_csv(out / "confusion.csv", ("actual", "predicted"), pairs)
    per_class = zip(classes, scores.per_class(labels, probabilities), strict=True)
    lines = ((name, *_class_row(score)) for name, score in per_class)
    write_csv(out / "per_class.csv", ("class", *CLASS_COLUMNS), lines)
    worst = figures.most_confident_mistakes(labels, predicted, confidence, NUM_MISTAKES)
    shown = figures.mistakes(images[worst], labels[worst], predicted[worst], confidence[worst], classes)
    atomic.write_bytes(out / "mistakes.png", shown)
    atomic.write_bytes(out / "confusion.png", figures.confusion(matrix, classes))
    return metrics


def _test_metrics(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, float]:
    low, high = wilson(int((labels == probabilities.argmax(axis=1)).sum()), len(labels))
    balanced_low, balanced_high = scores.balanced_accuracy_interval(labels, probabilities)
    return {
        scores.TEST_ACCURACY: scores.accuracy(labels, probabilities),
        scores.TEST_ACCURACY_LOW: low,
        scores.TEST_ACCURACY_HIGH: high,
        scores.TEST_BALANCED: scores.balanced_accuracy(labels, probabilities),
        scores.TEST_BALANCED_LOW: balanced_low,
        scores.TEST_BALANCED_HIGH: balanced_high,
        scores.TEST_PRECISION_MACRO: scores.precision_macro(labels, probabilities),
        scores.TEST_F1_MACRO: scores.f1_macro(labels, probabilities),
        scores.TEST_LOSS: scores.negative_log_likelihood(labels, probabilities),
        scores.TEST_ECE: scores.expected_calibration_error(labels, probabilities),
    }


def _class_row(score: scores.ClassScore) -> tuple[float, ...]:
    """The values of `CLASS_COLUMNS`."""
    recall, precision = (score.recall, *score.recall_interval()), (score.precision, *score.precision_interval())
    return (score.count, *recall, score.predicted, *precision, score.f1)


def _fit_metrics(training: Path, run: RunRecord) -> dict[str, float]:
    """Scores of the epoch whose weights were kept, and the gap between training and validation accuracy.

    The gap's 95 % interval is that of a difference of two proportions (Newcombe 1998, method 10).
    """
    rows = read_rows(training)
    best = next(row for row in rows if row["epoch"] == run.best_epoch)
    signals = SignalsRecord.read(training)
    num_probe, num_val = signals.num_probe, signals.num_val
    clean, val = best[history.CLEAN_ACCURACY], best[history.VAL_ACCURACY]
    low, high = newcombe(round(clean * num_probe), num_probe, round(val * num_val), num_val)
    kept = (history.CLEAN_ACCURACY, history.CLEAN_LOSS, history.VAL_ACCURACY, history.VAL_LOSS)
    return {key: best[key] for key in kept} | {"gap": clean - val, "gap_low": low, "gap_high": high}


def _write_predictions(
    path: Path, ids: Path, labels: NDArray[np.int64], predicted: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> None:
    """Write a row for each image, named by the ids of `ids`, in the order of the test split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_images, num_classes = probabilities.shape
    offsets = pa.array(np.arange(num_images + 1, dtype=np.int32) * num_classes)
    columns = {
        "id": read_parquet_column(ids, "id"), "label": labels, "predicted": predicted,
        "confidence": probabilities.max(axis=1), "correct": labels == predicted,
        "probabilities": pa.ListArray.from_arrays(offsets, pa.array(probabilities.ravel())),
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)
