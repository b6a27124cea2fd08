"""Measure the best weights on the test split, which no other stage after prepare reads.

Reads `build/prepare/` (test split) and `build/train/`; writes `build/evaluate/`: `metrics.json` (scores of the test split
beside those of the best epoch, and the gap), `predictions.parquet` (a row for each test image), `confusion.csv` (true and
predicted class of each test image), `per_class.csv` (recall and precision of each class, with 95 % intervals),
`mistakes.png` and `confusion.png`.

    python -m pipeline.evaluate                                           the training in build/train
    python -m pipeline.evaluate evaluate.training=multirun/train/…/3      another one
"""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.errors import DataError
from pipeline.config.stage import Job
from pipeline.fit import history, scores
from pipeline.fit.statistics import newcombe, wilson
from pipeline.storage import atomic, lineage
from pipeline.storage.trainings import check_input, input_folder, read_run

if TYPE_CHECKING:
    from pipeline.model import Classifier

KEY = "evaluate.training"
NUM_MISTAKES = 24
CLASS_COLUMNS = (
    "count", "recall", "recall_low", "recall_high", "predicted", "precision", "precision_low", "precision_high", "f1",
)  # fmt: skip


def evaluate(*, training: Path, prepared: Path, batch_size: int, out: Path, tta: str = "none") -> dict[str, float]:
    """Evaluate one training.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that the training was made from.
        batch_size: Images at a time; changes speed and memory, not the result.
        out: Folder to fill.
        tta: Over which views of each test image to average: `none`, `flip` or `flip_shift`.

    Returns:
        The content of `metrics.json`.

    Raises:
        DataError: The training or its weights are missing, damaged or not of this dataset, or the test split is empty.
    """
    from pipeline import model
    from pipeline.page import figures

    run = read_run(training, KEY)
    check_input(run, "prepare", prepared, KEY)
    classes = json.loads((prepared / "dataset.json").read_text())["classes"]
    classifier = _best_weights(training, run, classes)
    images = np.load(prepared / "test" / "images.npy", mmap_mode="r")
    labels = np.load(prepared / "test" / "labels.npy")
    if len(labels) == 0:
        raise DataError(
            f"the test split must hold at least one image; got none in {str(prepared)!r}. Set prepare.test_fraction above "
            "0, or add images to the source's own test split."
        )
    probabilities = model.probabilities(classifier, images, tta=tta, batch_size=batch_size)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), predicted]

    metrics = _test_metrics(labels, probabilities) | _fit_metrics(training, run)
    matrix = scores.confusion(labels, probabilities)
    atomic.write_text(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    _write_predictions(out / "predictions.parquet", prepared / "test" / "ids.parquet", labels, predicted, probabilities)
    pairs = ((classes[label], classes[guess]) for label, guess in zip(labels, predicted, strict=True))
    _write_csv(out / "confusion.csv", ("actual", "predicted"), pairs)
    per_class = zip(classes, scores.per_class(labels, probabilities), strict=True)
    lines = ((name, *_class_row(score)) for name, score in per_class)
    _write_csv(out / "per_class.csv", ("class", *CLASS_COLUMNS), lines)
    worst = figures.most_confident_mistakes(labels, predicted, confidence, NUM_MISTAKES)
    shown = figures.mistakes(images[worst], labels[worst], predicted[worst], confidence[worst], classes)
    atomic.write_bytes(out / "mistakes.png", shown)
    atomic.write_bytes(out / "confusion.png", figures.confusion(matrix, classes))
    return metrics


def accuracy_on(training: Path, prepared: Path, split: str, batch_size: int = 512) -> float:
    """The accuracy of a training's weights on a split.

    Args:
        training: Output of the train stage.
        prepared: Output of the prepare stage that it was made from.
        split: `val` or `confirm`.
        batch_size: Images at a time.

    Raises:
        DataError: The training is missing, damaged or of other data.
    """
    from pipeline import model

    run = read_run(training, KEY)
    check_input(run, "prepare", prepared, KEY)
    classes = json.loads((prepared / "dataset.json").read_text())["classes"]
    images = np.load(prepared / split / "images.npy", mmap_mode="r")
    labels = np.load(prepared / split / "labels.npy")
    probabilities = model.probabilities(_best_weights(training, run, classes), images, batch_size=batch_size)
    return scores.accuracy(labels, probabilities)


def _best_weights(training: Path, run: dict[str, Any], classes: list[str]) -> "Classifier":
    """The network of `model.ckpt`; refused where it cannot be the one that `run.json` and the dataset speak of."""
    from pipeline import model

    path = training / "model.ckpt"
    classifier, names = model.load(path)
    if names != classes:
        raise DataError(
            f"{str(path)!r} must hold a network for the classes {_few(classes)}; got one for {_few(names)}. "
            "Run `dvc repro train` to train on these data."
        )
    found = lineage.hash_file(path)
    if found != run["weights_sha256"]:
        raise DataError(
            f"{str(path)!r} must hold the weights of its run.json (SHA-256 {run['weights_sha256'][:12]}…); got "
            f"{found[:12]}…. The file is of another training: run `dvc repro train`."
        )
    return classifier


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


def _fit_metrics(training: Path, run: dict[str, Any]) -> dict[str, float]:
    """Scores of the epoch whose weights were kept, and the gap between training and validation accuracy.

    The gap's 95 % interval is that of a difference of two proportions (Newcombe 1998, method 10).
    """
    rows = history.read_csv(training / "history.csv")
    best = next(row for row in rows if row["epoch"] == run["best_epoch"])
    signals = json.loads((training / "signals.json").read_text())
    num_probe, num_val = signals["num_probe"], signals["num_val"]
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
        "id": pq.read_table(ids, columns=["id"])["id"],
        "label": labels,
        "predicted": predicted,
        "confidence": probabilities.max(axis=1),
        "correct": labels == predicted,
        "probabilities": pa.ListArray.from_arrays(offsets, pa.array(probabilities.ravel())),
    }
    pq.write_table(pa.table(columns), path)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def main(job: Job) -> None:
    chosen = job.config.evaluate.training
    training = Path(chosen) if chosen else job.locate("train")
    prepared = input_folder(read_run(training, KEY), "prepare")
    settings = job.config.evaluate
    metrics = evaluate(
        training=training, prepared=prepared, batch_size=settings.batch_size, out=job.out, tta=settings.tta
    )
    views = "" if settings.tta == "none" else f" with evaluate.tta={settings.tta}"
    accuracy = _with_interval(metrics, scores.TEST_ACCURACY, scores.TEST_ACCURACY_LOW, scores.TEST_ACCURACY_HIGH)
    print(
        f"Test accuracy{views} {accuracy} (95 % interval), loss {metrics[scores.TEST_LOSS]:.3f}; "
        f"training {metrics[history.CLEAN_ACCURACY]:.3f}, validation {metrics[history.VAL_ACCURACY]:.3f}."
    )
    dataset = json.loads((prepared / "dataset.json").read_text())
    for line in about_classes(dataset["classes"], dataset["counts"]["test"], metrics):
        print(line)
    _track(job, training, metrics)


