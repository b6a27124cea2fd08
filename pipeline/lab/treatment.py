"""Decides which changes a cure tries, whether a candidate is better than the champion, and whether it is adopted."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import isfinite, nan, sqrt
from typing import Any

from pipeline.artefacts.rounds import CandidateRecord, ConfirmationRecord, Measure, RoundRecord, TrainingRecord
from pipeline.config.grammar import words
from pipeline.diagnosis import DATA_VERDICTS, Diagnosis, prescribe, rules
from pipeline.diagnosis.measurements import Estimate
from pipeline.lab.trainings import Overrides
from pipeline.metrics.paired import Difference

MOST_REMEDIES, MOST_STRENGTHS = 3, 3
"""Largest number of remedies in one round, and of strengths of each."""

NOT_INFERIOR = 0.01
"""Loss of accuracy below which a change is not inferior, at the lower bound of its interval."""

FOR_RARE_CLASSES = ("train.class_weights=balanced", "train.sampling=balanced")
"""Changes that a class which is hardly ever recognised is treated with."""

BALANCED: Measure = "balanced accuracy"
"""Measure by which they are judged: what a rare class gains, common ones may lose."""

WORTH_A_GAP = 0.02
"""Gain of accuracy that is worth any gap, where it is sure that there is one."""

_MILDEST_FIRST = (
    (rules.GOOD_FIT,), (rules.INCONCLUSIVE,), (rules.OVERFITTING, rules.UNDERFITTING, rules.STILL_LEARNING),
    (rules.UNSTABLE, rules.EVAL_MISMATCH), (rules.NOT_LEARNING, rules.DIVERGED), DATA_VERDICTS,
)  # fmt: skip
_SEVERITY = {verdict: severity for severity, verdicts in enumerate(_MILDEST_FIRST) for verdict in verdicts}


@dataclass(frozen=True)
class DiagnosedTraining:
    """One training with its diagnosis.

    Attributes:
        overrides: Overrides of the training, beside those of the user.
        diagnosis: Diagnosis of its course.
        loss: Validation loss of the weights that were kept; infinite where the training diverged.
    """

    overrides: Overrides
    diagnosis: Diagnosis
    loss: float

    @property
    def verdict(self) -> str:
        return self.diagnosis.verdict

    def measured(self, name: str) -> float:
        """A number of the evidence; not a number where the training diverged."""
        value = self.diagnosis.evidence.get(name, nan)
        return value if isinstance(value, float) else value.value

    def record(self) -> TrainingRecord:
        """The training in short."""
        names = ("train_accuracy", "val_accuracy", "gap")
        numbers = {name: self.measured(name) if name in self.diagnosis.evidence else None for name in names}
        return TrainingRecord(
            overrides=list(self.overrides),
            verdict=self.verdict,
            sentence=self.diagnosis.sentence,
            loss=self.loss if isfinite(self.loss) else None,
            **numbers,
        )

    def candidate_record(self, remedy: str, champion: Collection[str]) -> CandidateRecord:
        """The training in short, as one that tries a remedy; `champion` holds the champion's overrides, seed included."""
        override = " ".join(override for override in self.overrides if override not in champion)
        return CandidateRecord(**dict(self.record()), remedy=remedy, override=override)


def is_adopted(confirmation: ConfirmationRecord) -> bool:
    """Whether the challenger becomes the champion.

    It must not be inferior, and it must either be a good fit, or surely have a smaller gap where the champion overfitted, or
    surely have a higher accuracy; where the champion overfitted, one that is higher by `WORTH_A_GAP` or more. Where a class is
    hardly ever recognised, its balanced accuracy must surely be higher.
    """
    if confirmation.measure == BALANCED:
        return confirmation.accuracy.low > 0
    if _may_be_inferior(confirmation):
        return False
    if confirmation.after == rules.GOOD_FIT != confirmation.before:
        return True
    if confirmation.before == rules.OVERFITTING:
        return confirmation.gap.high < 0 or (
            confirmation.accuracy.low > 0 and confirmation.accuracy.mean >= WORTH_A_GAP
        )
    return confirmation.accuracy.low > 0


