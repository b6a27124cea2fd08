"""Diagnose whether a training fits: a verdict with its evidence, and what to change.

Reads:   build/train/ and build/prepare/; as a command also other trainings, runs in MLflow, and histories of other tools
Writes:  build/diagnose/: `diagnosis.json` (verdict, evidence with 95 % intervals, prescriptions as overrides, concerns),
         `metrics.json` (what `dvc exp show` compares) and `curve.png` (the curves with the evidence marked); as a command
         nothing but what `--out` names
Command: python -m pipeline.diagnose                                     the training in build/train
         python -m pipeline.diagnose --training multirun/train/…/3       another one
         python -m pipeline.diagnose --folds multirun/train/…            a cross-validation, judged on the images of all folds
         python -m pipeline.diagnose --run 3f2a…                         a run in MLflow, or every training of a sweep there
         python -m pipeline.diagnose --history log.csv --num-train 50000 --num-val 10000 --num-classes 10
                                                                         a history of Keras, fastai or another tool
         python -m pipeline.diagnose --fail-on overfitting,underfitting  exit with 3 on these verdicts, for CI
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import DiagnosisRecord
from pipeline.artefacts.run import RunRecord
from pipeline.config import composition
from pipeline.config.schema import Config
from pipeline.config.section import nearest
from pipeline.diagnosis import VERDICTS, Course, CourseError, Thresholds, from_rows
from pipeline.diagnosis.course import COLUMN_ALIASES
from pipeline.diagnosis.loading import read_course, read_history
from pipeline.diagnosis.pooling import pooled
from pipeline.diagnosis.record import as_lines
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.course import chosen_thresholds, course_of, examine, seen_of
from pipeline.stage import lineage
from pipeline.stage.inputs import input_folder
from pipeline.stage.job import Job
from pipeline.stage.program import as_program
from pipeline.storage import atomic
from pipeline.terminal import printable

KEY = "diagnose.training"
RESULT = "diagnosis.json"
FAILED = 3
"""Exit code for a verdict of `--fail-on`; 1 is that of an error, 2 that of a wrong command line."""

_COUNTS = ("num_train", "num_val", "num_classes")

Diagnosed = tuple[str, Course, DiagnosisRecord]
"""Name of a training, empty for a single one; its course; its diagnosis as `diagnosis.json` holds it."""


def main(job: Job) -> None:
    """Diagnose the training as the stage does."""
    settings = job.config.diagnose
    training = Path(settings.training) if settings.training else job.locate("train")
    _, course, record = _diagnose_training(training, chosen_thresholds(job.config), settings.reference)
    write(job.out, course, record)
    print(printable("\n".join(as_lines(record))))
    _track(job, training, record)


def write(folder: Path, course: Course, record: DiagnosisRecord) -> None:
    """Write `diagnosis.json`, `metrics.json` and `curve.png`."""
    from pipeline.plotting.diagnosis import curve

    record.write(folder)
    atomic.write_bytes(folder / "curve.png", curve(course, record))


def command(arguments: Sequence[str]) -> int:
    """Diagnose the trainings that the command line names, print the diagnoses, and return the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    failing = _verdicts(options.fail_on)
    overrides = [*options.overrides]
    overrides += [f"diagnose.reference={options.reference}"] if options.reference is not None else []
    config = composition.compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", overrides)
    failed = False
    for name, course, record in _diagnosed(options, config):
        print(printable("\n".join([*([f"{name}:"] if name else []), *as_lines(record)])))
        failed |= record.verdict in failing
        if options.out is not None:
            write(options.out / name if name else options.out, course, record)
    return FAILED if failed else 0


def _track(job: Job, training: Path, record: DiagnosisRecord) -> None:
    from pipeline.tracking import tags as names
    from pipeline.tracking.publish import send_results

    metrics = {"diagnosis/confidence": record.confidence}
    if "gap" in record.evidence:
        gap = record.interval("gap")
        metrics |= {"diagnosis/gap": gap.value, "diagnosis/gap_low": gap.low, "diagnosis/gap_high": gap.high}
    overrides = " ; ".join(prescription.override for prescription in record.prescriptions)
    tags = {
        names.VERDICT: record.verdict,
        "goodfit.flags": ",".join(record.flags),
        "goodfit.prescriptions": overrides,
        names.CONCERNS: ",".join(concern.name for concern in record.concerns),
    }
    send_results(job, training, "diagnose", metrics, tags)


def _diagnosed(options: argparse.Namespace, config: Config) -> Iterator[Diagnosed]:
    """Diagnose each training that the options name."""
    thresholds, reference = chosen_thresholds(config), config.diagnose.reference
    if options.history is not None:
        course = _course_of_history(options, reference)
        yield "", course, examine(course, thresholds, None)
    elif options.folds is not None:
        yield _diagnose_folds(options.folds, thresholds, reference)
    elif options.run is not None:
        yield from _diagnose_runs(options, config, thresholds)
    else:
        chosen = options.training or config.diagnose.training
        yield _diagnose_training(Path(chosen) if chosen else lineage.locate("train", config), thresholds, reference)


