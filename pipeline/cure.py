"""Cure a training: diagnose it, try what is prescribed, keep what proves better on fresh seeds, and go on until it fits.

Reads what `conf/` and `params.yaml` say, as a training does, and the section `cure`. Each round diagnoses the champion on some
seeds, tries the prescriptions in several strengths, and confirms the best one against the champion on fresh seeds, paired, on
the confirm split, which nothing else looks at. Stops at a good fit, when nothing helps, when the budget is spent, and at
once where the data are at fault. Writes `multirun/cure/<time>/`: `index.html`, `rounds.json`, `params.patch` where something
was adopted, and a folder for each training. A training that has been run before is taken from `build/cache`.

    python -m pipeline.cure experiment=overfit_small                 cure what overfits
    python -m pipeline.cure cure.max_minutes=60 cure.max_runs=200    with a larger budget
    python -m pipeline.cure --apply                                  write what was adopted into params.yaml
    python -m pipeline.cure --resume multirun/cure/…                 go on where one was stopped
    python -m pipeline.cure hydra/launcher=submitit_slurm            on a cluster
"""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.diagnosis import DATA_VERDICTS, GOOD_FIT, OVERFITTING, Course, diagnose
from pipeline.errors import ConfigError
from pipeline.evaluation.accuracy import accuracy_on
from pipeline.evaluation.course import chosen_thresholds, course_of
from pipeline.lab import conclusion, live, treatment
from pipeline.lab.budget import Budget, BudgetSpent
from pipeline.lab.session import Compose, asked
from pipeline.lab.trainings import Job, Trainings
from pipeline.lab.treatment import Confirmation, Overrides, Patient, Round
from pipeline.metrics import paired
from pipeline.page import cure as page
from pipeline.stage import lineage, signals
from pipeline.stage.entry import run_job
from pipeline.stage.inputs import input_folder
from pipeline.storage import atomic
from pipeline.sweep import records
from pipeline.tracking.parent import Parent
from pipeline.training import job as training_job

COMMAND = "cure"
APPLY = "cure.apply=true"
FIRST_SEED, FIRST_FRESH_SEED = 1, 101
FRUITLESS = 2
"""Rounds in a row without an adoption, after which the loop ends."""


