"""Runs the rounds of a cure: diagnose the champion, try what is prescribed, confirm the best candidate on fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.artefacts.rounds import ConfirmationRecord, RoundRecord, TrainingRecord
from pipeline.config.grammar import words
from pipeline.diagnosis import DATA_VERDICTS, GOOD_FIT, INCONCLUSIVE, OVERFITTING, STILL_LEARNING
from pipeline.errors import ConfigError
from pipeline.evaluation.accuracy import few
from pipeline.lab import output, treatment
from pipeline.lab.session import Session
from pipeline.lab.trainings import BudgetSpent, Overrides
from pipeline.lab.treatment import DiagnosedTraining
from pipeline.lab.trials import Trials
from pipeline.metrics.paired import Difference
from pipeline.tracking import tags as names

FIRST_FRESH = 101
"""The first seed that confirms, above that of the configuration, with which the champion's own begin."""

FRUITLESS = 2
"""Number of rounds in a row without an adoption after which the cure ends."""

LONGER_IS_NO_BETTER = "trained for more epochs, it was no better"


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
        self.trials = Trials(session, self.config)
        self.overrides: Overrides = ()
        self.rounds: list[RoundRecord] = []
        self.reason = ""
        self._tried: set[str] = set()
        self._settled = False  # whether longer trainings of the champion were no better
        self._values_before: dict[str, object] = {}
        self._num_seeds = self.trials.repetition.number(self.settings.seeds)
        self._seeds: Sequence[int] = range(self.config.seed, self.config.seed + self._num_seeds)

    def run(self) -> None:
        """Go through the rounds."""
        try:
            while not self.reason:
                self._round()
        except BudgetSpent as spent:
            self.reason = str(spent)

    def champion(self) -> list[DiagnosedTraining]:
        """The trainings of the champion, one for each seed that diagnoses it."""
        selected = [(*self.overrides, f"seed={seed}") for seed in self._seeds]
        return self.trials.diagnosed(selected, settled=self._settled)

    def before(self) -> list[TrainingRecord]:
        """The trainings of the user's configuration."""
        return self.rounds[0].champion if self.rounds else [training.record() for training in self.champion()]

    def gain_of_second_half(self) -> Difference | None:
        """The gain in accuracy from the second half of the training images.

        None where the champion does not overfit, where a change helped, and where the budget does not suffice.
        """
        if not self.rounds or self.rounds[-1].verdict != OVERFITTING or self.rounds[-1].adopted:
            return None
        [any_champion, *_] = self.trials.parts([(*self.overrides, f"seed={self._seeds[0]}")])
        half = sum(self.trainings.dataset(any_champion).counts["train"]) // 2
        limits, seeds = ((f"prepare.limit={half}",), ()), self._fresh_seeds(1)
        sides = [[(*self.overrides, *limit, f"seed={seed}") for seed in seeds] for limit in limits]
        try:
            self.trials.run([*sides[0], *sides[1]])
        except BudgetSpent:
            return None
        with_half, with_all = map(self.trials.confirmed, sides)
        return self.trials.repetition.compare(with_all, with_half).accuracy

    def _round(self) -> None:
        champion = self.champion()
        verdicts = [training.verdict for training in champion]
        verdict = treatment.verdict_to_treat(verdicts)
        print(f"diagnosis of {self.trials.repetition.named(self._seeds[0])}: {champion[0].diagnosis.sentence}")
        if self._settled:
            print(f"it no longer counts as still learning: {LONGER_IS_NO_BETTER}")
        if len(champion) > 1:
            which = " (`dvc repro` trains the first)" if not self.overrides else ""
            print(f"all seeds, {self._seeds[0]} to {self._seeds[-1]}: {', '.join(verdicts).replace('_', ' ')}{which}")
        if verdict in DATA_VERDICTS:
            self.reason = f"{verdict.replace('_', ' ')} is a fault of the data, which no change of the training cures"
            return
        treated = next((training for training in champion if training.verdict == verdict), champion[0])
        champion.sort(key=lambda training: training is not treated)
        settings = self.trials.settings(self.overrides)
        fits = all(each == GOOD_FIT for each in verdicts) and not all(map(treatment.fits_poorly, champion))
        if verdict == GOOD_FIT and not fits:
            treated = treatment.as_underfitting(treated)
        changes, unrecognised = self._changes(verdict, treated, settings, fits=fits)
        if not changes:
            self.reason = self._fits() if fits else self._nothing_left(verdict, treated)
            self.reason += f"; {few(unrecognised)}: still hardly ever recognised" if unrecognised else ""
            return
        affordable = self._affordable(treated, changes)
        left_out = [change[1] for change in changes if change not in affordable]
        if left_out:
            print(f"left out, as too slow for what is left of the budget: {', '.join(left_out)}")
        tried = self._try(treated, affordable)
        trained = [candidate.training for candidate in tried]
        best = self._best_balanced(treated, trained) if unrecognised else treatment.best(treated, trained)
        chosen = next((candidate.override for candidate in tried if candidate.training is best), None)
        confirmation = None if chosen is None else self._confirm(verdict, chosen, balanced=bool(unrecognised))
        record = RoundRecord(
            verdict=verdict,
            unrecognised=tuple(unrecognised),
            champion=[training.record() for training in champion],
            tried=[candidate.training.candidate_record(candidate.remedy, treated.overrides) for candidate in tried],
            left_out=left_out,
            chosen=chosen,
            adopted=confirmation is not None and treatment.is_adopted(confirmation),
            confirmation=confirmation,
        )
        self.rounds.append(record)
        better = {each.override for each in tried if not unrecognised and treatment.is_better(each.training, treated)}
        self._tried |= {override for _, override in affordable} - (better - {chosen})  # what was better too comes again
        if verdict == STILL_LEARNING and treatment.longer_is_no_better(treated, trained):
            self._settled = True
        self._end_round(record, settings)

    def _changes(
        self, verdict: str, treated: DiagnosedTraining, settings: Mapping[str, Any], *, fits: bool
    ) -> tuple[list[tuple[str, str]], list[str]]:
        """Remedy and override of each change that the round tries.

        Returns:
            The changes, and the classes that they are for: those that are hardly ever recognised, where these come first or no
            other change is left.
        """
        changes = [] if fits else self._against_the_verdict(treated, settings)
        if changes and verdict not in (GOOD_FIT, INCONCLUSIVE):
            return changes, []
        unrecognised = self.trials.unrecognised(treated.overrides)
        weights = [each for each in treatment.FOR_RARE_CLASSES if each not in self._tried and self._composes(each)]
        if unrecognised and weights:
            print(f"{few(unrecognised)}: hardly ever recognised, so all classes are given the same weight")
            return [("all classes weigh the same", override) for override in weights], unrecognised
        if changes and verdict == GOOD_FIT:
            print("it fits, but simple methods reach as much: the network and the pixels are tried")
        return changes, [] if changes else unrecognised

    def _against_the_verdict(self, treated: DiagnosedTraining, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Remedy and override of each change against the verdict of the treated training."""
        changes = treatment.candidates(
            treated.diagnosis,
            settings,
            adopted=self._values_before,
            tried=self._tried,
            num_images=self.trials.num_images,
            source_side=self.trials.source_side,
        )
        return [(remedy, override) for remedy, override in changes if self._composes(override)]

    def _best_balanced(
        self, treated: DiagnosedTraining, trained: Sequence[DiagnosedTraining]
    ) -> DiagnosedTraining | None:
        """The candidate with the highest balanced accuracy, where it is above that of the treated training."""
        accuracies = [self.trials.balanced_accuracy(training.overrides) for training in (treated, *trained)]
        print(
            f"balanced accuracy on validation images: {', '.join(f'{each:.3f}' for each in accuracies)}, no change first"
        )
        best = int(np.argmax(accuracies))
        return trained[best - 1] if best else None

    def _fits(self) -> str:
        settled = f"; {LONGER_IS_NO_BETTER}" if self._settled else ""
        return f"it fits, on {self.trials.repetition.all_of(self._num_seeds)}{settled}"

    def _nothing_left(self, verdict: str, treated: DiagnosedTraining) -> str:
        settling = treated.diagnosis.settled_by
        settled_by = f"; it would be settled by {settling}" if settling else ""
        return f"nothing is left to try against {verdict.replace('_', ' ')}{settled_by}"

    def _affordable(self, treated: DiagnosedTraining, changes: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The changes whose trainings fit into the budget, with those that would confirm the last of them.

        What was trained before a kill counts as affordable, so that a resumed cure tries what it had chosen to try.

        Raises:
            BudgetSpent: None of them fits.
        """
        affordable: list[tuple[str, str]] = []
        trials: list[Overrides] = []
        for change in changes:
            trial = self.trials.parts([(*treatment.changed(self.overrides, change[1]), treated.overrides[-1])])
            confirming = self.trials.parts([each for side in self._sides(change[1]) for each in side])
            if all(map(self.trainings.is_over, trial)) or self.trials.budget.fits([*trials, *trial, *confirming]):
                affordable.append(change)
                trials += trial
        if not affordable:
            self.trials.budget.check([*trial, *confirming])
        return affordable

    def _try(self, treated: DiagnosedTraining, changes: Sequence[tuple[str, str]]) -> list[Candidate]:
        """Train the candidates, with the seed of the treated training; leave out those for which the images are too small."""
        seed = treated.overrides[-1]
        selected = [(*treatment.changed(self.overrides, override), seed) for _, override in changes]
        trainings = self.trials.diagnosed(selected, treated)
        return [
            Candidate(remedy, override, training)
            for (remedy, override), training in zip(changes, trainings, strict=True)
            if self.trials.fits_images(training.overrides)
        ]

    def _end_round(self, round_: RoundRecord, settings: Mapping[str, Any]) -> None:
        output.print_round(len(self.rounds), round_)
        self._track(round_)
        if round_.adopted and round_.chosen is not None:
            for key in (word.split("=", 1)[0] for word in words(round_.chosen)):
                self._values_before.setdefault(key, treatment.value_at(settings, key))
            self.overrides = treatment.changed(self.overrides, round_.chosen)
            self._settled = False
            self._tried = {tried for tried in self._tried if not treatment.is_of_epochs(tried)}  # may help it now
            self._seeds = self._fresh_seeds(len(self.rounds))[: self._num_seeds]
        elif len(self.rounds) >= FRUITLESS and not any(last.adopted for last in self.rounds[-FRUITLESS:]):
            self.reason = f"{FRUITLESS} rounds brought nothing that proved better"

    def _confirm(self, verdict: str, override: str, *, balanced: bool) -> ConfirmationRecord:
        """Compare champion and challenger on fresh seeds or folds, paired, by their accuracy on images to confirm on."""
        champion, challenger = sides = self._sides(override)
        self.trials.run([*champion, *challenger])
        before, after = (self.trials.confirmed(side, balanced=balanced) for side in sides)
        found = self.trials.repetition.compare(after, before)
        return ConfirmationRecord(
            before=verdict,
            measure=treatment.BALANCED if balanced else "accuracy",
            after=treatment.majority([training.verdict for training in self.trials.diagnosed(challenger)]),
            accuracy=found.accuracy,
            gap=found.gap,
            p=found.p,
        )

    def _sides(self, override: str) -> tuple[list[Overrides], list[Overrides]]:
        """The repetitions of champion and challenger that confirm a change in this round."""
        seeds = self._fresh_seeds(len(self.rounds) + 1)
        both = (self.overrides, treatment.changed(self.overrides, override))
        champion, challenger = ([(*overrides, f"seed={seed}") for seed in seeds] for overrides in both)
        return champion, challenger

    def _fresh_seeds(self, number: int) -> Sequence[int]:
        """The seeds that confirm round `number`; no other round uses them."""
        first = self.config.seed + FIRST_FRESH + 100 * (number - 1)
        return range(first, first + self.trials.repetition.number(self.settings.confirm_seeds))

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
