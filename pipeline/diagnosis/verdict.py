"""A verdict on the course of a training: what it is, how sure that is, and the numbers that it rests on."""

import math
from dataclasses import dataclass

from pipeline.diagnosis import rules
from pipeline.diagnosis.case import Case
from pipeline.diagnosis.course import Course
from pipeline.diagnosis.estimates import Estimate
from pipeline.diagnosis.thresholds import Thresholds

VERDICTS = (
    rules.DIVERGED, rules.LEAK_SUSPECTED, rules.EVAL_MISMATCH, rules.NOT_LEARNING, rules.NO_SIGNAL, rules.UNSTABLE,
    rules.SPLIT_MISMATCH, rules.STILL_LEARNING, rules.UNDERFITTING, rules.OVERFITTING, rules.GOOD_FIT, rules.INCONCLUSIVE,
)  # fmt: skip

OF_THE_DATA = (rules.LEAK_SUSPECTED, rules.NO_SIGNAL, rules.SPLIT_MISMATCH)
"""Verdicts that no change of the training cures."""

OVERCONFIDENT = "overconfident"


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        verdict: One of `VERDICTS`.
        rule: Which rule gave it; empty where none did.
        confidence: Distance from the nearest threshold that would change the verdict, in [0, 1]: for a threshold on an
            interval's bound in half-widths of that interval, elsewhere as a share of the threshold.
        nearest: The rule whose threshold that is.
        sentence: Verdict and evidence in one line.
        evidence: What was measured, by name.
        causes: What may lie behind it, most telling first.
        flags: What is true beside the verdict, such as `overconfident`.
        not_judged: Rules whose signal was not measured, or that too few epochs can tell nothing of.
        settled_by: For `inconclusive`, the measurement that would settle it; otherwise empty.
        epoch: Whose weights it speaks of, counted from 1; None: the end of the training.
    """

    verdict: str
    rule: str
    confidence: float
    nearest: str
    sentence: str
    evidence: dict[str, Estimate | float]
    causes: tuple[str, ...]
    flags: tuple[str, ...]
    not_judged: tuple[str, ...]
    settled_by: str
    epoch: int | None


def diagnose(course: Course, thresholds: Thresholds | None = None) -> Diagnosis:
    """The first rule that fires gives the verdict; where none does, the course is inconclusive.

    Args:
        course: Of the training.
        thresholds: Where the rules draw their lines; None: the default ones.

    >>> import numpy as np
    >>> falling = 0.2 + 2 * 0.5 ** np.arange(30)
    >>> course = Course(falling, 1 - falling / 4, falling + 0.01, 0.99 - falling / 4, 5000, 5000, 10)
    >>> diagnose(course).sentence
    'good fit: training 0.950, validation 0.940, gap 0.010 [0.001, 0.019]'
    """
    case = Case(course, thresholds or Thresholds())
    margins: list[tuple[rules.Rule, float]] = []
    not_judged: list[str] = []
    fired: rules.Rule | None = None
    for rule in rules.in_order(case):
        margin = rule.margin(case)
        if margin is None:
            not_judged.append(rule.name)
            continue
        margins.append((rule, margin))
        if margin > 0:
            fired = rule
            break
    verdict = fired.verdict if fired is not None else rules.INCONCLUSIVE
    nearest = min(reversed(margins), key=lambda pair: abs(pair[1]))
    return Diagnosis(
        verdict=verdict,
        rule=fired.name if fired is not None else "",
        confidence=abs(nearest[1]),
        nearest=nearest[0].name,
        sentence=_sentence(verdict, fired.name if fired is not None else "", case),
        evidence={} if case.diverged else _evidence(case),
        causes=_causes(verdict, fired.name if fired is not None else "", case),
        flags=_flags(case),
        not_judged=tuple(not_judged),
        settled_by=_settled_by(case) if verdict == rules.INCONCLUSIVE else "",
        epoch=course.kept_epoch,
    )


def _sentence(verdict: str, rule: str, case: Case) -> str:
    name = verdict.replace("_", " ")
    if verdict == rules.DIVERGED:
        return f"{name}: a loss is not finite"
    accuracies = f"training {case.train.value:.3f}, validation {case.val.value:.3f}"
    detail = f"gap {case.gap}"
    if verdict == rules.LEAK_SUSPECTED:
        detail = f"{case.course.duplicates:.1%} of the validation images are also training images"
    elif verdict == rules.EVAL_MISMATCH:
        detail = f"on training images, training mode beats evaluation mode by {case.mode_gap}"
    elif verdict in (rules.NOT_LEARNING, rules.NO_SIGNAL):
        detail = f"guessing the commonest class gives {case.course.base:.3f}"
    elif rule == "unstable from the start":
        detail = f"it does not hold what it learns; guessing the commonest class gives {case.course.base:.3f}"
    elif verdict == rules.UNSTABLE:
        often, down = case.jumps
        detail = f"training accuracy jumps in {often:.0%} of the last steps, {down} times down"
    elif verdict == rules.SPLIT_MISMATCH:
        detail = f"validation is ahead by {case.lead}"
    elif verdict == rules.STILL_LEARNING:
        detail = (
            "both losses fell until the last epoch"
            if case.course.num_epochs < case.thresholds.min_epochs
            else f"the last quarter of the epochs lowered the training loss by {case.train_falling:.0%} and that of "
            f"validation by {case.val_falling:.0%}"
        )
    elif verdict == rules.UNDERFITTING:
        detail = f"on these data {case.reference} can be reached"
    elif rule == "overtrained":
        detail = (
            f"validation loss rose by {case.rise_kept:.3f} from its least, accuracy fell by {case.accuracy_lost:.3f}"
        )
    return f"{name}: {accuracies}, {detail}"


def _evidence(case: Case) -> dict[str, Estimate | float]:
    found: dict[str, Estimate | float | None] = {
        "train_accuracy": case.train,
        "val_accuracy": case.val,
        "gap": case.gap,
        "majority": case.course.base,
        "learning_accuracy": case.learning_end,
        "mode_gap": case.mode_gap,
        "reference": case.reference,
        "duplicates": case.course.duplicates,
        "val_loss_rise": case.rise,
        "val_loss_rise_of_noise": case.least_rise,
        "val_accuracy_lost": case.accuracy_lost,
        "train_falling": case.train_falling,
        "val_falling": case.val_falling,
        "jumps": case.jumps[0],
    }
    return {name: value for name, value in found.items() if value is not None}


def _causes(verdict: str, rule: str, case: Case) -> tuple[str, ...]:
    course = case.course
    if verdict == rules.OVERFITTING:
        return (rule,)
    if verdict == rules.UNDERFITTING:
        return ("regularised",) if _held_back(case) else ("capacity",)
    if verdict != rules.NOT_LEARNING and rule != "unstable from the start":
        return ()
    t = case.thresholds
    signs = {
        "dead_relu": course.dead_relu is not None and course.dead_relu[-1] > t.dead,
        "no_updates": course.update_ratio is not None and course.update_ratio.max() < t.frozen,
        "initialisation": course.initial_loss is not None
        and abs(course.initial_loss - course.guessing_loss) > t.off_at_start * course.guessing_loss,
        "one_batch": course.learns_one_batch is False,
        "penalty": course.penalty_share is not None and course.penalty_share[-1] > t.dead,
    }
    return tuple(name for name, seen in signs.items() if seen)


def _held_back(case: Case) -> bool:
    """Whether something that only acts while training makes it hard: it learns worse than it can."""
    penalty, t = case.course.penalty_share, case.thresholds
    penalised = penalty is not None and penalty[-1] > t.penalised
    return penalised or (case.mode_gap is not None and case.mode_gap.high < -t.held_back)


def _flags(case: Case) -> tuple[str, ...]:
    flags = []
    if rules.overconfident(case):
        flags.append(OVERCONFIDENT)
    if not case.course.clean:
        flags.append("no_clean_probe")
    return tuple(flags)


def _settled_by(case: Case) -> str:
    course, t = case.course, case.thresholds
    if course.num_epochs < t.min_epochs:
        return f"{t.min_epochs} epochs or more, instead of {course.num_epochs}"
    room = t.good_gap - case.gap.value
    if case.gap.high > t.good_gap and room > 0:
        images = course.num_val * (max(case.gap.high - case.gap.value, 0) / room) ** 2
        return f"about {_rounded(images):,} validation images, and as many of training measured, instead of {course.num_val:,}"
    if case.gap.value > t.gap:
        room = case.gap.value - t.sure_gap
        images = course.num_val * ((case.gap.value - case.gap.low) / room) ** 2
        return f"about {_rounded(images):,} validation images, and as many of training measured, instead of {course.num_val:,}"
    if case.val_falling > t.falling:
        return f"twice as many epochs, {2 * course.num_epochs}"
    return "another seed, or more validation images"


def _rounded(images: float) -> int:
    """Up, to two significant digits.

    >>> _rounded(1234.0), _rounded(87.2)
    (1300, 88)
    """
    step = 10 ** max(0, math.floor(math.log10(max(images, 1))) - 1)
    return math.ceil(images / step) * step