class Cure:
    """The loop. All that it decides follows from its trainings, so that one which was killed comes to the same decisions.

    Attributes:
        overrides: Of the champion, beside what the user asked for.
        rounds: That are over.
        ended: Why there is no further round, in one sentence.
    """

    def __init__(self, trainings: Trainings, compose: Compose, parent: Parent) -> None:
        self.trainings, self.compose, self.parent = trainings, compose, parent
        self.asked = compose([])
        self.settings = self.asked.cure
        self.budget = Budget(trainings, self.settings.max_runs, self.settings.max_minutes)
        self.thresholds = chosen_thresholds(self.asked)
        self.overrides: Overrides = ()
        self.rounds: list[Round] = []
        self.ended = ""
        self._tried: set[str] = set()
        self._diagnosed: dict[tuple[Job, float], Patient] = {}
        self._before: dict[str, Any] = {}
        self._seeds: Sequence[int] = range(FIRST_SEED, FIRST_SEED + self.settings.seeds)

    def run(self) -> None:
        """Go through rounds until one is the last."""
        try:
            while not self.ended:
                self._round()
        except BudgetSpent as spent:
            self.ended = str(spent)

    def champion(self) -> list[Patient]:
        """The trainings of what was adopted so far, on the seeds that diagnose it."""
        return self._patients([(*self.overrides, f"seed={seed}") for seed in self._seeds])

    def _round(self) -> None:
        champion = self.champion()
        verdicts = [each.diagnosis.verdict for each in champion]
        verdict = treatment.illness(verdicts)
        others = f"; all seeds: {', '.join(verdicts).replace('_', ' ')}" if len(champion) > 1 else ""
        print(f"diagnosis: {champion[0].diagnosis.sentence}{others}")
        if all(each.diagnosis.verdict == GOOD_FIT for each in champion):
            self.ended = f"it fits, on each of {len(champion)} seeds"
        elif verdict in DATA_VERDICTS:
            self.ended = f"{verdict.replace('_', ' ')} is a fault of the data, which no change of the training cures"
        if self.ended:
            return
        ill = next((each for each in champion if each.diagnosis.verdict == verdict), champion[0])
        champion.sort(key=lambda each: each is not ill)
        settings = self.compose(self.overrides).model_dump()
        found = treatment.candidates(ill.diagnosis, settings, adopted=self._before, tried=self._tried)
        found = [pair for pair in found if self._composes(pair[1])]
        if not found:
            settled = f"; it would be settled by {ill.diagnosis.settled_by}" if ill.diagnosis.settled_by else ""
            self.ended = f"nothing is left to try against {verdict.replace('_', ' ')}{settled}"
            return
        self._tried |= {override for _, override in found}
        tried = self._try(ill, found)
        chosen = treatment.best(ill, [each for _, _, each in tried])
        override = next((override for _, override, each in tried if each is chosen), None)
        confirmation = None if override is None else self._confirm(verdict, override)
        over = Round(verdict, champion, [(remedy, each) for remedy, _, each in tried], override, confirmation)
        self._end_round(over, settings)

    def _try(self, ill: Patient, found: Sequence[tuple[str, str]]) -> list[tuple[str, str, Patient]]:
        """Remedy, override and training of each candidate, with the seed of the one that is ill; without those for which
        the images are too small."""
        seed = ill.overrides[-1]
        jobs = [(*treatment.changed(self.overrides, override), seed) for _, override in found]
        patients = self._patients(jobs, ill)
        tried = zip(found, jobs, patients, strict=True)
        return [(*pair, patient) for pair, job, patient in tried if self.trainings.fits(job)]

    def _end_round(self, over: Round, settings: dict[str, Any]) -> None:
        self.rounds.append(over)
        page.print_round(len(self.rounds), over)
        self._track(over)
        if over.adopted and over.chosen is not None:
            key = over.chosen.split("=", 1)[0]
            self._before.setdefault(key, treatment.value_at(settings, key))
            self.overrides = treatment.changed(self.overrides, over.chosen)
            self._seeds = self.fresh(len(self.rounds))[: self.settings.seeds]
        elif len(self.rounds) >= FRUITLESS and not any(each.adopted for each in self.rounds[-FRUITLESS:]):
            self.ended = f"{FRUITLESS} rounds brought nothing that proved better"

    def _confirm(self, verdict: str, override: str) -> Confirmation:
        """Champion and challenger on fresh seeds, paired, measured on the confirm split."""
        seeds = self.fresh(len(self.rounds) + 1)
        sides = self.overrides, treatment.changed(self.overrides, override)
        jobs = [[(*side, f"seed={seed}") for seed in seeds] for side in sides]
        self.train([*jobs[0], *jobs[1]])
        (old, old_gaps), (new, new_gaps) = (self.measured(each) for each in jobs)
        patients = self._patients(jobs[1])
        return Confirmation(
            before=verdict,
            after=treatment.majority([each.diagnosis.verdict for each in patients]),
            accuracy=paired.difference(new, old),
            gap=paired.difference(new_gaps, old_gaps),
            p=paired.sign_flip_p(new, old),
        )

    def fresh(self, number: int) -> Sequence[int]:
        """The seeds that confirm round `number`, of which no other round has any."""
        first = FIRST_FRESH_SEED + 100 * (number - 1)
        return range(first, first + self.settings.confirm_seeds)

    def measured(self, jobs: Sequence[Job]) -> tuple[list[float], list[float]]:
        """Accuracies on the confirm split and gaps from training to it; one that diverged guesses."""
        accuracies, gaps = [], []
        for job, patient in zip(jobs, self._patients(jobs), strict=True):
            if not self.trainings.finished(job):
                accuracies.append(1 / len(self.trainings.dataset(self.any_finished())["classes"]))
                gaps.append(0.0)
                continue
            prepared = input_folder(self.trainings.record(job), "prepare")
            accuracies.append(accuracy_on(self.trainings.of(job), prepared, "confirm"))
            gaps.append(patient.measured("train_accuracy") - accuracies[-1])
        return accuracies, gaps

    def any_finished(self) -> Job:
        return next(job for job in self.trainings.jobs if self.trainings.finished(job))

    def _patients(self, jobs: Sequence[Job], champion: Patient | None = None) -> list[Patient]:
        """Train what has not been trained, and diagnose; what a champion reaches counts as reachable."""
        self.train(jobs)
        reached = champion.measured("val_accuracy") if champion else 0.0
        for job in jobs:
            if (job, reached) not in self._diagnosed:
                self._diagnosed[job, reached] = self._patient(job, reached)
        return [self._diagnosed[job, reached] for job in jobs]

    def _patient(self, job: Job, reached: float) -> Patient:
        if not self.trainings.finished(job):
            nothing = np.array([np.nan])
            course = Course(nothing, np.zeros(1), nothing, np.zeros(1), 1, 1, 2)
            return Patient(job, diagnose(course), float("inf"))
        training = self.trainings.of(job)
        prepared = input_folder(self.trainings.record(job), "prepare")
        course = course_of(training, prepared, self.asked.diagnose.reference)
        if course.reference is not None and reached > course.reference:
            course = course_of(training, prepared, reached)
        found = diagnose(course, self.thresholds)
        self.parent.tag(self.trainings.record(job)["mlflow_run_id"], {"goodfit.verdict": found.verdict})
        return Patient(job, found, float(course.val_loss[(course.kept_epoch or 0) - 1]))

    def train(self, jobs: Sequence[Job]) -> None:
        self.budget.spend(jobs)
        with live.shown(self.trainings, jobs):
            self.trainings.run(jobs, may_diverge=True)

    def _composes(self, override: str) -> bool:
        """Whether the change fits this network and these data; some remedies are keys that not every network has."""
        try:
            self.compose(treatment.changed(self.overrides, override))
        except ConfigError:
            return False
        return True

    def _track(self, over: Round) -> None:
        number = len(self.rounds)
        tags = {"goodfit.verdict": over.verdict, "goodfit.round": over.sentence()}
        metrics = {"tried": float(len(over.tried))}
        if over.confirmation is not None:
            tags |= {
                "goodfit.override": str(over.chosen),
                "goodfit.verdict_after": over.confirmation.after,
                "goodfit.adopted": str(over.adopted).lower(),
            }
            for name, found in (("accuracy", over.confirmation.accuracy), ("gap", over.confirmation.gap)):
                ends = {"": found.mean, "_low": found.low, "_high": found.high}
                metrics |= {f"{name}_difference{end}": value for end, value in ends.items()}
            metrics["sign_flip_p"] = over.confirmation.p
        self.parent.child(f"round-{number}", tags, metrics)


