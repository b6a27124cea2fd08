"""Measure the best weights on the test split, which no other stage after prepare reads.

Reads:   build/prepare/ (test split) and build/train/
Writes:  build/evaluate/: `metrics.json` (scores of the test split beside those of the best epoch, and the gap),
         `predictions.parquet` (a row for each test image), `confusion.csv` (true and predicted class of each test image),
         `per_class.csv` (recall and precision of each class, with 95 % intervals), `mistakes.png` and `confusion.png`
Command: python -m pipeline.evaluate                                           the training in build/train
         python -m pipeline.evaluate evaluate.training=multirun/train/…/3      another one
"""

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
    from pipeline.tracking.publish import send_results

    chosen = job.config.evaluate.training
    training = Path(chosen) if chosen else job.locate("train")
    prepared = input_folder(RunRecord.read(training, KEY), "prepare")
    settings = job.config.evaluate
    size, tta = settings.batch_size, settings.tta
    metrics = evaluate(training=training, prepared=prepared, batch_size=size, out=job.out, tta=tta)
    views = "" if tta == "none" else f" with evaluate.tta={tta}"
    accuracy = _with_interval(metrics.test_accuracy, metrics.test_accuracy_low, metrics.test_accuracy_high)
    print(
        f"Test accuracy{views} {accuracy} (95 % interval), loss {metrics.test_loss:.3f}; "
        f"training {metrics.train_clean_accuracy:.3f}, validation {metrics.val_accuracy:.3f}."
    )
    dataset = DatasetRecord.read(prepared)
    for line in about_classes(dataset.classes, dataset.counts["test"], metrics):
        print(line)
    measured = {key: value for key, value in metrics.by_name().items() if not key.startswith(("train_clean/", "val/"))}
    send_results(job, training, "evaluate", measured)


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
        sizes = f"{min(count for count in counts if count):,} to {max(counts):,}"
        lines.append(f"Balanced accuracy {balanced}: the mean over classes of {sizes} test images.")
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


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("evaluate", main, multirun())
