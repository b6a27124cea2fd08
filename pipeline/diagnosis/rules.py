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
class Margin:
    """Distance of a condition from the threshold at which it changes.

    Attributes:
        value: Distance from the threshold in [−1, 1]; the condition holds if it is above 0.
        what: The number that decides, with its article; empty where no number does.
        change: Change of that number at which the condition changes, in its own unit.
    """

    value: float
    what: str = ""
    change: float = 0.0

    def __neg__(self) -> "Margin":
        return Margin(-self.value, self.what, self.change)


TRUE, FALSE = Margin(1.0), Margin(-1.0)


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
    margin: Callable[[Measurements], Margin | None]


def _diverged(measured: Measurements) -> Margin:
    return TRUE if measured.diverged else FALSE


def _leak_suspected(measured: Measurements) -> Margin | None:
    """Validation images are among the training images."""
    duplicates, most = measured.course.duplicates, measured.thresholds.duplicates
    return None if duplicates is None else _above(duplicates, most, "a share of duplicates")


def _eval_mismatch(measured: Measurements) -> Margin | None:
    """On training images, training mode surely beats evaluation mode."""
    lead, most = measured.mode_gap, measured.thresholds.mismatch
    return None if lead is None else _surely_above(lead, most, "a lead of training mode")


def _stuck(measured: Measurements) -> Margin:
    """Training accuracy is surely at the level of the majority class, in both modes, and its loss not below that of guessing.

    Where one class is frequent, a network may know more than that class long before its accuracy shows it.
    """
    course, t = measured.course, measured.thresholds
    accuracies = [accuracy for accuracy in (measured.train_end, measured.learning_end) if accuracy is not None]
    least = (1 - t.known) * course.guessing_loss
    return _all(
        *(-_surely_above(accuracy, course.base + t.skill, "a training accuracy") for accuracy in accuracies),
        _above(float(measured.train_smooth[-1]), least, "a training loss"),
    )


def _thrown_off(measured: Measurements) -> bool:
    """Whether steps were too large: the first loss was high, a step exceeded the weights, or accuracy was higher once."""
    course, t = measured.course, measured.thresholds
    first = course.train_loss[0] if course.learning_loss is None else max(course.train_loss[0], course.learning_loss[0])
    high_loss = first > t.thrown * course.guessing_loss
    large_step = course.update_ratio is not None and bool((course.update_ratio > 1).any())
    best = Estimate.share(float(course.train_accuracy.max()), course.num_train)
    return bool(high_loss) or large_step or best.low > course.base + t.once_learned


def _unstable_from_the_start(measured: Measurements) -> Margin:
    return _stuck(measured) if _thrown_off(measured) else FALSE


def _not_learning(measured: Measurements) -> Margin:
    """Stuck from the start, with a loss that is not surely falling: a slow training stands at guessing for long too."""
    t, ahead = measured.thresholds, measured.train_ahead
    falls = ahead is not None and ahead.low > t.sure_fall * measured.course.guessing_loss
    return FALSE if falls or _thrown_off(measured) else _stuck(measured)


def _no_signal(measured: Measurements) -> Margin:
    """Training is far above the majority class; validation surely is not, and neither it nor the reference surely above it."""
    t, base = measured.thresholds, measured.course.base
    found = FALSE if measured.reference is None else _surely_above(measured.reference, base, "a reference")
    return _all(
        -found,
        _above(measured.train_end.value - base, t.no_signal_train, "a training accuracy"),
        _surely_below(measured.val_end, base + t.no_signal_val, "a validation accuracy"),
        -_surely_above(measured.val_end, base, "a validation accuracy"),
    )


def _unstable(measured: Measurements) -> Margin | None:
    """Training accuracy jumps often in the last half of the epochs, at least twice down."""
    if measured.course.num_epochs < measured.thresholds.min_epochs:
        return None
    share_of_jumps, num_down = measured.jumps
    often = _above(share_of_jumps, measured.thresholds.jumps, "a share of jumps")
    return _all(often, _above(num_down, 1.5, "a number of jumps down"))


def _split_mismatch(measured: Measurements) -> Margin:
    """Validation accuracy is surely above training accuracy."""
    return _surely_above(measured.lead, measured.thresholds.ahead, "a lead of validation")


def _still_learning(measured: Measurements) -> Margin:
    """Twice the epochs are projected to lower both losses, that of validation surely, and to raise validation accuracy.

    Some training images are still mistaken, and where training underfits, the gain is a good part of what is missing. What
    a longer training has really shown counts more.
    """
    t, course = measured.thresholds, measured.course
    if course.settled:
        return FALSE
    if measured.val_ahead is None or measured.train_ahead is None or measured.accuracy_ahead is None:
        steps = (_still_falling(course.train_loss, t.last_step), _still_falling(course.val_loss, t.last_step))
        return _all(*steps)
    lowest_late = int(np.argmin(measured.val_smooth)) >= 0.75 * course.num_epochs - 1
    return _all(
        _surely_above(measured.val_ahead, t.sure_fall * course.guessing_loss, "a projected fall of validation loss"),
        _above(measured.val_ahead.value, t.fall * course.guessing_loss, "a projected fall of validation loss"),
        _above(measured.train_ahead.value, t.fall * course.guessing_loss, "a projected fall of training loss"),
        _above(measured.accuracy_ahead.value, t.worth, "a projected gain of validation accuracy"),
        _above(1 - measured.train.value, t.left, "a share of mistakes on training images"),
        TRUE if lowest_late else FALSE,
        _closes(measured, measured.accuracy_ahead.value),
    )