def reason(confirmation: ConfirmationRecord) -> str:
    """Why the challenger is adopted or not, as a clause."""
    before, after = (verdict.replace("_", " ") for verdict in (confirmation.before, confirmation.after))
    evidence = (
        f"{confirmation.measure} {written(confirmation.accuracy)}, gap {written(confirmation.gap)}, {before} → {after}"
    )
    if is_adopted(confirmation):
        return evidence
    if confirmation.measure == BALANCED:
        return f"{evidence}; {confirmation.accuracy.n} pairs of trainings do not show that the classes gain"
    if _may_be_inferior(confirmation):
        return f"{evidence}; it may cost more than {NOT_INFERIOR:.0%} of accuracy"
    lacking = (
        "a smaller gap, or much more accuracy" if confirmation.before == rules.OVERFITTING else "a higher accuracy"
    )
    return f"{evidence}; {confirmation.accuracy.n} pairs of trainings do not show {lacking}"


def outcome(round_: RoundRecord) -> str:
    """The outcome of a round in one sentence."""
    verdict = round_.verdict.replace("_", " ")
    if round_.confirmation is None:
        return f"{verdict}; none of {len(round_.tried)} changes is better"
    decision = "adopted" if round_.adopted else "not adopted"
    return f"{verdict}; {round_.chosen} {decision}: {reason(round_.confirmation)}"


def written(difference: Difference) -> str:
    """A difference with its interval, as text."""
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def _may_be_inferior(confirmation: ConfirmationRecord) -> bool:
    return confirmation.accuracy.low <= -NOT_INFERIOR


def majority(verdicts: Sequence[str]) -> str:
    """The verdict of more than half of the seeds; `inconclusive` where there is none.

    >>> majority(["overfitting", "good_fit", "overfitting"]), majority(["overfitting", "good_fit"])
    ('overfitting', 'inconclusive')
    """
    verdict, count = Counter(verdicts).most_common(1)[0]
    return verdict if 2 * count > len(verdicts) else rules.INCONCLUSIVE


def fits_poorly(training: DiagnosedTraining) -> bool:
    """Whether simple methods reach what the training reaches, so that a good fit is not good enough."""
    reference = training.diagnosis.evidence.get("reference")
    return isinstance(reference, Estimate) and training.measured("val_accuracy") <= reference.value


def as_underfitting(training: DiagnosedTraining) -> DiagnosedTraining:
    """A training that fits poorly, as one that needs what a network that underfits needs."""
    return replace(training, diagnosis=replace(training.diagnosis, verdict=rules.UNDERFITTING, causes=()))


def verdict_to_treat(verdicts: Sequence[str]) -> str:
    """The verdict of most seeds; where that is a good fit or inconclusive, the commonest verdict of the other seeds.

    >>> verdict_to_treat(["good_fit", "underfitting", "good_fit"]), verdict_to_treat(["good_fit", "good_fit"])
    ('underfitting', 'good_fit')
    """
    agreed = majority(verdicts)
    others = [verdict for verdict in verdicts if verdict not in (rules.GOOD_FIT, rules.INCONCLUSIVE)]
    if agreed in (rules.GOOD_FIT, rules.INCONCLUSIVE) and others:
        return Counter(others).most_common(1)[0][0]
    return agreed


def candidates(
    diagnosis: Diagnosis,
    settings: Mapping[str, Any],
    *,
    adopted: Mapping[str, Any],
    tried: Collection[str],
    num_images: int | None = None,
    source_side: float | None = None,
) -> list[tuple[str, str]]:
    """Remedy and override of each change that a round tries: the most promising remedies, in some strengths each.

    An adopted change is not undone: a strength at or beyond the old value is replaced by the midpoint of old and new.

    Args:
        diagnosis: Diagnosis of the champion.
        settings: Configuration of the champion.
        adopted: Value that each key had before a change of it was adopted.
        tried: Overrides that have been tried.
        num_images: Number of training images; None: unknown.
        source_side: Median of the longer sides of the source's images in pixels; None: unknown.
    """
    by_remedy = []
    for prescription in prescribe(diagnosis, settings, num_images=num_images, source_side=source_side, most=None):
        allowed = (_without_undoing(override, settings, adopted) for override in prescription.strengths)
        new = dict.fromkeys(override for override in allowed if override and override not in tried)
        if new:
            by_remedy.append([(prescription.remedy, override) for override in islice(new, MOST_STRENGTHS)])
    return [change for changes in by_remedy[:MOST_REMEDIES] for change in changes]


