"""Defines the rules that give the verdicts, and the order in which they are tried.

Each rule computes a margin in [−1, 1], and applies if it is above 0. For the bound of an interval, the margin is its distance
from the threshold in half-widths of the interval; for other numbers, the distance as a share of the threshold. A conjunction
has the smallest margin of its conditions, a disjunction the largest (the robustness of a formula: Fainekos and Pappas 2009,
https://doi.org/10.1016/j.tcs.2009.06.021).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.diagnosis.measurements import Estimate, Measurements

DIVERGED, LEAK_SUSPECTED, EVAL_MISMATCH = "diverged", "leak_suspected", "eval_mismatch"
NOT_LEARNING, NO_SIGNAL, UNSTABLE = "not_learning", "no_signal", "unstable"
SPLIT_MISMATCH, STILL_LEARNING, UNDERFITTING = "split_mismatch", "still_learning", "underfitting"
OVERFITTING, GOOD_FIT, INCONCLUSIVE = "overfitting", "good_fit", "inconclusive"

SMALLEST_HALF = 0.005
"""Smallest half-width of an interval in a margin, so that exact numbers have a scale too."""


@dataclass(frozen=True)
class VerdictRule:
    """A rule: a condition, and the verdict that it gives.

    Attributes:
        name: Name of the rule; a verdict may have several rules.
        verdict: Verdict that it gives.
        margin: Computes its margin; None if a signal that it needs was not measured, or the epochs are too few.
    """

    name: str
    verdict: str
    margin: Callable[[Measurements], float | None]


def _diverged(measured: Measurements) -> float:
    return 1.0 if measured.diverged else -1.0


def _leak_suspected(measured: Measurements) -> float | None:
    """Validation images are among the training images."""
    duplicates = measured.course.duplicates
    return None if duplicates is None else _above(duplicates, measured.thresholds.duplicates)


def _eval_mismatch(measured: Measurements) -> float | None:
    """On training images, training mode surely beats evaluation mode."""
    return None if measured.mode_gap is None else _surely_above(measured.mode_gap, measured.thresholds.mismatch)


def _stuck(measured: Measurements) -> float:
    """Training accuracy is surely at the level of the majority class, in both modes."""
    learned = measured.course.base + measured.thresholds.skill
    accuracies = [accuracy for accuracy in (measured.train_end, measured.learning_end) if accuracy is not None]
    return min(-_surely_above(accuracy, learned) for accuracy in accuracies)


def _thrown_off(measured: Measurements) -> bool:
    """Whether steps were too large: the first loss was high, a step exceeded the weights, or accuracy was higher once."""
    course, t = measured.course, measured.thresholds
    first = course.train_loss[0] if course.learning_loss is None else max(course.train_loss[0], course.learning_loss[0])
    high_loss = first > t.thrown * course.guessing_loss
    large_step = course.update_ratio is not None and bool((course.update_ratio > 1).any())
    best = Estimate.share(float(course.train_accuracy.max()), course.num_train)
    return bool(high_loss) or large_step or best.low > course.base + t.once_learned


def _unstable_from_the_start(measured: Measurements) -> float:
    return _stuck(measured) if _thrown_off(measured) else -1.0


def _not_learning(measured: Measurements) -> float:
    return -1.0 if _thrown_off(measured) else _stuck(measured)


def _no_signal(measured: Measurements) -> float:
    """Training accuracy is far above the majority class, validation accuracy surely is not."""
    t, base = measured.thresholds, measured.course.base
    learned = _above(measured.train_end.value - base, t.no_signal_train)
    return min(learned, _surely_below(measured.val_end, base + t.no_signal_val))


def _unstable(measured: Measurements) -> float | None:
    """Training accuracy jumps often in the last half of the epochs, at least twice down."""
    if measured.course.num_epochs < measured.thresholds.min_epochs:
        return None
    share_of_jumps, num_down = measured.jumps
    return min(_above(share_of_jumps, measured.thresholds.jumps), _above(num_down, 1.5))


def _split_mismatch(measured: Measurements) -> float:
    """Validation accuracy is surely above training accuracy."""
    return _surely_above(measured.lead, measured.thresholds.ahead)


def _still_learning(measured: Measurements) -> float:
    """Both losses still fall, validation loss is lowest late, and both have room to fall."""
    t, course = measured.thresholds, measured.course
    if course.num_epochs < t.min_epochs:
        return min(_still_falling(course.train_loss, t.last_step), _still_falling(course.val_loss, t.last_step))
    lowest_late = int(np.argmin(measured.val_smooth)) >= 0.75 * course.num_epochs - 1
    return min(
        _above(measured.train_falling, t.falling),
        _above(measured.val_falling, t.falling),
        1.0 if lowest_late else -1.0,
        _above(float(measured.val_smooth[-1]), t.hopeless_loss * course.guessing_loss),
        _above(float(measured.train_smooth[-1]), t.learned_loss * course.guessing_loss),
    )


def _still_falling(loss: np.ndarray, smallest: float) -> float:
    """With few epochs: the loss fell in each of the last three steps, in the last by more than a share of its whole fall."""
    steps = np.diff(loss)
    if not len(steps) or not (steps[-3:] < 0).all():
        return -1.0
    return _above(float(-steps[-1] / (loss[0] - loss[-1])), smallest)


def _underfitting(measured: Measurements) -> float | None:
    """Training accuracy is surely below the reference: their intervals do not overlap."""
    if measured.reference is None:
        return None
    half = max(measured.train.half, measured.reference.half, SMALLEST_HALF)
    return _clipped((measured.reference.low - measured.train.high) / half)


def _gap(measured: Measurements) -> float:
    """The gap is large, or surely large relative to what was learned."""
    t = measured.thresholds
    absolute = min(_above(measured.gap.value, t.gap), _surely_above(measured.gap, t.sure_gap))
    learned = max(measured.train.value - measured.course.base, 1e-9)
    relative = _surely_above(measured.gap, t.relative_gap * learned)
    return max(absolute, relative)


def _overtrained(measured: Measurements) -> float | None:
    """Up to the kept epoch, validation loss rose by more than noise, and validation accuracy fell."""
    if measured.course.num_epochs < measured.thresholds.min_epochs:
        return None
    return min(
        _above(measured.rise_kept, measured.smallest_rise),
        _above(measured.accuracy_lost, measured.thresholds.loss_of_accuracy),
    )


def _good_fit(measured: Measurements) -> float | None:
    """The gap is surely small, validation surely learned, and its loss has settled or has no room to fall."""
    t = measured.thresholds
    if measured.course.num_epochs < t.min_epochs:
        return None
    close = _surely_below(measured.gap, t.good_gap)
    skilled = _surely_above(measured.val, measured.course.base + t.skill)
    settled = -_above(measured.val_falling, t.falling)
    finished = -_above(float(measured.val_smooth[-1]), t.hopeless_loss * measured.course.guessing_loss)
    return min(close, skilled, max(settled, finished))


def overconfident(measured: Measurements) -> bool:
    """Whether validation loss rose while its accuracy held: the network became too confident in its mistakes."""
    if measured.diverged or measured.course.num_epochs < measured.thresholds.min_epochs:
        return False
    return measured.rise > measured.smallest_rise and measured.accuracy_lost <= measured.thresholds.loss_of_accuracy


_FIRST = (
    VerdictRule("diverged", DIVERGED, _diverged),
    VerdictRule("leak_suspected", LEAK_SUSPECTED, _leak_suspected),
    VerdictRule("eval_mismatch", EVAL_MISMATCH, _eval_mismatch),
    VerdictRule("unstable from the start", UNSTABLE, _unstable_from_the_start),
    VerdictRule("not_learning", NOT_LEARNING, _not_learning),
    VerdictRule("no_signal", NO_SIGNAL, _no_signal),
    VerdictRule("unstable", UNSTABLE, _unstable),
    VerdictRule("split_mismatch", SPLIT_MISMATCH, _split_mismatch),
)
_STILL_LEARNING = VerdictRule("still_learning", STILL_LEARNING, _still_learning)
_UNDERFITTING = VerdictRule("underfitting", UNDERFITTING, _underfitting)
_OVERFITTING = (VerdictRule("gap", OVERFITTING, _gap), VerdictRule("overtrained", OVERFITTING, _overtrained))
_GOOD_FIT = VerdictRule("good_fit", GOOD_FIT, _good_fit)


def in_order(measured: Measurements) -> tuple[VerdictRule, ...]:
    """The rules in the order in which they are tried.

    `still_learning` comes before `overfitting` if the training also underfits or its gap is small, as more epochs may close
    or open the gap.
    """
    if measured.diverged:
        return _FIRST[:1]
    underfits = (_underfitting(measured) or -1.0) > 0
    if underfits or measured.gap.value < measured.thresholds.small_gap:
        return (*_FIRST, _STILL_LEARNING, _UNDERFITTING, *_OVERFITTING, _GOOD_FIT)
    return (*_FIRST, *_OVERFITTING, _STILL_LEARNING, _UNDERFITTING, _GOOD_FIT)


def _surely_above(estimate: Estimate, threshold: float) -> float:
    """Margin of: the lower bound of the interval is above the threshold."""
    return _clipped((estimate.low - threshold) / max(estimate.half, SMALLEST_HALF))


def _surely_below(estimate: Estimate, threshold: float) -> float:
    """Margin of: the upper bound of the interval is below the threshold."""
    return _clipped((threshold - estimate.high) / max(estimate.half, SMALLEST_HALF))


def _above(value: float, threshold: float) -> float:
    """Margin of: the value is above the threshold."""
    return _clipped((value - threshold) / threshold)


def _clipped(margin: float) -> float:
    return float(np.clip(margin, -1.0, 1.0))
