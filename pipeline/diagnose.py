"""See whether a training fits, say why not, and what to change: a verdict with its evidence.

Reads `build/train/` and `build/prepare/`; writes `build/diagnose/`: `diagnosis.json` (verdict, evidence with 95 % intervals,
prescriptions as overrides) and `curve.png` (the curves with the evidence marked).

    python -m pipeline.diagnose                                     the training in build/train
    python -m pipeline.diagnose --training multirun/train/…/3       another one
    python -m pipeline.diagnose --run 3f2a…                         one in MLflow, or every training of a sweep there
    python -m pipeline.diagnose --history log.csv --num-train 50000 --num-val 10000 --num-classes 10
                                                                    one of Keras, fastai or your own loop
    python -m pipeline.diagnose --fail-on overfitting,underfitting  for CI: exit with 3 on these verdicts
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.config import composition
from pipeline.config.schema import Config
from pipeline.config.section import nearest
from pipeline.diagnosis import VERDICTS, Course, CourseError, Thresholds, from_rows
from pipeline.diagnosis.course import NAMES
from pipeline.diagnosis.loading import read_course
from pipeline.diagnosis.record import lines
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.course import chosen_thresholds, course_of, examine
from pipeline.stage import lineage, signals
from pipeline.stage.inputs import input_folder, read_run
from pipeline.stage.job import Job
from pipeline.storage import atomic

KEY = "diagnose.training"
RESULT = "diagnosis.json"
FAILED = 3
"""Exit code for a verdict of `--fail-on`; 1 is that of an error, 2 that of a wrong command line."""


def _examine_training(training: Path, thresholds: Thresholds, reference: float | None) -> tuple[Course, dict[str, Any]]:
    run = read_run(training, KEY)
    course = course_of(training, input_folder(run, "prepare"), reference)
    return course, {"training": run["id"], **examine(course, thresholds, run["config"])}


def main(job: Job) -> None:
    settings = job.config.diagnose
    training = Path(settings.training) if settings.training else job.locate("train")
    course, record = _examine_training(training, chosen_thresholds(job.config), settings.reference)
    write(job.out, course, record)
    print("\n".join(lines(record)))
    _track(job, training, record)


def _track(job: Job, training: Path, record: dict[str, Any]) -> None:
    from pipeline.tracking.publish import attach

    settings = job.config.tracking
    if not settings.enabled:
        return
    measured = {"diagnosis/confidence": record["confidence"]}
    if "gap" in record["evidence"]:
        measured |= {f"diagnosis/gap{end}": record["evidence"]["gap"][key] for end, key in _ENDS}
    tags = {"goodfit.verdict": record["verdict"], "goodfit.flags": ",".join(record["flags"])}
    tags |= {"goodfit.prescriptions": " ; ".join(each["override"] for each in record["prescriptions"])}
    try:
        print(attach(settings, training, "diagnose", job.fingerprint, measured, sorted(job.out.iterdir()), tags))
    except Exception as error:
        print(f"tracking: not sent ({error}); `dvc repro -f -s diagnose` sends it again", file=sys.stderr)


_ENDS = (("", "value"), ("_low", "low"), ("_high", "high"))


def command(arguments: Sequence[str]) -> int:
    """Diagnose what the command line names, print it, and give the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    failing = _verdicts(options.fail_on)
    overrides = [*options.overrides]
    overrides += [f"diagnose.reference={options.reference}"] if options.reference is not None else []
    config = composition.compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", overrides)
    failed = False
    for name, course, record in _examined(options, config):
        print("\n".join([*([f"{name}:"] if name else []), *lines(record)]))
        failed |= record["verdict"] in failing
        if options.out is not None:
            write(options.out / name if name else options.out, course, record)
    return FAILED if failed else 0


def _examined(options: argparse.Namespace, config: Config) -> Iterator[tuple[str, Course, dict[str, Any]]]:
    """Name, course and diagnosis of each training that was asked for; a single one has no name."""
    thresholds = chosen_thresholds(config)
    if options.history is not None:
        course = _foreign(options, config.diagnose.reference)
        yield "", course, examine(course, thresholds, None)
    elif options.run is not None:
        yield from _from_store(options, config, thresholds)
    else:
        chosen = options.training or config.diagnose.training
        training = Path(chosen) if chosen else lineage.locate("train", config)
        yield "", *_examine_training(training, thresholds, config.diagnose.reference)


