"""Compare ways to start a training on the same folds: random weights, what others have learned, and how much of it learns on.

Reads:   conf/, params.yaml, and the section `starts`, as a training does; trainings that have run before come from build/cache/
Writes:  multirun/starts/<time>/: `index.html`, `starts.csv` (a row for each way and number of images), `starts.png`, and a
         folder for each training
Command: python -m pipeline.starts
         python -m pipeline.starts data=folder data.source=photos 'starts.per_class=[10,50]'
         python -m pipeline.starts experiment=few_images          500 images in five minutes on two cores
         python -m pipeline.starts --resume multirun/starts/…     continue one that was stopped
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.artefacts.run import RunRecord
from pipeline.config.grammar import experiment
from pipeline.config.schema import Config
from pipeline.config.section import nearest
from pipeline.errors import ConfigError
from pipeline.evaluation.accuracy import right_on
from pipeline.evaluation.probe import probe_right
from pipeline.lab.session import Session, argument_parser, open_session
from pipeline.lab.trainings import Overrides
from pipeline.metrics.starts import Way, best, compare
from pipeline.page import starts as page
from pipeline.plotting import starts as plotting
from pipeline.stage.entry import run_job
from pipeline.stage.program import as_program
from pipeline.storage.tables import to_csv
from pipeline.training import job as training_job

COMMAND = "starts"
SCRATCH, PROBE = "scratch", "probe"
"""Names of the way that others are compared with, and of that which trains no network."""


@dataclass(frozen=True)
class Fold:
    """One split of the images: fold `number` of `folds` in the repeat `repeat` of the cross-validation."""

    repeat: int
    number: int
    folds: int

    def overrides(self, limit: int | None) -> list[str]:
        """What sets it, with at most `limit` training images."""
        fold = [f"prepare.folds={self.folds}", f"prepare.fold={self.number}", f"prepare.repeat={self.repeat}"]
        return fold if limit is None else [*fold, f"prepare.limit={limit}"]


def compare_starts(session: Session) -> dict[int, list[Way]]:
    """Train each way on each fold with each number of images, and write the comparison.

    Returns:
        The ways, the most accurate first, by the number of training images.

    Raises:
        UserError: A training did not finish.
    """
    config = session.compose([])
    ways, settings = chosen(config), config.starts
    folds = [
        Fold(repeat, number, settings.folds) for repeat in range(settings.repeats) for number in range(settings.folds)
    ]
    first = _overrides(ways[SCRATCH], folds[0], None)
    session.trainings.run([first])  # tells how many images and classes there are
    dataset = session.trainings.dataset(first)
    total, num_classes = sum(dataset.counts["train"]), len(dataset.classes)
    sizes = [count * num_classes for count in settings.per_class if count * num_classes < total]
    results = {}
    for size in [*sorted(sizes), total]:
        limit = None if size == total else size
        results[size] = _compare_at(session, ways, folds, limit)
        _print(size, results[size])
    command = session.command_line()
    contents: dict[str, str | bytes] = {
        "starts.csv": _table(results), "starts.png": plotting.accuracies(results, num_classes),
        "index.html": page.render(results, ways, dataset, config.model_dump(), command),
    }  # fmt: skip
    winner = best(results[total])
    session.write(
        contents, metrics={f"accuracy/{way.name}": way.accuracy for way in results[total]}, tags={"start": winner.name}
    )
    print(conclusion(winner, ways))
    session.print_location("index.html")
    return results


def chosen(config: Config) -> dict[str, list[str]]:
    """The overrides of each way that is compared, `scratch` among them; with weights of one's own also `own`.

    Raises:
        ConfigError: `starts.only` names a way that `starts.ways` has not, or `scratch` is missing there.
    """
    settings = config.starts
    ways = dict(settings.ways)
    if SCRATCH not in ways:
        raise ConfigError(
            f"starts.ways must have {SCRATCH}, which the others are compared with; got {', '.join(ways) or 'none'}. Add "
            f"{SCRATCH}: [model.weights=null, model.train_layers=all]."
        )
    if config.model.weights is not None and config.model.name != "efficientnet":
        ways["own"] = []
    for name in settings.only or ():
        if name not in ways:
            raise ConfigError(
                f"starts.only must name ways of starts.ways: {', '.join(ways)}; got {name!r}.{nearest(name, ways)} Correct it."
            )
    return {
        name: overrides
        for name, overrides in ways.items()
        if settings.only is None or name in (*settings.only, SCRATCH)
    }


def conclusion(winner: Way, ways: Mapping[str, Sequence[str]]) -> str:
    """What to do, in one sentence and a command."""
    if winner.gain is None:
        return "No other start is surely better than random weights on these images."
    return (
        f"Start with {winner.name}: {winner.gain.mean:+.3f} [{winner.gain.low:+.3f}, {winner.gain.high:+.3f}] above random "
        f"weights. Adopt it:\n    {experiment(' '.join(ways[winner.name]))}"
    )


def _compare_at(
    session: Session, ways: Mapping[str, Sequence[str]], folds: Sequence[Fold], limit: int | None
) -> list[Way]:
    trainings = session.trainings
    selected = {
        name: [_overrides(overrides, fold, limit) for fold in folds]
        for name, overrides in ways.items()
        if name != PROBE
    }
    trainings.run(overrides for each in selected.values() for overrides in each)
    right = {
        name: [right_on(trainings.folder_of(one), trainings.prepared(one), "val") for one in each]
        for name, each in selected.items()
    }
    seconds = {name: fmean(_seconds(trainings.record(one)) for one in each) for name, each in selected.items()}
    if PROBE in ways:
        begin = time.perf_counter()
        right[PROBE] = [probe_right(session.compose(_overrides(ways[PROBE], fold, limit))) for fold in folds]
        seconds[PROBE] = (time.perf_counter() - begin) / len(folds)
    return compare(right, seconds, SCRATCH)


def _seconds(run: RunRecord) -> float:
    """Time from the beginning of a training to the end of its last epoch, features and checks included."""
    return run.times_ms[-1] / 1000 - run.begin


def _overrides(way: Sequence[str], fold: Fold, limit: int | None) -> Overrides:
    return (*way, *fold.overrides(limit))


def _table(results: Mapping[int, Sequence[Way]]) -> str:
    lines = []
    for size, ways in results.items():
        for way in ways:
            gain = [None] * 3 if way.gain is None else [way.gain.mean, way.gain.low, way.gain.high]
            lines.append(
                [size, way.name, way.accuracy, *gain, way.seconds, " ".join(f"{value:.4f}" for value in way.accuracies)]
            )
    return to_csv(["num_train", "start", "accuracy", "gain", "gain_low", "gain_high", "seconds", "folds"], lines)


def _print(size: int, ways: Sequence[Way]) -> None:
    print(f"{size:,} training images")
    for way in ways:
        gain = (
            ""
            if way.gain is None
            else f"  {way.gain.mean:+.3f} [{way.gain.low:+.3f}, {way.gain.high:+.3f}] above scratch"
        )
        print(f"  {way.name:10} {way.accuracy:.3f}{gain}  {way.seconds:.0f} s")


def _check(config: Config) -> None:
    chosen(config)
    if config.prepare.folds is not None or config.prepare.fold is not None:
        raise ConfigError(
            f"prepare.folds and prepare.fold must be null, as starts.folds parts the images; got {config.prepare.folds} and "
            f"{config.prepare.fold}. Take them out."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(COMMAND, __doc__, "the training")
    options = parser.parse_intermixed_args(arguments)
    train = run_job("train", training_job.main)
    with open_session(COMMAND, options.overrides, options.resume, train, check=_check) as session:
        compare_starts(session)


if __name__ == "__main__":
    with as_program():
        main()
