"""Make one page that shows whether the training fits: curves, mistakes, data, network, and how to make it again.

With `--against` it compares two trainings on one page.

Reads:   build/train/, build/evaluate/, build/diagnose/, build/package/, build/prepare/ and build/augment/, and the mistakes'
         images from data/
Writes:  build/report/: `index.html`, which needs no other file and no network, `summary.txt`, and `comment.md`, a comment on a
         pull request; a comparison goes to build/comparison/index.html
Command: python -m pipeline.report                                                             the last output of DVC
         python -m pipeline.report report.training=… report.evaluation=… report.diagnosis=…    another training
         python -m pipeline.report --against RUN   two trainings on one page; RUN: a run in MLflow, or a folder
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artefacts.package import ManifestRecord
from pipeline.artefacts.run import RunRecord
from pipeline.config import composition
from pipeline.config.schema import Config, Tracking
from pipeline.errors import DataError
from pipeline.page.inputs import DIAGNOSIS_KEY, EVALUATION_KEY, TRAINING_KEY, ReportInputs, read
from pipeline.stage import lineage
from pipeline.stage.inputs import input_folder
from pipeline.stage.job import Job
from pipeline.stage.program import as_program
from pipeline.storage import atomic, checksums
from pipeline.storage.arrays import read_array
from pipeline.terminal import printable

if TYPE_CHECKING:
    from pipeline.page.comparison import Side
    from pipeline.page.report import NetworkView


def report(
    *, training: Path, evaluation: Path, diagnosis: Path, prepared: Path, augmented: Path, out: Path,
    package: Path | None = None, named_package: Path | None = None, raw: Iterable[Path] = (),
) -> ReportInputs:  # fmt: skip
    """Write `index.html`, and give the inputs of the page.

    Args:
        training: Output of the train stage.
        evaluation: Output of the evaluate stage for that training.
        diagnosis: Output of the diagnose stage for that training.
        prepared: Output of the prepare stage that the training was made from.
        augmented: Output of the augment stage that the training was made from.
        out: Folder to fill.
        package: Output of the package stage for that training; None: the page says nothing of its use.
        named_package: Folder to name in the command that classifies images; None: DVC's, which needs no name.
        raw: Raw datasets, such as `data/`; mistakes that they do not hold are shown as they were prepared.

    Raises:
        DataError: A folder is not whole, or they are not of one training.
    """
    from pipeline.page.report import render

    inputs = read(
        training=training, evaluation=evaluation, diagnosis=diagnosis, prepared=prepared, augmented=augmented,
        package=package, named_package=named_package, raw=raw,
    )  # fmt: skip
    atomic.write_text(out / "index.html", render(inputs, _network_view(training, prepared)))
    return inputs


def _network_view(training: Path, prepared: Path) -> "NetworkView":
    """The network's layers and filters, and its feature maps of the first validation image."""
    import numpy as np

    from pipeline import model
    from pipeline.page.report import NetworkView

    checksums.check(training / "model.ckpt")
    network, classes = model.load(training / "model.ckpt")
    image = np.array(read_array(prepared / "val" / "images.npy")[0])
    label = int(read_array(prepared / "val" / "labels.npy")[0])
    return NetworkView(
        layers=model.layer_table(network, image.shape),
        filters=model.filters(network),
        image=image,
        image_class=classes[label],
        maps=model.activations(network, image),
    )


def main(job: Job) -> None:
    from pipeline.page import summary
    from pipeline.page.comment import comment

    chosen = job.config.report
    training = Path(chosen.training) if chosen.training else job.locate("train")
    evaluation = Path(chosen.evaluation) if chosen.evaluation else job.locate("evaluate")
    diagnosis = Path(chosen.diagnosis) if chosen.diagnosis else job.locate("diagnose")
    package = Path(chosen.package) if chosen.package else None
    run = RunRecord.read(training, TRAINING_KEY)
    prepared, augmented = (input_folder(run, stage) for stage in ("prepare", "augment"))
    inputs = report(
        training=training, evaluation=evaluation, diagnosis=diagnosis, prepared=prepared, augmented=augmented, out=job.out,
        package=package or _dvc_package(job) if package or not chosen.training else None, named_package=package,
        raw=(lineage.dvc_folder("fetch"), *sorted(lineage.CACHE.glob("fetch-*"))),
    )  # fmt: skip
    page = "build/report/index.html" if job.out.parent.name == "build" else "index.html in the folder named below"
    text = "".join(f"{line}\n" for line in summary.closing_lines(inputs, page))
    atomic.write_text(job.out / "summary.txt", text)
    atomic.write_text(job.out / "comment.md", comment(inputs))
    print(text, end="")