def _from_store(
    options: argparse.Namespace, config: Config, thresholds: Thresholds
) -> Iterator[tuple[str, Course, dict[str, Any]]]:
    from pipeline.tracking import reading

    store, found = config.tracking, 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in reading.trainings(store, options.run, Path(scratch)):
            course = read_course(folder, reference=config.diagnose.reference)
            settings = json.loads((folder / "run.json").read_text())["config"]
            found += 1
            yield name, course, examine(course, thresholds, settings)
    if found:
        return
    _require_counts(options, "--run of another tool")
    for name, rows in reading.histories(store, options.run, chain(*NAMES.values())):
        try:
            course = _course(rows, options, config.diagnose.reference)
        except CourseError as error:
            raise DataError(f"--run must have logged losses and accuracies by epoch; {name}: {error}") from None
        yield name, course, examine(course, thresholds, None)


def _foreign(options: argparse.Namespace, reference: float | None) -> Course:
    _require_counts(options, "--history")
    try:
        with options.history.open(newline="", encoding="utf-8-sig") as file:
            rows = [{key.strip(): _number(value) for key, value in row.items() if key} for row in csv.DictReader(file)]
        return _course(rows, options, reference)
    except (OSError, CourseError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--history must be a CSV with a row for each epoch; {options.history}: {error}") from None


def _require_counts(options: argparse.Namespace, what: str) -> None:
    missing = [
        f"--{name.replace('_', '-')}"
        for name in ("num_train", "num_val", "num_classes")
        if getattr(options, name) is None
    ]
    if missing:
        raise ConfigError(
            f"{what} needs {', '.join(missing)} too: how sure a gap is depends on how many images it is of."
        )


def _course(rows: list[dict[str, float]], options: argparse.Namespace, reference: float | None) -> Course:
    """The course of another tool's history, with what the command line says of it."""
    return from_rows(
        rows,
        num_train=options.num_train,
        num_val=options.num_val,
        num_classes=options.num_classes,
        majority=options.majority,
        kept_epoch=options.kept_epoch,
        reference=reference,
    )


def _number(text: str | None) -> float:
    """The number in a cell; not a number where there is none, such as in fastai's column of times."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def write(folder: Path, course: Course, record: dict[str, Any]) -> None:
    """Write `diagnosis.json` and `curve.png`."""
    from pipeline.plotting.diagnosis import curve

    atomic.write_text(folder / RESULT, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    atomic.write_bytes(folder / "curve.png", curve(course, record))


def _verdicts(text: str | None) -> list[str]:
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in VERDICTS:
            raise ConfigError(
                f"--fail-on must name verdicts, {', '.join(VERDICTS)}; got {name!r}.{nearest(name, VERDICTS)}"
            )
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.diagnose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--training", metavar="FOLDER", help="of a training; default: diagnose.training, else build/train"
    )
    what.add_argument(
        "--run",
        metavar="ID",
        help="of a run in MLflow, of a sweep there, or, with the counts below, of another tool's run",
    )
    what.add_argument(
        "--history", type=Path, metavar="CSV", help="loss and accuracy of training and validation, by epoch"
    )
    parser.add_argument("--num-train", type=int, help="of another tool: images that training is measured on")
    parser.add_argument("--num-val", type=int, help="of another tool: images of validation")
    parser.add_argument("--num-classes", type=int, help="of another tool")
    parser.add_argument(
        "--majority", type=float, help="of another tool: share of the commonest class; default: 1/classes"
    )
    parser.add_argument("--kept-epoch", type=int, help="of another tool: whose weights you use; default: the last")
    parser.add_argument(
        "--reference", type=float, help="an accuracy that a fitted network ought to reach on these data"
    )
    parser.add_argument(
        "--fail-on", metavar="VERDICT,…", help=f"exit with {FAILED} on these, for CI: {', '.join(VERDICTS)}"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write diagnosis.json and curve.png there")
    parser.add_argument("overrides", nargs="*", help="of the section `diagnose`, such as diagnose.thresholds.gap=0.03")
    return parser


if __name__ == "__main__":
    if "--config" in sys.argv:
        from pipeline.stage.entry import run
        from pipeline.sweep.command import multirun

        run("diagnose", main, multirun())
    else:
        signals.listen()
        with signals.messages():
            sys.exit(command(sys.argv[1:]))
