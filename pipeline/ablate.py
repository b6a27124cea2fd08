"""Measure what each remedy is worth on your own data: ten arms, the same seeds and steps for all, differences with intervals.

Reads what `conf/` and `params.yaml` say, as a training does, and the section `ablate`: the arms and the seeds. Writes
`multirun/ablate/<time>/`: `index.html`, `effects.csv`, `readings.csv`, and a folder for each training. A training that an
earlier ablation has run is taken from `build/cache`.

    python -m pipeline.ablate experiment=overfit_small                  from a baseline that overfits: the remedies should help
    python -m pipeline.ablate experiment=underfit_small                 the mirror, from one that underfits: they should not
    python -m pipeline.ablate experiment=overfit_small --budget 15      as many seeds as fit into 15 minutes
    python -m pipeline.ablate experiment=overfit_small --tune           choose the strengths first, on seeds of their own
    python -m pipeline.ablate experiment=overfit_small ablate.tuned=multirun/ablate/…     and take those
    python -m pipeline.ablate --resume multirun/ablate/…                go on where one was stopped
    python -m pipeline.ablate experiment=overfit_small hydra/launcher=submitit_slurm      on a cluster
"""

import argparse
import math
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.diagnosis import diagnose
from pipeline.errors import ConfigError
from pipeline.evaluation.course import chosen_thresholds, course_of
from pipeline.evaluation.scoring import evaluate
from pipeline.lab import output, tuning
from pipeline.lab.arms import Plan, plans
from pipeline.lab.session import Compose, asked
from pipeline.lab.trainings import Trainings
from pipeline.lab.treatment import majority
from pipeline.metrics import ablation, paired, scores
from pipeline.metrics.ablation import Arm
from pipeline.page import ablation as page
from pipeline.stage import signals
from pipeline.stage.entry import run_job
from pipeline.stage.inputs import input_folder
from pipeline.storage import atomic
from pipeline.sweep import records
from pipeline.tracking.parent import Parent
from pipeline.training import job as training_job

COMMAND = "ablate"
FIRST_SEED = 1
TUNE = "ablate.tune=true"


def compare(trainings: Trainings, compose: Compose, parent: Parent) -> None:
    """Train every arm with every seed, and write what came of it into the folder of the trainings.

    Args:
        trainings: May have run in part before.
        compose: Gives the baseline's configuration, with overrides on top of it.
        parent: The run in MLflow that gets the results.

    Raises:
        ConfigError: An arm does not fit the baseline, or the budget is too small for two seeds.
        UserError: A training did not finish.
    """
    config = compose([])
    tuned = tuning.read(config.ablate.tuned)
    planned = plans(tuning.arms(config.ablate, tuned), compose, config.ablate.only)
    seeds = _seeds(trainings, planned, config)
    trainings.run(plan.training(seed) for seed in seeds for plan in planned)
    arms = [_arm(plan, trainings, seeds) for plan in planned]
    baseline, *others = arms
    effects = ablation.effects(baseline, others)
    output.print_table(baseline, effects)

    best = max(range(len(arms)), key=lambda index: arms[index].mean("accuracy"))
    tested = [_test_accuracies(plan, trainings, seeds) for plan in (planned[0], planned[best])]
    study = page.Study(
        dataset=trainings.dataset(planned[0].training(FIRST_SEED)),
        config=config.model_dump(),
        baseline=baseline,
        effects=effects,
        champion=planned[best].name,
        tested=paired.difference(tested[1], tested[0]) if best else None,
        test_accuracies={
            arms[index].name: sum(values) / len(values) for index, values in zip((0, best), tested, strict=True)
        },
        doses=tuned.doses,
        chosen=tuned.chosen,
        command=_command(trainings.folder),
        num_trained=len(trainings.jobs),
        verdicts={arm.name: _verdict(plan, arm, trainings, config) for plan, arm in zip(planned, arms, strict=True)},
    )
    print(page.headline(study))
    contents = {
        "index.html": page.render(study),
        "effects.csv": output.effects_csv(effects),
        "readings.csv": output.readings_csv(arms),
    }
    _write(trainings.folder, contents, parent)


def tune(trainings: Trainings, compose: Compose, parent: Parent) -> None:
    """Train every strength of every arm, choose one of each, and write both into the folder of the trainings.

    Args:
        trainings: May have run in part before.
        compose: Gives the baseline's configuration, with overrides on top of it.
        parent: The run in MLflow that gets the results.

    Raises:
        ConfigError: A strength does not fit the baseline.
        UserError: A training did not finish.
    """
    config = compose([])
    tried = tuning.candidates(config.ablate)
    baseline, *strengths = plans({f"{arm} ({text})": overrides for (arm, text), overrides in tried.items()}, compose)
    seeds = range(tuning.FIRST_SEED, tuning.FIRST_SEED + config.ablate.tune_seeds)
    trainings.run(plan.training(seed) for seed in seeds for plan in (baseline, *strengths))
    measured = {(ablation.BASELINE, ""): _arm(baseline, trainings, seeds)}
    measured |= {key: _arm(plan, trainings, seeds) for key, plan in zip(tried, strengths, strict=True)}
    found = tuning.choose(measured, config.train.monitor)
    command = f"{_command(trainings.folder, tuned=True)}"
    title = f"{config.model.name} on {config.data.name}"
    contents = {
        "index.html": page.render_tuning(
            found.doses, found.chosen, monitor=config.train.monitor, command=command, title=title
        ),
        tuning.RESULT: tuning.to_json(found),
    }
    for arm, override in found.chosen.items():
        print(f"{arm.replace('_', ' ')}: {override}")
    _write(trainings.folder, contents, parent)
    print(f"to measure what these are worth:\n    {command}")


