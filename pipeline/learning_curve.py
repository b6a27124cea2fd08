"""Forecast the accuracy with twice the data: train on parts of the images and fit a power law to the errors.

Reads:   conf/, params.yaml, and the section `learning_curve`, as a training does; trainings that have run before come from
         build/cache/
Writes:  multirun/learning_curve/<time>/: `learning_curve.png`, `learning_curve.csv` (a row for each training),
         `forecast.json`, and a folder for each training
Command: python -m pipeline.learning_curve
         python -m pipeline.learning_curve 'learning_curve.fractions=[0.25,0.5,1.0]' learning_curve.seeds=2
         python -m pipeline.learning_curve --resume multirun/learning_curve/…     continue one that was stopped
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.lab.session import Session, argument_parser, open_session
from pipeline.lab.trainings import Overrides
from pipeline.metrics import history, power_law
from pipeline.metrics.power_law import Forecast
from pipeline.plotting import learning_curve
from pipeline.stage.entry import run_job
from pipeline.stage.program import as_program
from pipeline.storage.tables import to_csv
from pipeline.training import job as training_job

COMMAND = "learning_curve"
FIRST_SEED = 1


def learn(session: Session) -> Forecast:
    """Train with every number of images and every seed, and write the forecast for twice as many.

    Raises:
        UserError: A training did not finish.
    """
    trainings, config = session.trainings, session.compose([])
    settings = config.learning_curve
    seeds = range(FIRST_SEED, FIRST_SEED + settings.seeds)
    on_all = _overrides(config, 1.0, None, seeds)
    trainings.run(on_all)  # tells how many images there are
    total = sum(trainings.dataset(on_all[0]).counts["train"])
    shares = sorted(share for share in settings.fractions if share < 1)
    by_size = {round(total * share): _overrides(config, share, total, seeds) for share in shares} | {total: on_all}
    trainings.run(overrides for selected in by_size.values() for overrides in selected)
    rows = {size: [trainings.kept_row(overrides) for overrides in selected] for size, selected in by_size.items()}
    val = {size: [row[history.VAL_ACCURACY] for row in selected] for size, selected in rows.items()}
    train = {size: [row[history.CLEAN_ACCURACY] for row in selected] for size, selected in rows.items()}
    forecast = power_law.forecast(val, 2 * total)
    law = power_law.fit({size: 1 - sum(accuracies) / len(accuracies) for size, accuracies in val.items()})
    contents: dict[str, str | bytes] = {
        "learning_curve.png": learning_curve.learning_curve(train, val, law, forecast),
        "learning_curve.csv": _table(seeds, rows),
        "forecast.json": json.dumps({"law": asdict(law), "twice": asdict(forecast)}, indent=2) + "\n",
    }
    metrics = {f"twice_the_data/{key}": value for key, value in asdict(forecast).items() if key != "num_images"}
    session.write(contents, metrics=metrics)
    _print_forecast(val, forecast)
    session.print_location("learning_curve.png")
    return forecast


def _overrides(config: Config, share: float, total: int | None, seeds: Iterable[int]) -> list[Overrides]:
    """The overrides of the trainings on a share of the images, one for each seed."""
    limit = [] if total is None else [f"prepare.limit={round(total * share)}"]
    epochs = round(config.train.max_epochs / share) if config.learning_curve.same_steps else config.train.max_epochs
    return [(*limit, f"train.max_epochs={epochs}", f"seed={seed}") for seed in seeds]


def _table(seeds: Sequence[int], rows: Mapping[int, Sequence[Mapping[str, float]]]) -> str:
    measured = (history.CLEAN_ACCURACY, history.VAL_ACCURACY, history.CLEAN_LOSS, history.VAL_LOSS)
    lines = [
        [size, seed, *(row[key] for key in measured)]
        for size, selected in rows.items()
        for seed, row in zip(seeds, selected, strict=True)
    ]
    return to_csv(["num_train", "seed", *measured], lines)


def _print_forecast(accuracies: Mapping[int, Sequence[float]], forecast: Forecast) -> None:
    for size, values in accuracies.items():
        print(f"{size:>9,} images: validation accuracy {fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
    total = max(accuracies)
    print(
        f"Twice the images, {forecast.num_images:,}, would bring about {forecast.accuracy:.3f} "
        f"[{forecast.low:.3f}, {forecast.high:.3f}] where {total:,} give {fmean(accuracies[total]):.3f}, if the errors go on "
        "falling as they do."
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
    parser = argument_parser(COMMAND, __doc__, "the training")
    options = parser.parse_intermixed_args(arguments)
    train = run_job("train", training_job.main)
    with open_session(COMMAND, options.overrides, options.resume, train, check=_check) as session:
        learn(session)


if __name__ == "__main__":
    with as_program():
        main()
