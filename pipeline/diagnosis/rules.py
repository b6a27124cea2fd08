"""The rules of a diagnosis, in the order in which they are tried.

A rule says by how much it fires: its margin, in [−1, 1]. Where a bound of an interval is compared with a threshold, that is
their distance in half-widths of the interval; elsewhere their distance as a share of the threshold. A margin above 0 fires.
Of several conditions that must all hold the least margin counts, of alternatives the largest (the robustness of a formula:
Fainekos and Pappas 2009, https://doi.org/10.1016/j.tcs.2009.06.021).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.diagnosis.case import Case
from pipeline.diagnosis.estimates import Estimate, share

DIVERGED, LEAK_SUSPECTED, EVAL_MISMATCH = "diverged", "leak_suspected", "eval_mismatch"
NOT_LEARNING, NO_SIGNAL, UNSTABLE = "not_learning", "no_signal", "unstable"
SPLIT_MISMATCH, STILL_LEARNING, UNDERFITTING = "split_mismatch", "still_learning", "underfitting"
OVERFITTING, GOOD_FIT, INCONCLUSIVE = "overfitting", "good_fit", "inconclusive"

SMALLEST_HALF = 0.005
"""Of an interval in a margin, so that exact numbers have a scale too."""


@dataclass(frozen=True)
class Rule:
    """One verdict and when it is given.

    Attributes:
        name: Of the rule; a verdict may have several.
        verdict: Which it gives.
        margin: By how much it fires; None where a signal that it needs was not measured.
    """

    name: str
    verdict: str
    margin: Callable[[Case], float | None]


def _diverged(case: Case) -> float:
    return 1.0 if case.diverged else -1.0


def _leak_suspected(case: Case) -> float | None:
    found = case.course.duplicates
    return None if found is None else _more(found, case.thresholds.duplicates)


def _eval_mismatch(case: Case) -> float | None:
    return None if case.mode_gap is None else _surely_more(case.mode_gap, case.thresholds.mismatch)


def _stuck(case: Case) -> float:
    """Neither mode tells training accuracy from the majority class."""
    skilled = case.course.base + case.thresholds.skill
    modes = [mode for mode in (case.train_end, case.learning_end) if mode is not None]
    return min(-_surely_more(mode, skilled) for mode in modes)


def _shaken(case: Case) -> bool:
    """Signs that steps were too large, rather than too small: it was thrown off, or knew more once."""
    course, t = case.course, case.thresholds
    first = course.train_loss[0] if course.learning_loss is None else max(course.train_loss[0], course.learning_loss[0])
    thrown = first > t.thrown * course.guessing_loss
    wild = course.update_ratio is not None and bool((course.update_ratio > 1).any())
    best = share(float(course.train_accuracy.max()), course.num_train)
    return bool(thrown) or wild or best.low > course.base + t.once_learned


def _unstable_from_the_start(case: Case) -> float:
    return _stuck(case) if _shaken(case) else -1.0


def _not_learning(case: Case) -> float:
    return -1.0 if _shaken(case) else _stuck(case)


def _no_signal(case: Case) -> float:
    t, base = case.thresholds, case.course.base
    learned = _more(case.train_end.value - base, t.no_signal_train)
    return min(learned, _surely_less(case.val_end, base + t.no_signal_val))


def _unstable(case: Case) -> float | None:
    if case.course.num_epochs < case.thresholds.min_epochs:
        return None
    often, down = case.jumps
    return min(_more(often, case.thresholds.jumps), _more(down, 1.5))


def _split_mismatch(case: Case) -> float:
    return _surely_more(case.lead, case.thresholds.ahead)


def _still_learning(case: Case) -> float:
    t, course = case.thresholds, case.course
    if course.num_epochs < t.min_epochs:
        return min(_still_falling(course.train_loss, t.last_step), _still_falling(course.val_loss, t.last_step))
    lowest_late = int(np.argmin(case.val_smooth)) >= 0.75 * course.num_epochs - 1
    return min(
        _more(case.train_falling, t.falling),
        _more(case.val_falling, t.falling),
        1.0 if lowest_late else -1.0,
        _more(float(case.val_smooth[-1]), t.hopeless_loss * course.guessing_loss),
        _more(float(case.train_smooth[-1]), t.learned_loss * course.guessing_loss),
    )


def _still_falling(loss: np.ndarray, least: float) -> float:
    """For a few epochs: it fell in each of the last three steps, or of as many as there are, and the last one was worth it."""
    steps = np.diff(loss)
    if not len(steps) or not (steps[-3:] < 0).all():
        return -1.0
    return _more(float(-steps[-1] / (loss[0] - loss[-1])), least)


def _underfitting(case: Case) -> float | None:
    if case.reference is None:
        return None
    half = max(case.train.half, case.reference.half, SMALLEST_HALF)
    return _clipped((case.reference.low - case.train.high) / half)


def _gap(case: Case) -> float:
    t = case.thresholds
    absolute = min(_more(case.gap.value, t.gap), _surely_more(case.gap, t.sure_gap))
    skill = max(case.train.value - case.course.base, 1e-9)
    relative = _surely_more(case.gap, t.relative_gap * skill)
    return max(absolute, relative)


def _overtrained(case: Case) -> float | None:
    if case.course.num_epochs < case.thresholds.min_epochs:
        return None
    return min(_more(case.rise_kept, case.least_rise), _more(case.accuracy_lost, case.thresholds.loss_of_accuracy))


def _good_fit(case: Case) -> float | None:
    t = case.thresholds
    if case.course.num_epochs < t.min_epochs:
        return None
    close = _surely_less(case.gap, t.good_gap)
    skilled = _surely_more(case.val, case.course.base + t.skill)
    settled = -_more(case.val_falling, t.falling)
    finished = -_more(float(case.val_smooth[-1]), t.hopeless_loss * case.course.guessing_loss)
    return min(close, skilled, max(settled, finished))


def overconfident(case: Case) -> bool:
    """The validation loss rose while its accuracy held: the network became too sure of its mistakes."""
    if case.diverged or case.course.num_epochs < case.thresholds.min_epochs:
        return False
    return case.rise > case.least_rise and case.accuracy_lost <= case.thresholds.loss_of_accuracy


_FIRST = (
    Rule("diverged", DIVERGED, _diverged),
    Rule("leak_suspected", LEAK_SUSPECTED, _leak_suspected),
    Rule("eval_mismatch", EVAL_MISMATCH, _eval_mismatch),
    Rule("unstable from the start", UNSTABLE, _unstable_from_the_start),
    Rule("not_learning", NOT_LEARNING, _not_learning),
    Rule("no_signal", NO_SIGNAL, _no_signal),
    Rule("unstable", UNSTABLE, _unstable),
    Rule("split_mismatch", SPLIT_MISMATCH, _split_mismatch),
)
_STILL_LEARNING = Rule("still_learning", STILL_LEARNING, _still_learning)
_UNDERFITTING = Rule("underfitting", UNDERFITTING, _underfitting)
_OVERFITTING = (Rule("gap", OVERFITTING, _gap), Rule("overtrained", OVERFITTING, _overtrained))
_GOOD_FIT = Rule("good_fit", GOOD_FIT, _good_fit)


def in_order(case: Case) -> tuple[Rule, ...]:
    """The rules, first to last. A curve that still falls is called so before it is called overfitting where it underfits
    too, or where its gap is small: more epochs may close it or open it."""
    if case.diverged:
        return _FIRST[:1]
    underfits = (_underfitting(case) or -1.0) > 0
    if underfits or case.gap.value < case.thresholds.small_gap:
        return (*_FIRST, _STILL_LEARNING, _UNDERFITTING, *_OVERFITTING, _GOOD_FIT)
    return (*_FIRST, *_OVERFITTING, _STILL_LEARNING, _UNDERFITTING, _GOOD_FIT)


def _surely_more(estimate: Estimate, threshold: float) -> float:
    return _clipped((estimate.low - threshold) / max(estimate.half, SMALLEST_HALF))


def _surely_less(estimate: Estimate, threshold: float) -> float:
    return _clipped((threshold - estimate.high) / max(estimate.half, SMALLEST_HALF))


def _more(value: float, threshold: float) -> float:
    return _clipped((value - threshold) / threshold)


def _clipped(margin: float) -> float:
    return float(np.clip(margin, -1.0, 1.0))
