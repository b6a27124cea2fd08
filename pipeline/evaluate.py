"""Measure the best weights on the test split, which no other stage after prepare reads, or for want of one on validation.

Reads:   build/prepare/ (test split) and build/train/
Writes:  build/evaluate/: `metrics.json` (what `dvc exp show` compares), `details.json` (all scores, also of the best epoch),
         `predictions.parquet` (a row for each test image), `confusion.csv` (true and predicted class of each test image),
         `per_class.csv` (recall and precision of each class, with 95 % intervals), `mistakes.csv` (all of them, by name),
         `mistakes.png` and `confusion.png`, and `outputs/`: what the network answered, for package and report
Command: python -m pipeline.evaluate                                           the training in build/train
         python -m pipeline.evaluate evaluate.training=multirun/train/…/3      another one
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.evaluation import SPLIT_TITLES, EvaluationRecord
from pipeline.artefacts.run import RunRecord
from pipeline.evaluation.accuracy import KEY, few
from pipeline.evaluation.scoring import evaluate
from pipeline.metrics import history, scores
from pipeline.stage.inputs import input_folder
from pipeline.stage.job import Job
from pipeline.terminal import printable


def main(job: Job) -> None:
    from pipeline.tracking.publish import send_results

    chosen = job.config.evaluate.training
    training = Path(chosen) if chosen else job.locate("train")
    prepared = input_folder(RunRecord.read(training, KEY), "prepare")
    settings = job.config.evaluate
    size, tta = settings.batch_size, settings.tta
    record = evaluate(training=training, prepared=prepared, batch_size=size, out=job.out, tta=tta)
    if record.split != "test":
        print("There is no test split (prepare.test_fraction=0): measured on validation, which chose these weights.")
    views = "" if tta == "none" else f" with evaluate.tta={tta}"
    print(
        f"{SPLIT_TITLES[record.split].capitalize()} accuracy{views} {record.scores.accuracy} (95 % interval), "
        f"loss {record.scores.loss:.3f}; training {record.kept_epoch[history.CLEAN_ACCURACY]:.3f}, "
        f"validation {record.kept_epoch[history.VAL_ACCURACY]:.3f}."
    )
    dataset = DatasetRecord.read(prepared)
    for line in about_classes(dataset.classes, dataset.counts[record.split], record):
        print(printable(line))
    gap = {"gap": record.gap.value, "gap_low": record.gap.low, "gap_high": record.gap.high}
    send_results(job, training, "evaluate", record.by_name() | gap)


def about_classes(classes: Sequence[str], counts: Sequence[int], record: EvaluationRecord) -> list[str]:
    """Sentences about classes of unequal size and classes without images; none where all are about equal.

    Args:
        classes: Names of the classes.
        counts: Number of images of each class in the split that was measured.
        record: The evaluation.
    """
    lines, split = [], SPLIT_TITLES[record.split]
    if scores.imbalance(counts) >= scores.IMBALANCED:
        sizes = f"{min(count for count in counts if count):,} to {max(counts):,}"
        balanced = record.scores.balanced_accuracy
        lines.append(f"Balanced accuracy {balanced}: the mean over classes of {sizes} {split} images.")
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing:
        lines.append(f"Without {split} images, and so left out of means over classes: {few(missing)}.")
    return lines


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("evaluate", main, multirun())
