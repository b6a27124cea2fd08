"""Make one page that shows whether the training fits: curves, mistakes, data, network, and how to make it again.

Reads `build/train/`, `build/evaluate/`, `build/diagnose/`, `build/prepare/` and `build/augment/`; writes
`build/report/index.html`, which needs no other file and no network.

    python -m pipeline.report                                                                what DVC made last
    python -m pipeline.report report.training=… report.evaluation=… report.diagnosis=…       another training
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.page.artefacts import TRAINING_KEY, Artefacts, read
from pipeline.stage.inputs import input_folder, read_run
from pipeline.stage.job import Job
from pipeline.storage import atomic

if TYPE_CHECKING:
    from pipeline.page.page import Seen


def report(
    *, training: Path, evaluation: Path, diagnosis: Path, prepared: Path, augmented: Path, out: Path
) -> Artefacts:
    """Write `index.html`.

    Args:
        training: Output of the train stage.
        evaluation: Output of the evaluate stage for that training.
        diagnosis: Output of the diagnose stage for that training.
        prepared: Output of the prepare stage that the training was made from.
        augmented: Output of the augment stage that the training was made from.
        out: Folder to fill.

    Returns:
        What the page was made of.

    Raises:
        DataError: A folder is not whole, or they are not of one training.
    """
    from pipeline.page.page import render

    artefacts = read(
        training=training, evaluation=evaluation, diagnosis=diagnosis, prepared=prepared, augmented=augmented
    )
    atomic.write_text(out / "index.html", render(artefacts, _look_inside(training, prepared, artefacts)))
    return artefacts


def _look_inside(training: Path, prepared: Path, artefacts: Artefacts) -> "Seen":
    """The network's layers and filters, and what it sees in the first validation image."""
    import numpy as np

    from pipeline import model
    from pipeline.page.page import Seen

    classifier, classes = model.load(training / "model.ckpt")
    image = np.array(np.load(prepared / "val" / "images.npy", mmap_mode="r")[0])
    label = int(np.load(prepared / "val" / "labels.npy", mmap_mode="r")[0])
    return Seen(
        layers=model.layer_table(classifier, image.shape),
        filters=model.filters(classifier),
        image=image,
        image_class=classes[label],
        maps=model.activations(classifier, image),
    )


def main(job: Job) -> None:
    from pipeline.page import summary

    chosen = job.config.report
    training = Path(chosen.training) if chosen.training else job.locate("train")
    evaluation = Path(chosen.evaluation) if chosen.evaluation else job.locate("evaluate")
    diagnosis = Path(chosen.diagnosis) if chosen.diagnosis else job.locate("diagnose")
    run = read_run(training, TRAINING_KEY)
    prepared, augmented = (input_folder(run, stage) for stage in ("prepare", "augment"))
    artefacts = report(
        training=training,
        evaluation=evaluation,
        diagnosis=diagnosis,
        prepared=prepared,
        augmented=augmented,
        out=job.out,
    )
    place = "build/report/index.html" if job.out.parent.name == "build" else "index.html in the folder named below"
    closing = (
        f"{summary.fit_line(artefacts)}\n{summary.test_line(artefacts)}\n"
        f"Look at {place}, compare runs with `mlflow ui`, or try:\n    {summary.next_command(artefacts)}\n"
    )
    atomic.write_text(job.out / "summary.txt", closing)
    print(closing, end="")


if __name__ == "__main__":
    from pipeline.stage.entry import run as run_stage
    from pipeline.sweep.command import multirun

    run_stage("report", main, multirun())
