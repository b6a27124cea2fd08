"""Measure what each remedy is worth on your own data: ten arms, the same seeds and steps for all, differences with intervals.

Reads:   conf/, params.yaml, and the section `ablate` (arms and seeds), as a training does; trainings that have run before come
         from build/cache/
Writes:  multirun/ablate/<time>/: `index.html`, `effects.csv`, `readings.csv`, and a folder for each training
Command: python -m pipeline.ablate experiment=overfit_small                from a baseline that overfits: remedies should help
         python -m pipeline.ablate experiment=underfit_small               from a baseline that underfits: they should not
         python -m pipeline.ablate experiment=overfit_small --budget 15    as many seeds as fit into 15 minutes
         python -m pipeline.ablate experiment=overfit_small --tune         choose the strengths, on seeds of their own
         python -m pipeline.ablate experiment=overfit_small ablate.tuned=multirun/ablate/…    take the chosen strengths
         python -m pipeline.ablate --resume multirun/ablate/…              resume an ablation that was stopped
         python -m pipeline.ablate experiment=overfit_small hydra/launcher=slurm              on a cluster
"""

import math
import os
import time
from collections.abc import Sequence

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config.schema import Config
from pipeline.diagnosis import diagnose
from pipeline.errors import ConfigError
from pipeline.evaluation.course import chosen_thresholds, course_of
from pipeline.evaluation.scoring import evaluate
from pipeline.lab import output, tuning
from pipeline.lab.arms import Plan, plans
from pipeline.lab.session import Session, argument_parser, open_session
from pipeline.lab.trainings import Trainings
from pipeline.lab.treatment import majority
from pipeline.metrics import ablation, paired
from pipeline.metrics.ablation import Arm
from pipeline.page import ablation as page
from pipeline.stage import lineage
from pipeline.stage.entry import run_job
from pipeline.stage.program import as_program
from pipeline.storage import atomic
from pipeline.sweep import records
from pipeline.training import job as training_job

COMMAND = "ablate"
FIRST_SEED = 1
TUNE = "ablate.tune=true"


def compare(session: Session) -> None:
    """Train every arm with every seed, and write the comparison into the folder of the session.

    Raises:
        ConfigError: There is no test split, an arm does not fit the baseline, or the budget is too small for two seeds.
        UserError: A training did not finish.
    """
    trainings, config = session.trainings, session.compose([])
    tuned = tuning.read(config.ablate.tuned)
    planned = plans(tuning.arms(config.ablate, tuned), session.compose, config.ablate.only)
    dataset = _dataset(config)
    if not any(dataset.counts["test"]):
        raise ConfigError(
            f"prepare.test_fraction must be > 0, as an ablation ends with the test split; got "
            f"{config.prepare.test_fraction:g}. "
            "Raise it, or compare on validation: --tune."
        )
    seeds = _seeds(trainings, planned, config)
    trainings.run(plan.training(seed) for seed in seeds for plan in planned)
    arms = [_arm(plan, trainings, seeds) for plan in planned]
    baseline, *others = arms
    effects = ablation.effects(baseline, others)
    output.print_effects(baseline, effects)

    best = max(range(len(arms)), key=lambda index: arms[index].mean("accuracy"))
    finalists = (planned[0], planned[best])
    tested = [_test_accuracies(plan, trainings, seeds) for plan in finalists]
    results = page.AblationResults(
        dataset=dataset, config=config.model_dump(), baseline=baseline,
        effects=effects, champion=planned[best].name, tested=paired.difference(tested[1], tested[0]) if best else None,
        test_accuracies={plan.name: sum(values) / len(values) for plan, values in zip(finalists, tested, strict=True)},
        doses=tuned.doses, chosen=tuned.chosen, command=session.command_line(), num_trained=len(trainings.requested),
        verdicts={arm.name: _verdict(plan, arm, trainings, config) for plan, arm in zip(planned, arms, strict=True)},
    )  # fmt: skip
    print(page.headline(results))
    session.write({
        "index.html": page.render(results),
        "effects.csv": output.effects_csv(effects),
        "readings.csv": output.readings_csv(arms),
    })  # fmt: skip
    session.print_location("index.html")


