"""What the rules look at: numbers read off a course, each once."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.diagnosis.course import Course, Series
from pipeline.diagnosis.estimates import Estimate, difference, exact, share
from pipeline.diagnosis.thresholds import Thresholds


@dataclass(frozen=True)
class Case:
    """A course beside the thresholds.

    Single epochs are noisy, so the end of a curve is the median of its last epochs, a tenth of all and three at least, and
    shapes are read off running medians over as many. The weights that are used are those of one epoch, so what is said of
    them (`train`, `val`, `gap`) is what was measured there; where that epoch is not known, the end stands for it.
    """

    course: Course
    thresholds: Thresholds

    @cached_property
    def window(self) -> int:
        return min(self.course.num_epochs, max(3, math.ceil(0.1 * self.course.num_epochs)))

    @cached_property
    def diverged(self) -> bool:
        return not (np.isfinite(self.course.train_loss).all() and np.isfinite(self.course.val_loss).all())

    @cached_property
    def train_end(self) -> Estimate:
        """Training accuracy at the end of the training."""
        return share(self._end(self.course.train_accuracy), self.course.num_train)

    @cached_property
    def val_end(self) -> Estimate:
        return share(self._end(self.course.val_accuracy), self.course.num_val)

    @cached_property
    def learning_end(self) -> Estimate | None:
        """Accuracy in training mode at the end; None where nobody measured it."""
        if self.course.learning_accuracy is None:
            return None
        return share(self._end(self.course.learning_accuracy), self.course.num_learning or self.course.num_train)

    @cached_property
    def mode_gap(self) -> Estimate | None:
        """Training images: accuracy in training mode less that in evaluation mode."""
        if self.course.learning_accuracy is None:
            return None
        num_learning = self.course.num_learning or self.course.num_train
        learning, clean = self._end(self.course.learning_accuracy), self._end(self.course.train_accuracy)
        return difference(learning, num_learning, clean, self.course.num_train)

    @cached_property
    def train(self) -> Estimate:
        """Training accuracy of the weights that are used."""
        return share(self._kept(self.course.train_accuracy), self.course.num_train)

    @cached_property
    def val(self) -> Estimate:
        return share(self._kept(self.course.val_accuracy), self.course.num_val)

    @cached_property
    def gap(self) -> Estimate:
        """Training accuracy less validation accuracy of the weights that are used."""
        course = self.course
        return difference(
            self._kept(course.train_accuracy), course.num_train, self._kept(course.val_accuracy), course.num_val
        )

    @cached_property
    def lead(self) -> Estimate:
        """Validation accuracy less training accuracy."""
        return Estimate(-self.gap.value, -self.gap.high, -self.gap.low)

    @cached_property
    def reference(self) -> Estimate | None:
        if self.course.reference is None:
            return None
        n = self.course.num_reference
        return exact(self.course.reference) if n is None else share(self.course.reference, n)

    @cached_property
    def train_smooth(self) -> Series:
        return running_median(self.course.train_loss, self.window)

    @cached_property
    def val_smooth(self) -> Series:
        return running_median(self.course.val_loss, self.window)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the validation loss around its running median, from the median absolute deviation."""
        rest = self.course.val_loss - self.val_smooth
        return float(1.4826 * np.median(np.abs(rest - np.median(rest))))

    @cached_property
    def rise(self) -> float:
        """Of the validation loss, from its least to the end."""
        return float(self.val_smooth[-1] - self.val_smooth.min())

    @cached_property
    def rise_kept(self) -> float:
        """Of the validation loss, from its least to the weights that are used."""
        kept = self.course.kept_epoch
        return self.rise if kept is None else float(self.val_smooth[kept - 1] - self.val_smooth[:kept].min())

    @cached_property
    def least_rise(self) -> float:
        """From which a rise is none of noise."""
        t, course = self.thresholds, self.course
        by_noise, by_guessing = t.rise_noise * self.noise, t.rise_guessing * course.guessing_loss
        return max(t.rise * float(self.val_smooth.min()), by_noise, by_guessing)

    @cached_property
    def accuracy_lost(self) -> float:
        """Validation accuracy at its best less that of the weights that are used, both of the smoothed curve."""
        smooth = running_median(self.course.val_accuracy, self.window)
        kept = self.course.num_epochs if self.course.kept_epoch is None else self.course.kept_epoch
        return float(smooth[:kept].max() - smooth[kept - 1])

    @cached_property
    def train_falling(self) -> float:
        """By how much the last quarter lowered the training loss, as a share of what was left of it."""
        return _falling(self.train_smooth)

    @cached_property
    def val_falling(self) -> float:
        return _falling(self.val_smooth)

    @cached_property
    def jumps(self) -> tuple[float, int]:
        """In the last half of the epochs: the share of steps by which training accuracy jumps, and how often down."""
        series = self.course.train_accuracy
        steps = np.diff(series[len(series) // 2 :])
        least = max(self.thresholds.jump, 3 / self.course.num_train)
        if not len(steps):
            return 0.0, 0
        return float((np.abs(steps) > least).mean()), int((steps < -least).sum())

    def _end(self, series: Series) -> float:
        return float(np.median(series[-self.window :]))

    def _kept(self, series: Series) -> float:
        return self._end(series) if self.course.kept_epoch is None else float(series[self.course.kept_epoch - 1])


def running_median(series: Series, window: int) -> Series:
    """The median of the `window` epochs around each one, of fewer at both ends.

    >>> running_median(np.array([5.0, 1.0, 9.0, 2.0]), 3).tolist()
    [3.0, 5.0, 2.0, 5.5]
    """
    side = window // 2
    return np.array([np.median(series[max(0, at - side) : at + side + 1]) for at in range(len(series))])


def _falling(smooth: Series) -> float:
    """By how much the last quarter lowered the loss, as a share of what it was there; below 0 where it rose."""
    begin = smooth[len(smooth) - 1 - max(1, len(smooth) // 4)] if len(smooth) > 1 else smooth[-1]
    return float((begin - smooth[-1]) / begin) if begin > 0 else 0.0