def about_classes(classes: Sequence[str], counts: Sequence[int], metrics: dict[str, float]) -> list[str]:
    """What must be said of classes of unequal size, or without test images; nothing where they are about equal.

    Args:
        classes: Their names.
        counts: Test images of each.
        metrics: The content of `metrics.json`.
    """
    lines = []
    if scores.imbalance(counts) >= scores.IMBALANCED:
        balanced = _with_interval(metrics, scores.TEST_BALANCED, scores.TEST_BALANCED_LOW, scores.TEST_BALANCED_HIGH)
        smallest = min(count for count in counts if count)
        lines.append(
            f"Balanced accuracy {balanced}: the mean over classes of {smallest:,} to {max(counts):,} test images."
        )
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        lines.append(f"Without test images, and so left out of means over classes: {_few(missing)}.")
    return lines


def _with_interval(metrics: dict[str, float], key: str, low: str, high: str) -> str:
    """A metric with its 95 % interval.

    >>> _with_interval({"a": 0.5, "b": 0.25, "c": 0.75}, "a", "b", "c")
    '0.500 [0.250, 0.750]'
    """
    return f"{metrics[key]:.3f} [{metrics[low]:.3f}, {metrics[high]:.3f}]"


def _track(job: Job, training: Path, metrics: dict[str, float]) -> None:
    """Add the results to the MLflow run of the training; a store that is away costs a line on the terminal, no more."""
    from pipeline.tracking.publish import attach
    from pipeline.tracking.store import Settings

    settings = Settings(**asdict(job.config.tracking))
    if not settings.enabled:
        return
    measured = {key: value for key, value in metrics.items() if not key.startswith(("train_clean/", "val/"))}
    try:
        print(attach(settings, training, "evaluate", job.fingerprint, measured, sorted(job.out.iterdir())))
    except Exception as error:
        print(f"tracking: not sent ({error}); `dvc repro -f -s evaluate` sends it again", file=sys.stderr)


if __name__ == "__main__":
    from pipeline.config.entry import run

    run("evaluate", main)