def tune(session: Session) -> None:
    """Train every strength of every arm, and write all of them and the best one of each arm into the folder of the session.

    Raises:
        ConfigError: A strength does not fit the baseline.
        UserError: A training did not finish.
    """
    trainings, config = session.trainings, session.compose([])
    strengths = tuning.candidates(config.ablate)
    named = {f"{arm} ({text})": overrides for (arm, text), overrides in strengths.items()}
    baseline, *planned = plans(named, session.compose)
    seeds = range(tuning.FIRST_SEED, tuning.FIRST_SEED + config.ablate.tune_seeds)
    trainings.run(plan.training(seed) for seed in seeds for plan in (baseline, *planned))
    arms = {(ablation.BASELINE, ""): _arm(baseline, trainings, seeds)}
    arms |= {key: _arm(plan, trainings, seeds) for key, plan in zip(strengths, planned, strict=True)}
    tuned = tuning.choose(arms, config.train.monitor)
    command = session.command_line(without=(TUNE,), also=[f"ablate.tuned={os.path.relpath(session.folder)}"])
    title, monitor = f"{config.model.name} on {_dataset(config).name}", config.train.monitor
    html = page.render_tuning(tuned.doses, tuned.chosen, monitor=monitor, command=command, title=title)
    session.write({"index.html": html, tuning.RESULT: tuning.to_json(tuned)})
    for arm, override in tuned.chosen.items():
        print(f"{arm.replace('_', ' ')}: {override}")
    session.print_location("index.html")
    print(f"to measure what these are worth:\n    {command}")


def _dataset(config: Config) -> DatasetRecord:
    """The images of the baseline."""
    return DatasetRecord.read(lineage.locate("prepare", config))


def _seeds(trainings: Trainings, planned: Sequence[Plan], config: Config) -> Sequence[int]:
    """The seeds of `ablate.seeds`, or as many as fit into the budget, judged by the time of the first one."""
    if config.ablate.budget_minutes is None:
        return range(FIRST_SEED, FIRST_SEED + config.ablate.seeds)
    begin = time.monotonic()
    trainings.run(plan.training(FIRST_SEED) for plan in planned)
    trained = sum(trainings.record(overrides).seconds for overrides in {plan.training(FIRST_SEED) for plan in planned})
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
    selected = [plan.training(seed) for seed in seeds]
    histories = [trainings.history(overrides) for overrides in selected]
    sizes = [trainings.record(overrides).num_parameters for overrides in selected]
    measured = zip(histories, seeds, sizes, strict=True)
    readings = [ablation.read(rows, plan.rule, seed=seed, num_parameters=size) for rows, seed, size in measured]
    return Arm(plan.name, plan.overrides, readings, histories)


def _verdict(plan: Plan, arm: Arm, trainings: Trainings, config: Config) -> str:
    """The verdict on most seeds of an arm, at the epoch whose weights are kept."""
    verdicts = []
    for reading in arm.readings:
        overrides = plan.training(reading.seed)
        folder, prepared = trainings.folder_of(overrides), trainings.prepared(overrides)
        course = course_of(folder, prepared, config.diagnose.reference, kept_epoch=reading.epoch)
        verdicts.append(diagnose(course, chosen_thresholds(config)).verdict)
    return majority(verdicts)


def _test_accuracies(plan: Plan, trainings: Trainings, seeds: Sequence[int]) -> list[float]:
    """The accuracy on the test split, one for each seed. An arm that stops early is trained again to have the kept weights."""
    trainings.run(plan.deployed(seed) for seed in seeds)
    accuracies = []
    for seed in seeds:
        overrides = plan.deployed(seed)
        folder, prepared = trainings.folder_of(overrides), trainings.prepared(overrides)
        with atomic.folder(trainings.folder / "test" / f"{plan.name}-{seed}") as out:
            evaluation = evaluate(training=folder, prepared=prepared, batch_size=512, out=out)
        accuracies.append(evaluation.scores.accuracy.value)
    return accuracies


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(COMMAND, __doc__, "the baseline")
    parser.add_argument("--tune", action="store_true", help="try the strengths of ablate.doses, and choose")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="as many seeds as fit into this time")
    options = parser.parse_intermixed_args(arguments)
    overrides = list(options.overrides)
    if options.resume is None:
        overrides += [TUNE] if options.tune else []
        overrides += [f"ablate.budget_minutes={options.budget}"] if options.budget is not None else []
    with open_session(COMMAND, overrides, options.resume, run_job("train", training_job.main)) as session:
        answer = tune if session.compose([]).ablate.tune else compare
        answer(session)


if __name__ == "__main__":
    with as_program():
        main()