def is_better(candidate: DiagnosedTraining, champion: DiagnosedTraining) -> bool:
    """Whether a candidate is better than the champion with the same seed.

    It is with a surely higher validation accuracy, or one higher by `WORTH_A_GAP` with a lower validation loss, whatever the
    verdicts; else with a milder verdict, or with the same verdict and a smaller gap (for overfitting) or a higher
    validation accuracy (for any other).
    """
    old, new = champion.verdict, candidate.verdict
    before, after = (each.diagnosis.evidence.get("val_accuracy") for each in (champion, candidate))
    if isinstance(before, Estimate) and isinstance(after, Estimate):
        is_likely = after.value - before.value >= WORTH_A_GAP and candidate.loss < champion.loss
        if is_likely or after.low > before.high:
            return True
    if _SEVERITY[old] != _SEVERITY[new]:
        return _SEVERITY[new] < _SEVERITY[old]
    if old == rules.OVERFITTING:
        return new == rules.OVERFITTING and candidate.measured("gap") < champion.measured("gap")
    return candidate.measured("val_accuracy") > champion.measured("val_accuracy")


def best(champion: DiagnosedTraining, tried: Sequence[DiagnosedTraining]) -> DiagnosedTraining | None:
    """The candidate with the lowest validation loss among those better than the champion; None where there is none."""
    better = [candidate for candidate in tried if is_better(candidate, champion)]
    return min(better, key=lambda candidate: candidate.loss, default=None)


def is_of_epochs(override: str) -> bool:
    """Whether an override sets the number of epochs."""
    return override.startswith("train.max_epochs=")


def longer_is_no_better(champion: DiagnosedTraining, tried: Sequence[DiagnosedTraining]) -> bool:
    """Whether some candidates were trained for more epochs, and none of these is better than the champion."""
    longer = [each for each in tried if any(map(is_of_epochs, set(each.overrides) - set(champion.overrides)))]
    return bool(longer) and not any(is_better(candidate, champion) for candidate in longer)


def changed(overrides: Overrides, override: str) -> Overrides:
    """Add the overrides of a change, and drop those of the same keys or of keys below them.

    >>> changed(("augment=light", "augment.copies=8", "model.width=4"), "augment=strong")
    ('model.width=4', 'augment=strong')
    """
    for word in words(override):
        key = word.split("=", 1)[0]
        overrides = (*(other for other in overrides if not f"{other.split('=', 1)[0]}.".startswith(f"{key}.")), word)
    return overrides


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; for a group, the name of the chosen option."""
    value: Any = settings
    for part in key.split("."):
        value = value[part]
    return value["name"] if isinstance(value, Mapping) and "name" in value else value


def _without_undoing(override: str, settings: Mapping[str, Any], adopted: Mapping[str, Any]) -> str:
    """The overrides of a change without those that would undo an adopted one; empty where none is left."""
    allowed = (_allowed(word, settings, adopted) for word in words(override))
    return " ".join(word for word in allowed if word is not None)


def _allowed(override: str, settings: Mapping[str, Any], adopted: Mapping[str, Any]) -> str | None:
    """The override, or the midpoint of old and new value where it would undo an adopted change; None without a midpoint."""
    key, text = override.split("=", 1)
    if key not in adopted:
        return override
    old, now = adopted[key], value_at(settings, key)
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, now)):
        return None if text == str(old) else override
    if (float(text) - old) * (now - old) > 0:
        return override
    midpoint = sqrt(old * now) if old > 0 and now > 0 else (old + now) / 2
    if isinstance(now, int):
        midpoint = round(midpoint)
    return None if midpoint in (old, now) else f"{key}={midpoint:g}"
