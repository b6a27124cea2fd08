"""Make one page that shows whether the training fits: curves, mistakes, data, network, and how to make it again.

Reads:   build/train/, build/evaluate/, build/diagnose/, build/package/, build/prepare/ and build/augment/, and the mistakes'
         images from data/
Writes:  build/report/: `index.html`, which needs no other file and no network, and `summary.txt`
Command: python -m pipeline.report                                                             the last output of DVC
         python -m pipeline.report report.training=… report.evaluation=… report.diagnosis=…    another training
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artefacts.package import ManifestRecord
from pipeline.artefacts.run import RunRecord
from pipeline.page.inputs import TRAINING_KEY, ReportInputs, read
from pipeline.stage import lineage
from pipeline.stage.inputs import input_folder
from pipeline.stage.job import Job
from pipeline.storage import atomic, checksums
from pipeline.storage.arrays import read_array

if TYPE_CHECKING:
    from pipeline.page.report import NetworkView


def report(
    *, training: Path, evaluation: Path, diagnosis: Path, prepared: Path, augmented: Path, out: Path,
    package: Path | None = None, named_package: Path | None = None, raw: Path | None = None,
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
        raw: The raw dataset, `data/`; None: the mistakes are shown as they were prepared.

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
        raw=lineage.dvc_folder("fetch"),
    )  # fmt: skip
    page = "build/report/index.html" if job.out.parent.name == "build" else "index.html in the folder named below"
    text = "".join(f"{line}\n" for line in summary.closing_lines(inputs, page))
    atomic.write_text(job.out / "summary.txt", text)
    print(text, end="")


def _dvc_package(job: Job) -> Path | None:
    """DVC's package, if there is one."""
    return job.locate("package") if (lineage.dvc_folder("package") / ManifestRecord.FILE).exists() else None


if __name__ == "__main__":
    from pipeline.stage.entry import run as run_stage
    from pipeline.sweep.command import multirun

    run_stage("report", main, multirun())
