"""Measure the best weights on the test split, which no other stage after prepare reads.

Reads `build/prepare/` (test split) and `build/train/`; writes `build/evaluate/`: `metrics.json` (scores of the test split
beside those of the best epoch, and the gap), `predictions.parquet` (a row for each test image), `confusion.csv` (true and
predicted class of each test image), `per_class.csv` (recall and precision of each class, with 95 % intervals),
`mistakes.png` and `confusion.png`.

    python -m pipeline.evaluate                                           the training in build/train
    python -m pipeline.evaluate evaluate.training=multirun/train/…/3      another one
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.metrics import MetricsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.evaluation.accuracy import KEY, few
from pipeline.evaluation.scoring import evaluate
from pipeline.metrics import scores
from pipeline.stage.inputs import input_folder
from pipeline.stage.job import Job


def main(job: Job) -> None:
    chosen = job.config.evaluate.training
    training = Path(chosen) if chosen else job.locate("train")
    prepared = input_folder(RunRecord.read(training, KEY), "prepare")
    settings = job.config.evaluate
    metrics = evaluate(
        training=training, prepared=prepared, batch_size=settings.batch_size, out=job.out, tta=settings.tta
    )
    views = "" if settings.tta == "none" else f" with evaluate.tta={settings.tta}"
    accuracy = _with_interval(metrics.test_accuracy, metrics.test_accuracy_low, metrics.test_accuracy_high)
    print(
        f"Test accuracy{views} {accuracy} (95 % interval), loss {metrics.test_loss:.3f}; "
        f"training {metrics.train_clean_accuracy:.3f}, validation {metrics.val_accuracy:.3f}."
    )
    dataset = DatasetRecord.read(prepared)
    for line in about_classes(dataset.classes, dataset.counts["test"], metrics):
        print(line)
    _track(job, training, metrics)


def about_classes(classes: Sequence[str], counts: Sequence[int], metrics: MetricsRecord) -> list[str]:
    """Sentences about classes of unequal size and classes without test images; none where all are about equal.

    Args:
        classes: Names of the classes.
        counts: Number of test images of each class.
        metrics: Scores of the test split.
    """
    lines = []
    if scores.imbalance(counts) >= scores.IMBALANCED:
        balanced = _with_interval(
            metrics.test_balanced_accuracy, metrics.test_balanced_accuracy_low, metrics.test_balanced_accuracy_high
        )
        smallest = min(count for count in counts if count)
        lines.append(
            f"Balanced accuracy {balanced}: the mean over classes of {smallest:,} to {max(counts):,} test images."
        )
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        lines.append(f"Without test images, and so left out of means over classes: {few(missing)}.")
    return lines


def _with_interval(value: float, low: float, high: float) -> str:
    """A score with its 95 % interval.

    >>> _with_interval(0.5, 0.25, 0.75)
    '0.500 [0.250, 0.750]'
    """
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _track(job: Job, training: Path, metrics: MetricsRecord) -> None:
    """Add the results to the MLflow run of the training; a store that is away costs a line on the terminal, no more."""
    from pipeline.tracking.publish import attach

    settings = job.config.tracking
    if not settings.enabled:
        return
    measured = {key: value for key, value in metrics.by_name().items() if not key.startswith(("train_clean/", "val/"))}
    try:
        print(attach(settings, training, "evaluate", job.fingerprint, measured, sorted(job.out.iterdir())))
    except Exception as error:
        print(f"tracking: not sent ({error}); `dvc repro -f -s evaluate` sends it again", file=sys.stderr)


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("evaluate", main, multirun())