def _seeds(trainings: Trainings, planned: Sequence[Plan], config: Config) -> Sequence[int]:
    """As many as were asked for, or as fit into the budget by the time that the first one takes."""
    if config.ablate.budget_minutes is None:
        return range(FIRST_SEED, FIRST_SEED + config.ablate.seeds)
    begin = time.monotonic()
    trainings.run(plan.training(FIRST_SEED) for plan in planned)
    trained = sum(trainings.record(job)["seconds"] for job in {plan.training(FIRST_SEED) for plan in planned})
    seconds = max(time.monotonic() - begin, trained / (os.cpu_count() or 1))  # some may have been trained before
    num_seeds = math.floor(60 * config.ablate.budget_minutes / seconds)
    if num_seeds < 2:
        raise ConfigError(
            f"ablate.budget_minutes must allow two seeds, and one takes {seconds:.0f} s; got "
            f"{config.ablate.budget_minutes:g}. Raise it to {math.ceil(seconds / 30)}; what was trained is kept."
        )
    print(
        f"One seed of all arms takes {seconds:.0f} s: {num_seeds} seeds fit into {config.ablate.budget_minutes:g} minutes. "
        f"They find differences of {paired.detectable_effect(num_seeds):.1f} standard deviations or more."
    )
    records.add_overrides(trainings.folder, COMMAND, ["ablate.budget_minutes=null", f"ablate.seeds={num_seeds}"])
    return range(FIRST_SEED, FIRST_SEED + num_seeds)


def _arm(plan: Plan, trainings: Trainings, seeds: Sequence[int]) -> Arm:
    jobs = [plan.training(seed) for seed in seeds]
    histories = [trainings.rows(job) for job in jobs]
    readings = [
        ablation.read(rows, plan.rule, seed=seed, num_parameters=trainings.record(job)["num_parameters"])
        for rows, seed, job in zip(histories, seeds, jobs, strict=True)
    ]
    return Arm(plan.name, plan.overrides, readings, histories)


def _verdict(plan: Plan, arm: Arm, trainings: Trainings, config: Config) -> str:
    """What most seeds of an arm have, by the weights that count."""
    verdicts = []
    for reading in arm.readings:
        job = plan.training(reading.seed)
        prepared = input_folder(trainings.record(job), "prepare")
        course = course_of(trainings.of(job), prepared, config.diagnose.reference, kept_epoch=reading.epoch)
        verdicts.append(diagnose(course, chosen_thresholds(config)).verdict)
    return majority(verdicts)


def _test_accuracies(plan: Plan, trainings: Trainings, seeds: Sequence[int]) -> list[float]:
    """Of the weights that count; an arm that stops early is trained again as it says, to have them."""
    trainings.run(plan.deployed(seed) for seed in seeds)
    accuracies = []
    for seed in seeds:
        training = trainings.of(plan.deployed(seed))
        prepared = input_folder(trainings.record(plan.deployed(seed)), "prepare")
        with atomic.folder(trainings.folder / "test" / f"{plan.name}-{seed}") as out:
            measured = evaluate(training=training, prepared=prepared, batch_size=512, out=out)
        accuracies.append(measured[scores.TEST_ACCURACY])
    return accuracies


def _write(folder: Path, contents: dict[str, str], parent: Parent) -> None:
    for name, content in contents.items():
        atomic.write_text(folder / name, content)
    parent.add([folder / name for name in contents])
    print(f"Look at {os.path.relpath(folder / 'index.html')}")


def _command(folder: Path, *, tuned: bool = False) -> str:
    """What asks the same question again, or with `tuned` the one that a tuning was for."""
    given = [override for override in records.read_request(folder, COMMAND) if not tuned or override != TUNE]
    strengths = [f"ablate.tuned={os.path.relpath(folder)}"] if tuned else []
    return f"python -m pipeline.{COMMAND} " + " ".join(map(shlex.quote, [*given, *strengths]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.{COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help="of the baseline: key=value in Hydra's grammar, one value each")
    parser.add_argument("--tune", action="store_true", help="try the strengths of ablate.doses, and choose")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="as many seeds as fit into so much time")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the one in this folder")
    options = parser.parse_intermixed_args(arguments)
    overrides = list(options.overrides)
    if options.resume is None:
        overrides += [TUNE] if options.tune else []
        overrides += [f"ablate.budget_minutes={options.budget}"] if options.budget is not None else []
    with asked(COMMAND, overrides, options.resume, run_job("train", training_job.main)) as question:
        answer = tune if question.compose([]).ablate.tune else compare
        answer(question.trainings, question.compose, question.parent)


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signals.listen()
    with signals.messages():
        main()