def _diagnose_training(training: Path, thresholds: Thresholds, reference: float | None) -> Diagnosed:
    run = RunRecord.read(training, KEY)
    prepared = input_folder(run, "prepare")
    course = course_of(training, prepared, reference)
    seen = seen_of(training, prepared, course)
    return "", course, examine(course, thresholds, run.config, DatasetRecord.read(prepared), run.id, seen)


def _diagnose_folds(sweep: Path, thresholds: Thresholds, reference: float | None) -> Diagnosed:
    """Judge the trainings of a cross-validation together."""
    folders = sorted(
        (path.parent for path in sweep.glob("*/run.json")), key=lambda folder: (len(folder.name), folder.name)
    )
    runs = [RunRecord.read(folder, "--folds") for folder in folders]
    folds = [(run.config["prepare"]["folds"], run.config["prepare"]["fold"]) for run in runs]
    number = folds[0][0] if folds else None
    if number is None or sorted(folds) != [(number, fold) for fold in range(number)]:
        found = ", ".join(f"{fold} of {of}" for of, fold in folds if of is not None) or "none"
        raise DataError(
            f"--folds must be a sweep with one finished training of each fold; {str(sweep)!r} has the folds: {found}. Make it "
            "with `python -m pipeline.train -m prepare.folds=5 prepare.fold=0,1,2,3,4`."
        )
    courses = [
        course_of(folder, input_folder(run, "prepare"), reference) for folder, run in zip(folders, runs, strict=True)
    ]
    course = pooled(courses)
    return "", course, examine(course, thresholds, runs[0].config)


def _diagnose_runs(options: argparse.Namespace, config: Config, thresholds: Thresholds) -> Iterator[Diagnosed]:
    """Diagnose a run in MLflow and those below it, of this pipeline or else of another tool."""
    from pipeline.tracking import retrieval

    store, reference, of_this_pipeline = config.tracking, config.diagnose.reference, False
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in retrieval.trainings(store, options.run, Path(scratch)):
            course = read_course(folder, reference=reference)
            of_this_pipeline = True
            yield name, course, examine(course, thresholds, RunRecord.read(folder).config)
    if of_this_pipeline:
        return
    _require_counts(options, "--run of another tool")
    for name, rows in retrieval.histories(store, options.run, chain(*COLUMN_ALIASES.values())):
        try:
            course = _course(rows, options, reference)
        except CourseError as error:
            raise DataError(f"--run must have logged losses and accuracies by epoch; {name}: {error}") from None
        yield name, course, examine(course, thresholds, None)


def _course_of_history(options: argparse.Namespace, reference: float | None) -> Course:
    _require_counts(options, "--history")
    try:
        return _course(read_history(options.history), options, reference)
    except (OSError, CourseError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--history must be a CSV with a row for each epoch; {options.history}: {error}") from None


def _course(rows: list[dict[str, float]], options: argparse.Namespace, reference: float | None) -> Course:
    """The course of another tool's history."""
    given = {name: getattr(options, name) for name in (*_COUNTS, "majority", "kept_epoch")}
    return from_rows(rows, **given, reference=reference)


def _require_counts(options: argparse.Namespace, source: str) -> None:
    names = [name for name in _COUNTS if getattr(options, name) is None]
    if names:
        missing = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise ConfigError(f"{source} needs {missing} too: the interval of a gap depends on the number of images.")


def _verdicts(text: str | None) -> list[str]:
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in VERDICTS:
            known = ", ".join(VERDICTS)
            raise ConfigError(f"--fail-on must name verdicts, {known}; got {name!r}.{nearest(name, VERDICTS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.diagnose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--training", metavar="FOLDER", help="folder of a training; default: diagnose.training, else build/train"
    )
    what.add_argument(
        "--folds", type=Path, metavar="SWEEP", help="folder of a sweep over prepare.fold: all folds, judged together"
    )
    what.add_argument(
        "--run", metavar="ID", help="run in MLflow: a training, a sweep, or, with the counts below, any run"
    )
    what.add_argument(
        "--history", type=Path, metavar="CSV", help="loss and accuracy of training and validation by epoch"
    )
    other = parser.add_argument_group("for a history or a run of another tool")
    other.add_argument("--num-train", type=int, metavar="N", help="number of images on which training is measured")
    other.add_argument("--num-val", type=int, metavar="N", help="number of validation images")
    other.add_argument("--num-classes", type=int, metavar="N", help="number of classes")
    other.add_argument(
        "--majority", type=float, metavar="SHARE", help="share of the most frequent class; default: 1/classes"
    )
    other.add_argument("--kept-epoch", type=int, metavar="N", help="epoch whose weights are used; default: the last")
    parser.add_argument(
        "--reference", type=float, metavar="ACCURACY", help="accuracy that a fitted network should reach"
    )
    parser.add_argument(
        "--fail-on", metavar="VERDICT,…", help=f"exit with {FAILED} on these verdicts: {', '.join(VERDICTS)}"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder for diagnosis.json, metrics.json and curve.png"
    )
    parser.add_argument("overrides", nargs="*", help="key=value, such as diagnose.thresholds.gap=0.03")
    return parser


if __name__ == "__main__":
    if "--config" in sys.argv:
        from pipeline.stage.entry import run
        from pipeline.sweep.command import multirun

        run("diagnose", main, multirun())
    else:
        with as_program():
            sys.exit(command(sys.argv[1:]))
