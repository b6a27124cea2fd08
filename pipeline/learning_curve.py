"""Learn what more data would be worth: train on a tenth of the images up to all of them, and fit the law by which errors fall.

Reads what `conf/` and `params.yaml` say, as a training does, and the section `learning_curve`. Writes
`multirun/learning_curve/<time>/`: `learning_curve.png`, `learning_curve.csv` (a line for each training), `forecast.json`, and a
folder for each training. A training that has been run before is taken from `build/cache`.

    python -m pipeline.learning_curve                                        what would twice the images bring?
    python -m pipeline.learning_curve 'learning_curve.fractions=[0.25,0.5,1.0]' learning_curve.seeds=2
    python -m pipeline.learning_curve --resume multirun/learning_curve/…     go on where one was stopped
"""

import argparse
import csv
import io
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
from pipeline.plotting import learning_curve
from pipeline.stage import signals
from pipeline.stage.entry import run_job
from pipeline.storage import atomic
from pipeline.tracking.parent import Parent
from pipeline.training import job as training_job

COMMAND = "learning_curve"
FIRST_SEED = 1


def learn(trainings: Trainings, config: Config, parent: Parent) -> Forecast:
    """Train with every number of images and every seed, and write what twice as many would bring.

    Args:
        trainings: May have run in part before.
        config: Of a training with all images.
        parent: The run in MLflow that gets the results.

    Raises:
        UserError: A training did not finish.
    """
    settings = config.learning_curve
    seeds = range(FIRST_SEED, FIRST_SEED + settings.seeds)
    whole = _jobs(config, 1.0, None, seeds)
    trainings.run(whole)  # tells how many images there are
    total = sum(trainings.dataset(whole[0])["counts"]["train"])
    jobs = {
        round(total * share): _jobs(config, share, total, seeds) for share in sorted(settings.fractions) if share < 1
    }
    jobs[total] = whole
    trainings.run(job for each in jobs.values() for job in each)
    rows = {size: [_kept(trainings, job) for job in each] for size, each in jobs.items()}
    accuracies = {size: [row[history.VAL_ACCURACY] for row in each] for size, each in rows.items()}
    found = power_law.forecast(accuracies, 2 * total)
    law = power_law.fit({size: 1 - sum(values) / len(values) for size, values in accuracies.items()})
    learned = {size: [row[history.CLEAN_ACCURACY] for row in each] for size, each in rows.items()}
    contents = {
        "learning_curve.png": learning_curve.learning_curve(learned, accuracies, law, found),
        "learning_curve.csv": _table(seeds, rows).encode(),
        "forecast.json": (json.dumps({"law": asdict(law), "twice": asdict(found)}, indent=2) + "\n").encode(),
    }
    for name, content in contents.items():
        atomic.write_bytes(trainings.folder / name, content)
    metrics = {f"twice_the_data/{key}": value for key, value in asdict(found).items() if key != "num_images"}
    parent.add([trainings.folder / name for name in contents], metrics=metrics)
    _tell(accuracies, found)
    print(f"Look at {os.path.relpath(trainings.folder / 'learning_curve.png')}")
    return found


def _jobs(config: Config, share: float, total: int | None, seeds: Iterable[int]) -> list[Job]:
    limit = [] if total is None else [f"prepare.limit={round(total * share)}"]
    epochs = round(config.train.max_epochs / share) if config.learning_curve.same_steps else config.train.max_epochs
    return [(*limit, f"train.max_epochs={epochs}", f"seed={seed}") for seed in seeds]


def _kept(trainings: Trainings, job: Job) -> dict[str, float]:
    return trainings.rows(job)[trainings.record(job)["best_epoch"] - 1]


def _table(seeds: Iterable[int], rows: dict[int, list[dict[str, float]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measured = (history.CLEAN_ACCURACY, history.VAL_ACCURACY, history.CLEAN_LOSS, history.VAL_LOSS)
    writer.writerow(["num_train", "seed", *measured])
    for size, each in rows.items():
        writer.writerows([size, seed, *(row[key] for key in measured)] for seed, row in zip(seeds, each, strict=True))
    return text.getvalue()


def _tell(accuracies: dict[int, list[float]], found: Forecast) -> None:
    for size, values in accuracies.items():
        print(
            f"{size:>9,} images: validation accuracy {sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        )
    total = max(accuracies)
    now = sum(accuracies[total]) / len(accuracies[total])
    print(
        f"Twice the images, {found.num_images:,}, would bring about {found.accuracy:.3f} [{found.low:.3f}, {found.high:.3f}] "
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
    parser.add_argument("overrides", nargs="*", help="of the training: key=value in Hydra's grammar, one value each")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the one in this folder")
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
