"""Diagnoses a course: verdict, confidence, evidence, causes and flags."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.diagnosis import rules
from pipeline.diagnosis.course import Course
from pipeline.diagnosis.measurements import Estimate, Measurements
from pipeline.diagnosis.thresholds import Thresholds

VERDICTS = (
    rules.DIVERGED, rules.LEAK_SUSPECTED, rules.EVAL_MISMATCH, rules.NOT_LEARNING, rules.NO_SIGNAL, rules.UNSTABLE,
    rules.SPLIT_MISMATCH, rules.STILL_LEARNING, rules.UNDERFITTING, rules.OVERFITTING, rules.GOOD_FIT, rules.INCONCLUSIVE,
)  # fmt: skip

DATA_VERDICTS = (rules.LEAK_SUSPECTED, rules.NO_SIGNAL, rules.SPLIT_MISMATCH)
"""Verdicts on the data, which no change of the training cures."""

OVERCONFIDENT = "overconfident"

CLOSE = 0.25
"""Confidence below which a verdict is a close call."""


@dataclass(frozen=True)
class Finding:
    """A sign of overfitting, the gap or the rise, with its size; told whatever the verdict.

    Attributes:
        name: `gap` or `rise`.
        present: Whether there is one.
        estimate: Its size: of accuracy for a gap, of loss in nats for a rise.
        text: The finding as a clause.
    """

    name: str
    present: bool
    estimate: Estimate
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a training.

    Attributes:
        verdict: One of `VERDICTS`.
        rule: Name of the rule that gave the verdict; empty if none applied.
        confidence: Distance to the nearest threshold that would change the verdict, in [0, 1]: the smallest absolute margin
            of the rules that were tried.
        close_call: Smallest change of a number that gives another verdict, as a clause; empty from the confidence `CLOSE` on.
        sentence: Verdict and main evidence in one line.
        evidence: Measured numbers by name.
        findings: Gap and rise; none of a training that diverged.
        causes: Names of likely causes, the most telling first.
        flags: Names of findings beside the verdict, such as `overconfident`.
        not_judged: Names of the rules that lack a signal or enough epochs.
        settled_by: Measurement that would settle an `inconclusive` verdict; otherwise empty.
        epoch: Kept epoch, counted from 1; None: the end of the training.
    """

    verdict: str
    rule: str
    confidence: float
    close_call: str
    sentence: str
    evidence: dict[str, Estimate | float]
    findings: tuple[Finding, ...]
    causes: tuple[str, ...]
    flags: tuple[str, ...]
    not_judged: tuple[str, ...]
    settled_by: str
    epoch: int | None


def diagnose(course: Course, thresholds: Thresholds | None = None) -> Diagnosis:
    """Diagnose a course: the first rule that applies gives the verdict; if none applies, it is `inconclusive`.

    Args:
        course: Course of the training.
        thresholds: Thresholds of the rules; None: the defaults.

    >>> import numpy as np
    >>> falling = 0.2 + 2 * 0.5 ** np.arange(30)
    >>> course = Course(falling, 1 - falling / 4, falling + 0.01, 0.99 - falling / 4, 5000, 5000, 10)
    >>> diagnose(course).sentence
    'good fit: training 0.950, validation 0.940, gap 0.010 [0.001, 0.019]'
    """
    measured = Measurements(course, thresholds or Thresholds())
    margins: list[tuple[rules.VerdictRule, rules.Margin]] = []
    not_judged: list[str] = []
    verdict, name = rules.INCONCLUSIVE, ""
    for rule in rules.in_order(measured):
        margin = rule.margin(measured)
        if margin is None:
            not_judged.append(rule.name)
            continue
        margins.append((rule, margin))
        if margin.value > 0:
            verdict, name = rule.verdict, rule.name
            break
    nearest, margin = min(reversed(margins), key=lambda pair: abs(pair[1].value))
    return Diagnosis(
        verdict=verdict, rule=name, confidence=abs(margin.value), close_call=_close_call(nearest, margin, name),
        sentence=_sentence(verdict, name, measured), evidence={} if measured.diverged else _evidence(measured),
        findings=() if measured.diverged else (_gap_found(measured), _rise_found(measured)),
        causes=_causes(verdict, name, measured), flags=_flags(measured), not_judged=tuple(not_judged),
        settled_by=_settled_by(measured) if verdict == rules.INCONCLUSIVE else "", epoch=course.kept_epoch,
    )  # fmt: skip


def _close_call(rule: rules.VerdictRule, margin: rules.Margin, applied: str) -> str:
    if abs(margin.value) >= CLOSE or not margin.what:
        return ""
    would = "would no longer be" if rule.name == applied else "would be"
    side = "larger" if margin.change > 0 else "smaller"
    return f"with {margin.what} {side} by {abs(margin.change):.3f} it {would} {rule.verdict.replace('_', ' ')}"