def finish(cure: Cure, folder: Path) -> None:
    """Say what came of it, and write the page, the rounds and the patch."""
    conf, file = folder / ".source" / "conf", folder / ".source" / "params.yaml"
    patch, new = conclusion.patch(conf, file, cure.compose(cure.overrides).model_dump())
    before, after = cure.rounds[0].champion if cure.rounds else cure.champion(), cure.champion()
    more_data = _worth_of_data(cure)
    suspects = None
    if treatment.illness([each.diagnosis.verdict for each in after]) in DATA_VERDICTS:
        suspects = conclusion.suspects(input_folder(cure.trainings.record(after[0].overrides), "prepare"))
    ended = page.Ending(
        asked=cure.asked.model_dump(),
        reason=cure.ended,
        before=before,
        after=after,
        rounds=cure.rounds,
        adopted=cure.overrides,
        more_data=more_data,
        patch=patch,
        command=f"python -m pipeline.{COMMAND} " + " ".join(map(shlex.quote, records.read_request(folder, COMMAND))),
        num_trained=len(cure.trainings.jobs),
        suspects=suspects,
        curves=conclusion.curves(cure.trainings, before, after) if cure.overrides else [],
    )
    contents = {"index.html": page.render(ended), "rounds.json": page.to_json(ended)}
    if ended.adopted:
        contents["params.patch"] = patch
    for name, content in contents.items():
        atomic.write_text(folder / name, content)
    cure.parent.add([folder / name for name in contents], tags={"goodfit.ended": cure.ended})
    print(page.closing(ended))
    if ended.adopted and cure.settings.apply:
        target = lineage.ROOT / "params.yaml"
        if target.read_text() != file.read_text():
            raise ConfigError(
                f"params.yaml must be as it was when the cure began; it was changed. Apply {folder / 'params.patch'} by hand."
            )
        atomic.write_text(target, new)
        print("written into params.yaml")
    print(f"Look at {os.path.relpath(folder / 'index.html')}")


def _worth_of_data(cure: Cure) -> "paired.Difference | None":
    """What the second half of the training images brought, where it still overfits and nothing helps; None elsewhere."""
    if not cure.rounds or cure.rounds[-1].verdict != OVERFITTING or cure.rounds[-1].adopted:
        return None
    seeds = cure.fresh(1)
    dataset = cure.trainings.dataset(cure.any_finished())
    half = sum(dataset["counts"]["train"]) // 2
    jobs = [[(*cure.overrides, *extra, f"seed={seed}") for seed in seeds] for extra in ((f"prepare.limit={half}",), ())]
    try:
        cure.train([*jobs[0], *jobs[1]])
    except BudgetSpent:
        return None
    (less, _), (all_of_it, _) = (cure.measured(each) for each in jobs)
    return paired.difference(all_of_it, less)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.{COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help="of what to cure: key=value in Hydra's grammar, one value each")
    parser.add_argument("--apply", action="store_true", help="write what was adopted into params.yaml")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the one in this folder")
    options = parser.parse_intermixed_args(arguments)
    besides = [APPLY] if options.apply else []
    train_one = run_job("train", training_job.main)
    with asked(COMMAND, options.overrides, options.resume, train_one, check=_check, besides=besides) as question:
        cure = Cure(question.trainings, question.compose, question.parent)
        cure.run()
        finish(cure, question.folder)


def _check(config: Config) -> None:
    if config.prepare.confirm_fraction == 0:
        raise ConfigError(
            "prepare.confirm_fraction must be above 0, as a change is confirmed on images that chose nothing; got 0."
        )
    settings = config.cure
    if settings.max_runs < settings.seeds:
        raise ConfigError(
            f"cure.max_runs must allow the cure.seeds={settings.seeds} trainings of a diagnosis; got {settings.max_runs}."
        )


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signals.listen()
    with signals.messages():
        main()
