"""What a cure decides: which changes are worth a try, whether one is better, and whether it is to stay."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import sqrt
from typing import Any

from pipeline.diagnosis import DATA_VERDICTS, Diagnosis, prescribe, rules
from pipeline.metrics.paired import Difference

MOST_REMEDIES, MOST_STRENGTHS = 3, 3
"""That one round tries."""

NOT_INFERIOR = 0.01
"""Accuracy that an adopted change may cost, at the lower end of its interval."""

_BADNESS = {
    verdict: badness
    for badness, verdicts in enumerate((
        (rules.GOOD_FIT,),
        (rules.INCONCLUSIVE,),
        (rules.OVERFITTING, rules.UNDERFITTING, rules.STILL_LEARNING),
        (rules.UNSTABLE, rules.EVAL_MISMATCH),
        (rules.NOT_LEARNING, rules.DIVERGED),
        DATA_VERDICTS,
    ))
    for verdict in verdicts
}  # fmt: skip

Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Patient:
    """One training and what is wrong with it.

    Attributes:
        overrides: That make it from what the user asked for.
        diagnosis: Of its course.
        loss: Validation loss of the weights that count; infinite for one that diverged.
    """

    overrides: Overrides
    diagnosis: Diagnosis
    loss: float

    def measured(self, name: str) -> float:
        """A number of the evidence; not a number for a training that diverged."""
        found = self.diagnosis.evidence.get(name, float("nan"))
        return found if isinstance(found, float) else found.value


@dataclass(frozen=True)
class Confirmation:
    """Challenger beside champion, paired by seed; differences are challenger minus champion.

    Attributes:
        before: The champion's verdict.
        after: The challenger's, of most seeds.
        accuracy: On the confirm split.
        gap: Training accuracy less that accuracy.
        p: Of the sign-flip test on the accuracies.
    """

    before: str
    after: str
    accuracy: Difference
    gap: Difference
    p: float

    @property
    def adopted(self) -> bool:
        """Not inferior, and better in what was wrong: a good fit; or a gap that is surely smaller where it overfitted, an
        accuracy that is surely higher where anything else was wrong."""
        if self.accuracy.low <= -NOT_INFERIOR:
            return False
        if self.after == rules.GOOD_FIT:
            return True
        return self.gap.high < 0 if self.before == rules.OVERFITTING else self.accuracy.low > 0

    def reason(self) -> str:
        """Why it stays or goes, in one clause."""
        accuracy, gap = (f"{each.mean:+.3f} [{each.low:+.3f}, {each.high:+.3f}]" for each in (self.accuracy, self.gap))
        told = f"accuracy {accuracy}, gap {gap}, {self.before.replace('_', ' ')} → {self.after.replace('_', ' ')}"
        if self.adopted:
            return told
        if self.accuracy.low <= -NOT_INFERIOR:
            return f"{told}; it may cost more than {NOT_INFERIOR:.0%} of accuracy"
        lacking = "a smaller gap" if self.before == rules.OVERFITTING else "a higher accuracy"
        return f"{told}; {self.accuracy.n} seeds do not show {lacking}"


def majority(verdicts: Sequence[str]) -> str:
    """The verdict that more than half of them give; else `inconclusive`.

    >>> majority(["overfitting", "good_fit", "overfitting"]), majority(["overfitting", "good_fit"])
    ('overfitting', 'inconclusive')
    """
    verdict, count = Counter(verdicts).most_common(1)[0]
    return verdict if 2 * count > len(verdicts) else rules.INCONCLUSIVE


def illness(verdicts: Sequence[str]) -> str:
    """What to treat: the verdict of most seeds; where these fit, or do not agree, what most of the others have.

    >>> illness(["good_fit", "underfitting", "good_fit"]), illness(["good_fit", "good_fit"])
    ('underfitting', 'good_fit')
    """
    agreed = majority(verdicts)
    others = [verdict for verdict in verdicts if verdict not in (rules.GOOD_FIT, rules.INCONCLUSIVE)]
    if agreed in (rules.GOOD_FIT, rules.INCONCLUSIVE) and others:
        return Counter(others).most_common(1)[0][0]
    return agreed


def candidates(
    diagnosis: Diagnosis, settings: Mapping[str, Any], *, adopted: Mapping[str, Any], tried: Collection[str]
) -> list[tuple[str, str]]:
    """What a round tries: remedy and override, the most promising remedies first, some strengths of each.

    What was adopted is not undone: a strength at or beyond the old value becomes one half way between the old and the new.

    Args:
        diagnosis: Of the champion.
        settings: Its configuration.
        adopted: The value that each key had before a change of it was adopted.
        tried: Overrides that have been tried.
    """
    found = []
    for prescription in prescribe(diagnosis, settings, most=None):
        kept = (_kept(override, settings, adopted) for override in prescription.strengths)
        new = dict.fromkeys(override for override in kept if override is not None and override not in tried)
        if new:
            found.append([(prescription.remedy, override) for override in islice(new, MOST_STRENGTHS)])
    return [pair for remedy in found[:MOST_REMEDIES] for pair in remedy]


def improved(before: Patient, after: Patient) -> bool:
    """Whether a candidate is less ill than the champion with the same seed: another, milder verdict, or the same with a
    smaller gap where it overfits and a higher validation accuracy elsewhere."""
    first, second = before.diagnosis.verdict, after.diagnosis.verdict
    if _BADNESS[first] != _BADNESS[second]:
        return _BADNESS[second] < _BADNESS[first]
    if first == rules.OVERFITTING:
        return second == rules.OVERFITTING and after.measured("gap") < before.measured("gap")
    return after.measured("val_accuracy") > before.measured("val_accuracy")


def best(champion: Patient, tried: Sequence[Patient]) -> Patient | None:
    """The candidate with the lowest validation loss of those that are less ill; None where none is."""
    better = [patient for patient in tried if improved(champion, patient)]
    return min(better, key=lambda patient: patient.loss, default=None)


def changed(overrides: Overrides, override: str) -> Overrides:
    """The overrides with one more, which takes the place of those that it makes void.

    >>> changed(("augment=light", "augment.copies=8", "model.width=4"), "augment=strong")
    ('model.width=4', 'augment=strong')
    """
    key = override.split("=", 1)[0]
    kept = (each for each in overrides if not f"{each.split('=', 1)[0]}.".startswith(f"{key}."))
    return (*kept, override)


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; of a group its chosen option."""
    found: Any = settings
    for part in key.split("."):
        found = found[part]
    return found["name"] if isinstance(found, Mapping) and "name" in found else found


