"""Runs the rounds of a cure: diagnose the champion, try what is prescribed, confirm the best candidate on fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.artefacts.rounds import ConfirmationRecord, RoundRecord, TrainingRecord
from pipeline.diagnosis import DATA_VERDICTS, GOOD_FIT, OVERFITTING, Course, diagnose
from pipeline.errors import ConfigError
from pipeline.evaluation.accuracy import accuracy_on
from pipeline.evaluation.course import chosen_thresholds, course_of
from pipeline.lab import live, output, treatment
from pipeline.lab.session import Session
from pipeline.lab.trainings import Budget, BudgetSpent, Overrides
from pipeline.lab.treatment import DiagnosedTraining
from pipeline.metrics import paired
from pipeline.metrics.paired import Difference
from pipeline.tracking import tags as names

FIRST_SEED, FIRST_FRESH_SEED = 1, 101
FRUITLESS = 2
"""Number of rounds in a row without an adoption after which the cure ends."""


@dataclass(frozen=True)
class Candidate:
    """A training that tries a remedy."""

    remedy: str
    override: str
    training: DiagnosedTraining


class CureLoop:
    """Goes from round to round until one is the last.

    All decisions follow from the trainings, so a cure that was killed and resumed comes to the same decisions.

    Attributes:
        config: Configuration of the user.
        overrides: Overrides of the champion, beside those of the user.
        rounds: Records of the rounds that are over.
        reason: Why there is no further round, as a clause that follows "because"; empty while there is one.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.trainings = session, session.trainings
        self.config = session.compose([])
        self.settings = self.config.cure
        self.budget = Budget(self.trainings, self.settings.max_runs, self.settings.max_minutes)
        self.thresholds = chosen_thresholds(self.config)
        self.overrides: Overrides = ()
        self.rounds: list[RoundRecord] = []
        self.reason = ""
        self._tried: set[str] = set()
        self._diagnosed: dict[tuple[Overrides, float], DiagnosedTraining] = {}
        self._values_before: dict[str, object] = {}
        self._seeds: Sequence[int] = range(FIRST_SEED, FIRST_SEED + self.settings.seeds)

    def run(self) -> None:
        """Go through the rounds."""
        try:
            while not self.reason:
                self._round()
        except BudgetSpent as spent:
            self.reason = str(spent)

    def champion(self) -> list[DiagnosedTraining]:
        """The trainings of the champion, one for each seed that diagnoses it."""
        return self._diagnose([(*self.overrides, f"seed={seed}") for seed in self._seeds])

    def before(self) -> list[TrainingRecord]:
        """The trainings of the user's configuration."""
        return self.rounds[0].champion if self.rounds else [training.record() for training in self.champion()]

    def gain_of_second_half(self) -> Difference | None:
        """The gain in accuracy from the second half of the training images.

        None where the champion does not overfit, where a change helped, and where the budget does not suffice.
        """
        if not self.rounds or self.rounds[-1].verdict != OVERFITTING or self.rounds[-1].adopted:
            return None
        half = sum(self.trainings.dataset(self._any_finished()).counts["train"]) // 2
        limits, seeds = ((f"prepare.limit={half}",), ()), self._fresh_seeds(1)
        sides = [[(*self.overrides, *limit, f"seed={seed}") for seed in seeds] for limit in limits]
        try:
            self._train([*sides[0], *sides[1]])
        except BudgetSpent:
            return None
        (with_half, _), (with_all, _) = map(self._confirmed_accuracies, sides)
        return paired.difference(with_all, with_half)

    def _round(self) -> None:
        champion = self.champion()
        verdicts = [training.verdict for training in champion]
        verdict = treatment.verdict_to_treat(verdicts)
        all_seeds = f"; all seeds: {', '.join(verdicts).replace('_', ' ')}" if len(champion) > 1 else ""
        print(f"diagnosis: {champion[0].diagnosis.sentence}{all_seeds}")
        poor = all(map(treatment.fits_poorly, champion))
        if all(each == GOOD_FIT for each in verdicts) and not poor:
            self.reason = f"it fits, on each of {len(champion)} seeds"
        elif verdict in DATA_VERDICTS:
            self.reason = f"{verdict.replace('_', ' ')} is a fault of the data, which no change of the training cures"
        if self.reason:
            return
        treated = next((training for training in champion if training.verdict == verdict), champion[0])
        champion.sort(key=lambda training: training is not treated)
        settings = self.session.compose(self.overrides).model_dump()
        if verdict == GOOD_FIT:
            print("it fits, but simple methods reach as much: the network and the pixels are tried")
            treated = treatment.as_inconclusive(treated)
        changes = treatment.candidates(treated.diagnosis, settings, adopted=self._values_before, tried=self._tried)
        changes = [(remedy, override) for remedy, override in changes if self._composes(override)]
        if not changes:
            settling = treated.diagnosis.settled_by
            self.reason = f"nothing is left to try against {verdict.replace('_', ' ')}"
            self.reason += f"; it would be settled by {settling}" if settling else ""
            return
        self._tried |= {override for _, override in changes}
        tried = self._try(treated, changes)
        best = treatment.best(treated, [candidate.training for candidate in tried])
        chosen = next((candidate.override for candidate in tried if candidate.training is best), None)
        confirmation = None if chosen is None else self._confirm(verdict, chosen)
        record = RoundRecord(
            verdict=verdict,
            champion=[training.record() for training in champion],
            tried=[candidate.training.candidate_record(candidate.remedy, treated.overrides) for candidate in tried],
            chosen=chosen,
            adopted=confirmation is not None and treatment.is_adopted(confirmation),
            confirmation=confirmation,
        )
        self.rounds.append(record)
        self._end_round(record, settings)

    def _try(self, treated: DiagnosedTraining, changes: Sequence[tuple[str, str]]) -> list[Candidate]:
        """Train the candidates, with the seed of the treated training; leave out those for which the images are too small."""
        seed = treated.overrides[-1]
        selected = [(*treatment.changed(self.overrides, override), seed) for _, override in changes]
        trainings = self._diagnose(selected, treated)
        return [
            Candidate(remedy, override, training)
            for (remedy, override), training in zip(changes, trainings, strict=True)
            if self.trainings.fits_images(training.overrides)
        ]

    def _end_round(self, round_: RoundRecord, settings: Mapping[str, Any]) -> None:
        output.print_round(len(self.rounds), round_)
        self._track(round_)
        if round_.adopted and round_.chosen is not None:
            key = round_.chosen.split("=", 1)[0]
            self._values_before.setdefault(key, treatment.value_at(settings, key))
            self.overrides = treatment.changed(self.overrides, round_.chosen)
            self._seeds = self._fresh_seeds(len(self.rounds))[: self.settings.seeds]
        elif len(self.rounds) >= FRUITLESS and not any(last.adopted for last in self.rounds[-FRUITLESS:]):
            self.reason = f"{FRUITLESS} rounds brought nothing that proved better"

    def _confirm(self, verdict: str, override: str) -> ConfirmationRecord:
        """Compare champion and challenger on fresh seeds, paired, by their accuracy on the confirm split."""
        seeds = self._fresh_seeds(len(self.rounds) + 1)
        sides = (self.overrides, treatment.changed(self.overrides, override))
        champion, challenger = ([(*overrides, f"seed={seed}") for seed in seeds] for overrides in sides)
        self._train([*champion, *challenger])
        (old, old_gaps), (new, new_gaps) = map(self._confirmed_accuracies, (champion, challenger))
        return ConfirmationRecord(
            before=verdict,
            after=treatment.majority([training.verdict for training in self._diagnose(challenger)]),
            accuracy=paired.difference(new, old),
            gap=paired.difference(new_gaps, old_gaps),
            p=paired.sign_flip_p(new, old),
        )

    def _fresh_seeds(self, number: int) -> Sequence[int]:
        """The seeds that confirm round `number`; no other round uses them."""
        first = FIRST_FRESH_SEED + 100 * (number - 1)
        return range(first, first + self.settings.confirm_seeds)

    def _confirmed_accuracies(self, selected: Sequence[Overrides]) -> tuple[list[float], list[float]]:
        """Accuracies on the confirm split, and gaps between training and it; a training that diverged counts as guessing."""
        accuracies, gaps = [], []
        for overrides, training in zip(selected, self._diagnose(selected), strict=True):
            if not self.trainings.has_finished(overrides):
                accuracies.append(1 / len(self.trainings.dataset(self._any_finished()).classes))
                gaps.append(0.0)
                continue
            folder, prepared = self.trainings.folder_of(overrides), self.trainings.prepared(overrides)
            accuracies.append(accuracy_on(folder, prepared, "confirm"))
            gaps.append(training.measured("train_accuracy") - accuracies[-1])
        return accuracies, gaps

    def _any_finished(self) -> Overrides:
        return next(filter(self.trainings.has_finished, self.trainings.requested))

    def _diagnose(
        self, selected: Sequence[Overrides], champion: DiagnosedTraining | None = None
    ) -> list[DiagnosedTraining]:
        """Run the trainings that have not been run, and diagnose all; a champion's accuracy counts as reachable."""
        self._train(selected)
        reachable = champion.measured("val_accuracy") if champion else 0.0
        for overrides in selected:
            if (overrides, reachable) not in self._diagnosed:
                self._diagnosed[overrides, reachable] = self._diagnosed_training(overrides, reachable)
        return [self._diagnosed[overrides, reachable] for overrides in selected]

    def _diagnosed_training(self, overrides: Overrides, reachable: float) -> DiagnosedTraining:
        if not self.trainings.has_finished(overrides):
            loss, accuracy = np.array([np.nan]), np.zeros(1)
            diverged = Course(loss, accuracy, loss, accuracy, 1, 1, 2)
            return DiagnosedTraining(overrides, diagnose(diverged), float("inf"))
        folder, prepared = self.trainings.folder_of(overrides), self.trainings.prepared(overrides)
        course = course_of(folder, prepared, self.config.diagnose.reference)
        if course.reference is not None and reachable > course.reference:
            course = course_of(folder, prepared, reachable)
        diagnosis = diagnose(course, self.thresholds)
        self.session.parent.tag(self.trainings.record(overrides), {names.VERDICT: diagnosis.verdict})
        return DiagnosedTraining(overrides, diagnosis, float(course.val_loss[(course.kept_epoch or 0) - 1]))

    def _train(self, selected: Sequence[Overrides]) -> None:
        self.budget.check(selected)
        with live.shown(self.trainings, selected):
            self.trainings.run(selected, may_diverge=True)

    def _composes(self, override: str) -> bool:
        """Whether the change fits this network and these data: some remedies set keys that not every network has."""
        try:
            self.session.compose(treatment.changed(self.overrides, override))
        except ConfigError:
            return False
        return True

    def _track(self, round_: RoundRecord) -> None:
        tags = {names.VERDICT: round_.verdict, "goodfit.round": treatment.outcome(round_)}
        metrics = {"tried": float(len(round_.tried))}
        confirmation = round_.confirmation
        if confirmation is not None:
            tags |= {
                "goodfit.override": str(round_.chosen),
                "goodfit.verdict_after": confirmation.after,
                "goodfit.adopted": str(round_.adopted).lower(),
            }
            for name, difference in (("accuracy", confirmation.accuracy), ("gap", confirmation.gap)):
                values = {"": difference.mean, "_low": difference.low, "_high": difference.high}
                metrics |= {f"{name}_difference{suffix}": value for suffix, value in values.items()}
            metrics["sign_flip_p"] = confirmation.p
        self.session.parent.child(f"round-{len(self.rounds)}", tags, metrics)