def _sentence(verdict: str, rule: str, measured: Measurements) -> str:
    """The verdict, the accuracies, and the number that decided."""
    title = verdict.replace("_", " ")
    if verdict == rules.DIVERGED:
        return f"{title}: a loss is not finite"
    accuracies = f"training {measured.train.value:.3f}, validation {measured.val.value:.3f}"
    detail = f"gap {measured.gap}"
    if verdict == rules.LEAK_SUSPECTED:
        detail = f"{measured.course.duplicates:.1%} of the validation images are also training images"
    elif verdict == rules.EVAL_MISMATCH:
        detail = f"on training images, training mode beats evaluation mode by {measured.mode_gap}"
    elif verdict in (rules.NOT_LEARNING, rules.NO_SIGNAL):
        detail = f"guessing the commonest class gives {measured.course.base:.3f}"
    elif rule == "unstable from the start":
        detail = f"it does not hold what it learns; guessing the commonest class gives {measured.course.base:.3f}"
    elif verdict == rules.UNSTABLE:
        share, num_down = measured.jumps
        detail = f"training accuracy jumps in {share:.0%} of the last steps, {num_down} times down"
    elif verdict == rules.SPLIT_MISMATCH:
        detail = f"validation is ahead by {measured.lead}"
    elif verdict == rules.STILL_LEARNING:
        ahead = measured.accuracy_ahead
        stretched = ", with the schedule stretched," if measured.anneals else ""
        detail = (
            "both losses fell until the last epoch"
            if ahead is None
            else f"both losses would go on falling; twice the epochs{stretched} would bring about {ahead.value:+.3f} "
            f"[{ahead.low:+.3f}, {ahead.high:+.3f}] of validation accuracy"
        )
    elif verdict == rules.UNDERFITTING:
        detail = f"on these data {measured.reference} can be reached"
    elif rule == "overtrained":
        detail = (
            f"validation loss rose by {measured.rise_kept:.3f} from its least, "
            f"accuracy fell by {measured.accuracy_lost:.3f}"
        )
    return f"{title}: {accuracies}, {detail}"


def _evidence(measured: Measurements) -> dict[str, Estimate | float]:
    evidence: dict[str, Estimate | float | None] = {
        "train_accuracy": measured.train, "val_accuracy": measured.val, "gap": measured.gap,
        "majority": measured.course.base, "learning_accuracy": measured.learning_end, "mode_gap": measured.mode_gap,
        "reference": measured.reference, "duplicates": measured.course.duplicates, "val_loss_rise": measured.rise,
        "val_loss_rise_of_noise": measured.smallest_rise, "val_accuracy_lost": measured.accuracy_lost,
        "train_falling": measured.train_falling, "val_falling": measured.val_falling, "train_ahead": measured.train_ahead,
        "val_ahead": measured.val_ahead, "accuracy_ahead": measured.accuracy_ahead, "jumps": measured.jumps[0],
    }  # fmt: skip
    return {name: value for name, value in evidence.items() if value is not None}


def _gap_found(measured: Measurements) -> Finding:
    present = rules.has_gap(measured)
    text = f"training is ahead of validation by {measured.gap}, {'too far' if present else 'not too far'}"
    if not measured.course.clean:
        text += "; measured while learning, where dropout and augmentation hide a part of it"
    return Finding("gap", present, measured.gap, text)


def _rise_found(measured: Measurements) -> Finding:
    present, rise = measured.rise > measured.smallest_rise, measured.rise_estimate
    least = int(np.argmin(measured.val_smooth)) + 1
    how = "more" if present else "no more"
    text = f"validation loss ends {rise} above its least, at epoch {least}, {how} than noise explains"
    if not measured.course.clean:
        text += "; this needs no clean probe"
    return Finding("rise", present, rise, text)


def _causes(verdict: str, rule: str, measured: Measurements) -> tuple[str, ...]:
    course = measured.course
    if verdict == rules.OVERFITTING:
        return (rule,)
    if verdict == rules.UNDERFITTING:
        return ("regularised",) if _held_back(measured) else ("capacity",)
    if verdict != rules.NOT_LEARNING and rule != "unstable from the start":
        return ()
    t = measured.thresholds
    signs = {
        "dead_relu": course.dead_relu is not None and course.dead_relu[-1] > t.dead,
        "no_updates": course.update_ratio is not None and course.update_ratio.max() < t.frozen,
        "initialisation": course.initial_loss is not None
        and abs(course.initial_loss - course.guessing_loss) > t.off_at_start * course.guessing_loss,
        "one_batch": course.learns_one_batch is False,
        "penalty": course.penalty_share is not None and course.penalty_share[-1] > t.dead,
    }
    return tuple(name for name, present in signs.items() if present)


def _held_back(measured: Measurements) -> bool:
    """Whether regularisation causes underfitting: penalties are large, or training mode is worse than evaluation mode."""
    penalty, t = measured.course.penalty_share, measured.thresholds
    penalised = penalty is not None and penalty[-1] > t.penalised
    return penalised or (measured.mode_gap is not None and measured.mode_gap.high < -t.held_back)


def _flags(measured: Measurements) -> tuple[str, ...]:
    flags = []
    if rules.overconfident(measured):
        flags.append(OVERCONFIDENT)
    if not measured.course.clean:
        flags.append("no_clean_probe")
    return tuple(flags)


def _settled_by(measured: Measurements) -> str:
    course, t = measured.course, measured.thresholds
    if course.num_epochs < t.min_epochs:
        return f"{t.min_epochs} epochs or more, instead of {course.num_epochs}"
    gap = measured.gap
    if gap.high > t.good_gap > gap.value:
        return _images_needed(course, max(gap.high - gap.value, 0) / (t.good_gap - gap.value))
    if gap.value > t.gap:
        return _images_needed(course, (gap.value - gap.low) / gap.value)
    if measured.val_falling > t.falling and not course.settled:
        return f"twice as many epochs, {2 * course.num_epochs}"
    return "another seed, or more validation images"


def _images_needed(course: Course, excess: float) -> str:
    """The number of images that narrows the gap's interval by the factor `excess`, and how the images at hand may do."""
    images = _rounded(course.num_val * excess**2)
    return (
        "a cross-validation, which counts all images (prepare.folds=5, then `python -m pipeline.diagnose --folds`), or by "
        f"about {images:,} validation images instead of {course.num_val:,}, and as many of training measured"
    )


def _rounded(images: float) -> int:
    """Round up to two significant digits.

    >>> _rounded(1234.0), _rounded(87.2)
    (1300, 88)
    """
    step = 10 ** max(0, math.floor(math.log10(max(images, 1))) - 1)
    return math.ceil(images / step) * step