def _kept(override: str, settings: Mapping[str, Any], adopted: Mapping[str, Any]) -> str | None:
    """The override, unless it would undo what was adopted; half way to that in its place where there is such a value."""
    key, text = override.split("=", 1)
    if key not in adopted:
        return override
    old, now = adopted[key], value_at(settings, key)
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, now)):
        return None if text == str(old) else override
    if (float(text) - old) * (now - old) > 0:
        return override
    half = sqrt(old * now) if old > 0 and now > 0 else (old + now) / 2
    if isinstance(now, int):
        half = round(half)
    return None if half in (old, now) else f"{key}={half:g}"


@dataclass(frozen=True)
class Round:
    """One turn of the loop.

    Attributes:
        verdict: The champion's, of most seeds.
        champion: Its trainings, a seed each.
        tried: The candidates, all with the first of these seeds, and the remedy of each.
        chosen: The override that was confirmed or not; None where no candidate was better.
        confirmation: What its fresh seeds said; None where nothing was chosen.
    """

    verdict: str
    champion: Sequence[Patient]
    tried: Sequence[tuple[str, Patient]]
    chosen: str | None
    confirmation: Confirmation | None

    @property
    def adopted(self) -> bool:
        return self.confirmation is not None and self.confirmation.adopted

    def sentence(self) -> str:
        """What came of it."""
        what = self.verdict.replace("_", " ")
        if self.confirmation is None:
            return f"{what}; none of {len(self.tried)} changes is better"
        fate = "adopted" if self.adopted else "not adopted"
        return f"{what}; {self.chosen} {fate}: {self.confirmation.reason()}"