def _closes(measured: Measurements, gain: float) -> Margin:
    """The projected gain is a good part of the distance to the reference; true wherever training does not underfit."""
    if measured.reference is None or (_underfitting(measured) or FALSE).value <= 0:
        return TRUE
    missing = measured.reference.value - measured.val.value
    return _above(gain, measured.thresholds.closes * missing, "a projected gain of validation accuracy")


def _still_falling(loss: np.ndarray, smallest: float) -> Margin:
    """With few epochs: the loss fell in each of the last three steps, in the last by more than a share of its largest fall."""
    steps = np.diff(loss)
    if not len(steps) or not (steps[-3:] < 0).all():
        return FALSE
    return _above(
        float(-steps[-1] / (loss.max() - loss[-1])), smallest, "a share of the last step in the fall of a loss"
    )


def _underfitting(measured: Measurements) -> Margin | None:
    """Training accuracy is surely below the reference: their intervals do not overlap. What validation reaches is reached.

    Measured while learning, training looks worse than it is; there it counts as no worse than validation.
    """
    if measured.reference is None:
        return None
    hidden = not measured.course.clean and measured.val.value > measured.train.value
    train = measured.val if hidden else measured.train
    half = max(train.half, measured.reference.half, SMALLEST_HALF)
    missing = measured.reference.low - train.high
    below = Margin(_clipped(missing / half), "a training accuracy", missing)
    not_reached = measured.reference.value - measured.val.value
    return _all(below, Margin(_clipped(not_reached / SMALLEST_HALF), "a validation accuracy", not_reached))


def _gap(measured: Measurements) -> Margin:
    """The gap is large and surely above 0, or surely large relative to what was learned."""
    t = measured.thresholds
    absolute = _all(_above(measured.gap.value, t.gap, "a gap"), _surely_above(measured.gap, 0.0, "a gap"))
    learned = max(measured.train.value - measured.course.base, 1e-9)
    return _any(absolute, _surely_above(measured.gap, t.relative_gap * learned, "a gap"))


def _overtrained(measured: Measurements) -> Margin | None:
    """Up to the kept epoch, validation loss rose by more than noise, and validation accuracy fell."""
    t = measured.thresholds
    if measured.course.num_epochs < t.min_epochs:
        return None
    return _all(
        _above(measured.rise_kept, measured.smallest_rise, "a rise of validation loss"),
        _above(measured.accuracy_lost, t.loss_of_accuracy, "a loss of validation accuracy"),
    )


def _good_fit(measured: Measurements) -> Margin | None:
    """The gap is surely small, validation surely learned, and its loss has settled or has no room to fall."""
    t = measured.thresholds
    if measured.course.num_epochs < t.min_epochs:
        return None
    close = _surely_below(measured.gap, t.good_gap, "a gap")
    skilled = _surely_above(measured.val, measured.course.base + t.skill, "a validation accuracy")
    settled = -_above(measured.val_falling, t.falling, "a fall of validation loss in the last quarter")
    low = t.hopeless_loss * measured.course.guessing_loss
    finished = TRUE if measured.course.settled else -_above(float(measured.val_smooth[-1]), low, "a validation loss")
    return _all(close, skilled, _any(settled, finished))


def has_gap(measured: Measurements) -> bool:
    """Whether the gap is that of overfitting."""
    return _gap(measured).value > 0


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
    underfits = (_underfitting(measured) or FALSE).value > 0
    if underfits or measured.gap.value < measured.thresholds.small_gap:
        return (*_FIRST, _STILL_LEARNING, _UNDERFITTING, *_OVERFITTING, _GOOD_FIT)
    return (*_FIRST, *_OVERFITTING, _STILL_LEARNING, _UNDERFITTING, _GOOD_FIT)


def _surely_above(estimate: Estimate, threshold: float, what: str) -> Margin:
    """Margin of: the lower bound of the interval is above the threshold."""
    return Margin(
        _clipped((estimate.low - threshold) / max(estimate.half, SMALLEST_HALF)), what, threshold - estimate.low
    )


def _surely_below(estimate: Estimate, threshold: float, what: str) -> Margin:
    """Margin of: the upper bound of the interval is below the threshold."""
    return Margin(
        _clipped((threshold - estimate.high) / max(estimate.half, SMALLEST_HALF)), what, threshold - estimate.high
    )


def _above(value: float, threshold: float, what: str) -> Margin:
    """Margin of: the value is above the threshold."""
    return Margin(_clipped((value - threshold) / threshold), what, threshold - value)


def _clipped(margin: float) -> float:
    return float(np.clip(margin, -1.0, 1.0))


def _all(*margins: Margin) -> Margin:
    """Margin of a conjunction."""
    return min(margins, key=lambda margin: margin.value)


def _any(*margins: Margin) -> Margin:
    """Margin of a disjunction."""
    return max(margins, key=lambda margin: margin.value)
