"""Put what a prediction needs into one folder: network, preprocessing, classes, thresholds and a model card, and no code.

Reads:   build/train/, build/prepare/, build/evaluate/ and build/diagnose/
Writes:  build/package/: `model.onnx`, `weights.safetensors`, `preprocessing.json`, `classes.json`, `calibration.json`,
         `clusters.npz`, `drift.npz`, `images.npz`, `card.md`, and `manifest.json` with the SHA-256 of each
Command: python -m pipeline.package                                          the training in build/train
         python -m pipeline.package package.training=multirun/train/…/3      another one, which need not be evaluated
"""

from collections.abc import Callable
from pathlib import Path

from pipeline.artefacts.run import RunRecord
from pipeline.delivery.building import TRAINING_KEY, Sources, build
from pipeline.delivery.usage import how_to_predict
from pipeline.stage.inputs import input_folder
from pipeline.stage.job import Job


def main(job: Job) -> Callable[[], None]:
    from pipeline.tracking.publish import send_package

    chosen, evaluate = job.config.package, job.config.evaluate
    training = Path(chosen.training) if chosen.training else job.locate("train")
    named = {"evaluate": chosen.evaluation, "diagnose": chosen.diagnosis}
    evaluation, diagnosis = (
        Path(folder) if folder else (None if chosen.training else job.locate(stage)) for stage, folder in named.items()
    )
    prepared = input_folder(RunRecord.read(training, TRAINING_KEY), "prepare")
    sources = Sources(training=training, prepared=prepared, evaluation=evaluation, diagnosis=diagnosis)
    build(sources, chosen, job.out, tta=evaluate.tta, batch_size=evaluate.batch_size)
    send_package(job.config.tracking, training, job.out)
    return lambda: print(how_to_predict(job.place))


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("package", main, multirun())
