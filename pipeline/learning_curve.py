"""Forecast the accuracy with twice the data: train on parts of the images and fit a power law to the errors.

Reads:   conf/, params.yaml, and the section `learning_curve`, as a training does; trainings that have run before come from
         build/cache/
Writes:  multirun/learning_curve/<time>/: `learning_curve.png`, `learning_curve.csv` (a row for each training),
         `forecast.json`, and a folder for each training
Command: python -m pipeline.learning_curve
         python -m pipeline.learning_curve 'learning_curve.fractions=[0.25,0.5,1.0]' learning_curve.seeds=2
         python -m pipeline.learning_curve --resume multirun/learning_curve/…     continue one that was stopped
"""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.lab.session import asked
from pipeline.lab.trainings import Job, Trainings
from pipeline.metrics import history, power_law
from pipeline.metrics.power_law import Forecast
from pipeline.plotting import learning_curve as figure
from pipeline.stage import signals
from pipeline.stage.entry import run_job
from pipeline.storage import atomic, tables
from pipeline.tracking.parent import Parent
from pipeline.training import job as training_job

COMMAND = "learning_curve"
FIRST_SEED = 1


def learn(trainings: Trainings, config: Config, parent: Parent) -> Forecast:
    """Train with each number of images and each seed, and write the forecast for twice as many.

    Args:
        trainings: The trainings, some of which may have run before.
        config: Configuration of a training with all images.
        parent: Run in MLflow that gets the results.

    Raises:
        UserError: A training did not finish.
    """
    settings = config.learning_curve
    seeds = range(FIRST_SEED, FIRST_SEED + settings.seeds)
    whole = _jobs(config, 1.0, None, seeds)
    trainings.run(whole)  # first, as its dataset holds the number of images
    total = sum(trainings.dataset(whole[0])["counts"]["train"])
    jobs = {
        round(total * share): _jobs(config, share, total, seeds) for share in sorted(settings.fractions) if share < 1
    }
    jobs[total] = whole
    trainings.run(job for same_size in jobs.values() for job in same_size)
    epochs = {size: [_kept_epoch(trainings, job) for job in same_size] for size, same_size in jobs.items()}
    val = _accuracies(epochs, history.VAL_ACCURACY)
    forecast = power_law.forecast(val, 2 * total)
    law = power_law.fit({size: 1 - sum(values) / len(values) for size, values in val.items()})
    contents = {
        "learning_curve.png": figure.learning_curve(_accuracies(epochs, history.CLEAN_ACCURACY), val, law, forecast),
        "learning_curve.csv": _table(seeds, epochs).encode(),
        "forecast.json": (json.dumps({"law": asdict(law), "twice": asdict(forecast)}, indent=2) + "\n").encode(),
    }
    for name, content in contents.items():
        atomic.write_bytes(trainings.folder / name, content)
    metrics = {f"twice_the_data/{key}": value for key, value in asdict(forecast).items() if key != "num_images"}
    parent.add([trainings.folder / name for name in contents], metrics=metrics)
    _print_forecast(val, forecast)
    print(f"Look at {os.path.relpath(trainings.folder / 'learning_curve.png')}")
    return forecast


def _jobs(config: Config, share: float, total: int | None, seeds: Iterable[int]) -> list[Job]:
    limit = [] if total is None else [f"prepare.limit={round(total * share)}"]
    epochs = round(config.train.max_epochs / share) if config.learning_curve.same_steps else config.train.max_epochs
    return [(*limit, f"train.max_epochs={epochs}", f"seed={seed}") for seed in seeds]


def _kept_epoch(trainings: Trainings, job: Job) -> dict[str, float]:
    """The row of the history at the epoch whose weights were kept."""
    return trainings.rows(job)[trainings.record(job)["best_epoch"] - 1]


def _accuracies(epochs: dict[int, list[dict[str, float]]], metric: str) -> dict[int, list[float]]:
    return {size: [epoch[metric] for epoch in of_size] for size, of_size in epochs.items()}


def _table(seeds: Iterable[int], epochs: dict[int, list[dict[str, float]]]) -> str:
    measured = (history.CLEAN_ACCURACY, history.VAL_ACCURACY, history.CLEAN_LOSS, history.VAL_LOSS)
    rows = (
        (size, seed, *(epoch[metric] for metric in measured))
        for size, of_size in epochs.items()
        for seed, epoch in zip(seeds, of_size, strict=True)
    )
    return tables.to_csv(("num_train", "seed", *measured), rows)


def _print_forecast(accuracies: dict[int, list[float]], forecast: Forecast) -> None:
    for size, values in accuracies.items():
        print(
            f"{size:>9,} images: validation accuracy {sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        )
    total = max(accuracies)
    now = sum(accuracies[total]) / len(accuracies[total])
    print(
        f"Twice the images, {forecast.num_images:,}, would bring about {forecast.accuracy:.3f} "
        f"[{forecast.low:.3f}, {forecast.high:.3f}] "
        f"where {total:,} give {now:.3f}, if the errors go on falling as they do."
    )


def _check(config: Config) -> None:
    shares = config.learning_curve.fractions
    if len(set(shares)) < 3 or max(shares) != 1 or not all(0 < share <= 1 for share in shares):
        raise ConfigError(
            f"learning_curve.fractions must be three different numbers in (0, 1] or more, 1.0 among them; got {shares}."
        )
    if config.prepare.limit is not None:
        print("prepare.limit counts as all the images that there are")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.{COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides", nargs="*", help="overrides of the training: key=value in Hydra's grammar, one value each"
    )
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="continue the learning curve in this folder")
    options = parser.parse_intermixed_args(arguments)
    with asked(
        COMMAND, options.overrides, options.resume, run_job("train", training_job.main), check=_check
    ) as question:
        learn(question.trainings, question.compose([]), question.parent)


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signals.listen()
    with signals.messages():
        main()