def _dvc_package(job: Job) -> Path | None:
    """DVC's package, if there is one."""
    return job.locate("package") if (lineage.dvc_folder("package") / ManifestRecord.FILE).exists() else None


def command(arguments: Sequence[str]) -> None:
    """Compare two trainings as the command line asks, and write the page."""
    from pipeline.page import comparison

    options = _parser().parse_intermixed_args(arguments)
    config = composition.compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", options.overrides)
    with tempfile.TemporaryDirectory() as scratch:
        first, second = _own_side(config), _other_side(options, config.tracking, Path(scratch))
        again = shlex.join(["python", "-m", "pipeline.report", *arguments])
        page = comparison.render(first, second, again)
    out = options.out / "index.html"
    atomic.write_text(out, page)
    print(printable(f"{comparison.headline(first, second)}\nLook at {os.path.relpath(out)}"))


def _own_side(config: Config) -> "Side":
    """The training that the configuration names, as the stage takes it."""
    from pipeline.page.comparison import read_side

    chosen = config.report
    training = Path(chosen.training) if chosen.training else lineage.locate("train", config)
    given = {"evaluate": chosen.evaluation, "diagnose": chosen.diagnosis}
    evaluation, diagnosis = (
        Path(folder) if folder else None if chosen.training else lineage.locate(stage, config)
        for stage, folder in given.items()
    )
    return read_side(
        os.path.relpath(training), training, evaluation, diagnosis, (TRAINING_KEY, EVALUATION_KEY, DIAGNOSIS_KEY)
    )


def _other_side(options: argparse.Namespace, store: Tracking, scratch: Path) -> "Side":
    """The training that `--against` names: its folder, one with the outputs of all stages, or a run in MLflow."""
    from pipeline.page.comparison import read_side

    evaluation, diagnosis = options.against_evaluation, options.against_diagnosis
    keys = ("--against", "--against-evaluation", "--against-diagnosis")
    folder = Path(options.against)
    if folder.is_dir():
        if (folder / RunRecord.FILE).exists():
            return read_side(options.against, folder, evaluation, diagnosis, keys)
        if not (folder / "train" / RunRecord.FILE).exists():
            raise DataError(
                f"--against must be a run in MLflow, a folder of a training (with {RunRecord.FILE}), or one with train/, "
                f"evaluate/ and diagnose/ as build/ is; {options.against!r} is a folder without any of these."
            )
        training = folder / "train"
    else:
        from pipeline.tracking import retrieval

        folder = retrieval.results(store, options.against, scratch, "--against")
        training = folder / "training"
    found = (folder / stage if (folder / stage).is_dir() else None for stage in ("evaluate", "diagnose"))
    evaluation, diagnosis = (given or there for given, there in zip((evaluation, diagnosis), found, strict=True))
    return read_side(options.against, training, evaluation, diagnosis, keys)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--against", metavar="RUN", required=True,
        help="the other training: a run in MLflow, its folder, or a folder with train/, evaluate/ and diagnose/",
    )  # fmt: skip
    parser.add_argument("--against-evaluation", type=Path, metavar="FOLDER", help="evaluation of that training")
    parser.add_argument("--against-diagnosis", type=Path, metavar="FOLDER", help="diagnosis of that training")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", default=lineage.ROOT / "build" / "comparison", help="folder of the page"
    )
    parser.add_argument("overrides", nargs="*", help="key=value, such as report.training=outputs/train/…")
    return parser


if __name__ == "__main__":
    if any(argument.partition("=")[0] == "--against" for argument in sys.argv):
        with as_program():
            command(sys.argv[1:])
    else:
        from pipeline.stage.entry import run as run_stage
        from pipeline.sweep.command import multirun

        run_stage("report", main, multirun())
