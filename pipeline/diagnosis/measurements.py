"""Measures a course: the numbers that the rules compare with the thresholds, each computed once."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from pipeline.diagnosis.course import Course, Series
from pipeline.diagnosis.thresholds import Thresholds
from pipeline.metrics.intervals import newcombe, wilson
from pipeline.metrics.projection import SKIPPED, projected_fall

NEAR_ZERO = 0.1
"""Share of its maximum below which a learning rate is near 0."""


@dataclass(frozen=True)
class Estimate:
    """A measured number and its 95 % interval; the interval of an exact number has no width."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @classmethod
    def exact(cls, value: float) -> Self:
        """A number without uncertainty."""
        return cls(value, value, value)

    @classmethod
    def share(cls, value: float, n: int) -> Self:
        """An accuracy measured on `n` images (Wilson 1927)."""
        return cls(value, *wilson(round(value * n), n))

    @classmethod
    def difference(cls, first: float, n_first: int, second: float, n_second: int) -> Self:
        """The difference of two accuracies measured on different images (Newcombe 1998, method 10)."""
        low, high = newcombe(round(first * n_first), n_first, round(second * n_second), n_second)
        return cls(first - second, min(low, first - second), max(high, first - second))

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if self.low == self.high else f" [{self.low:.3f}, {self.high:.3f}]")


@dataclass(frozen=True)
class Measurements:
    """The measurements of a course that the rules read.

    Single epochs are noisy. So the end of a curve is the median of its last tenth, of three epochs at least, and the shape
    of a curve is read off its running median over as many epochs. `train`, `val` and `gap` are those of the kept epoch,
    whose weights are used; if that epoch is unknown, those of the end.
    """

    course: Course
    thresholds: Thresholds

    @cached_property
    def window(self) -> int:
        """Number of epochs of a median."""
        return min(self.course.num_epochs, max(3, math.ceil(0.1 * self.course.num_epochs)))

    @cached_property
    def diverged(self) -> bool:
        """Whether a loss is not finite."""
        return not (np.isfinite(self.course.train_loss).all() and np.isfinite(self.course.val_loss).all())

    @cached_property
    def train_end(self) -> Estimate:
        """Training accuracy at the end."""
        return Estimate.share(self._end(self.course.train_accuracy), self.course.num_train)

    @cached_property
    def val_end(self) -> Estimate:
        """Validation accuracy at the end."""
        return Estimate.share(self._end(self.course.val_accuracy), self.course.num_val)

    @cached_property
    def learning_end(self) -> Estimate | None:
        """Accuracy in training mode at the end; None if it was not measured."""
        if self.course.learning_accuracy is None:
            return None
        num_learning = self.course.num_learning or self.course.num_train
        return Estimate.share(self._end(self.course.learning_accuracy), num_learning)

    @cached_property
    def mode_gap(self) -> Estimate | None:
        """Accuracy on training images at the end, in training mode minus in evaluation mode."""
        if self.course.learning_accuracy is None:
            return None
        num_learning = self.course.num_learning or self.course.num_train
        learning, clean = self._end(self.course.learning_accuracy), self._end(self.course.train_accuracy)
        return Estimate.difference(learning, num_learning, clean, self.course.num_train)

    @cached_property
    def train(self) -> Estimate:
        """Training accuracy at the kept epoch."""
        return Estimate.share(*self._kept_training())

    @cached_property
    def val(self) -> Estimate:
        """Validation accuracy at the kept epoch."""
        return Estimate.share(self._kept(self.course.val_accuracy), self.course.num_val)

    @cached_property
    def gap(self) -> Estimate:
        """Training accuracy minus validation accuracy at the kept epoch."""
        return Estimate.difference(*self._kept_training(), self._kept(self.course.val_accuracy), self.course.num_val)

    @cached_property
    def lead(self) -> Estimate:
        """Validation accuracy minus training accuracy at the kept epoch."""
        return Estimate(-self.gap.value, -self.gap.high, -self.gap.low)

    @cached_property
    def reference(self) -> Estimate | None:
        """Accuracy that a fitted model should reach on these data; None if it is unknown."""
        if self.course.reference is None:
            return None
        return Estimate.share(self.course.reference, self.course.num_reference or self.course.num_val)

    @cached_property
    def train_smooth(self) -> Series:
        """Running median of the training loss."""
        return running_median(self.course.train_loss, self.window)

    @cached_property
    def val_smooth(self) -> Series:
        """Running median of the validation loss."""
        return running_median(self.course.val_loss, self.window)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the validation loss around its running median, from the median absolute deviation."""
        residuals = self.course.val_loss - self.val_smooth
        return float(1.4826 * np.median(np.abs(residuals - np.median(residuals))))

    @cached_property
    def rise(self) -> float:
        """Rise of the validation loss from its minimum to the end."""
        return float(self.val_smooth[-1] - self.val_smooth.min())

    @cached_property
    def rise_estimate(self) -> Estimate:
        """`rise` with the interval that the noise of both medians gives; a median's error is √(π/2) times that of a mean."""
        half = 1.96 * self.noise * math.sqrt(math.pi / 2) * math.sqrt(2 / self.window)
        return Estimate(self.rise, self.rise - half, self.rise + half)

    @cached_property
    def rise_kept(self) -> float:
        """Rise of the validation loss from its minimum to the kept epoch."""
        kept = self.course.kept_epoch
        return self.rise if kept is None else float(self.val_smooth[kept - 1] - self.val_smooth[:kept].min())

    @cached_property
    def smallest_rise(self) -> float:
        """Smallest rise of the validation loss that noise does not explain."""
        t, course = self.thresholds, self.course
        by_noise, by_guessing = t.rise_noise * self.noise, t.rise_guessing * course.guessing_loss
        return max(t.rise * float(self.val_smooth.min()), by_noise, by_guessing)

    @cached_property
    def accuracy_lost(self) -> float:
        """Maximum of the validation accuracy minus its value at the kept epoch, both of the running median."""
        smooth = running_median(self.course.val_accuracy, self.window)
        kept = self.course.num_epochs if self.course.kept_epoch is None else self.course.kept_epoch
        return float(smooth[:kept].max() - smooth[kept - 1])

    @cached_property
    def anneals(self) -> bool:
        """Whether the learning rate ends near 0, which lowers any loss for a while and then flattens it."""
        rates = self.course.lr
        return rates is not None and bool(rates[-1] < NEAR_ZERO * rates.max())

    @cached_property
    def num_projected(self) -> int:
        """Number of epochs that a projection is made from: of a rate that ends near 0, those up to its last high value."""
        rates = self.course.lr
        if rates is None or not self.anneals:
            return self.course.num_epochs
        return int(np.flatnonzero(rates >= rates.max() / 2)[-1]) + 1

    @cached_property
    def train_ahead(self) -> Estimate | None:
        """Projected fall of the training loss with twice the epochs, and the schedule stretched; None with too few epochs."""
        return self._ahead(self.course.train_loss)

    @cached_property
    def val_ahead(self) -> Estimate | None:
        """Projected fall of the validation loss likewise; its interval is that of the fit alone."""
        return self._ahead(self.course.val_loss)

    @cached_property
    def accuracy_ahead(self) -> Estimate | None:
        """Projected gain of validation accuracy likewise.

        It is the projected fall of the validation loss, times the mistakes that went with each nat in the last three quarters
        of the projected epochs: accuracies of single epochs are too coarse to be projected themselves. The mistakes fall by no
        larger share than the loss. The interval holds that of the fall, the chance in two accuracies on so many images and,
        above, an error of twice the gain: trainings that were really continued needed these (docs/diagnosis.md).
        """
        if self.val_ahead is None:
            return None
        tail = slice(self.num_projected // SKIPPED, self.num_projected)
        loss, mistakes = self.course.val_loss[tail], 1 - self.course.val_accuracy[tail]
        (spread, both), _ = np.cov(loss, mistakes)
        accuracy, num_val = self._end(self.course.val_accuracy), self.course.num_val
        most = (1 - accuracy) / max(self._end(self.course.val_loss), 1e-12)
        slope = min(1.0, most, max(0.0, both / spread)) if spread > 0 else 0.0
        gain, low, high = (slope * bound for bound in (self.val_ahead.value, self.val_ahead.low, self.val_ahead.high))
        chance = Estimate.difference(accuracy, num_val, accuracy, num_val).half
        below, above = math.hypot(gain - low, chance), math.hypot(high - gain, chance, 2 * gain)
        return Estimate(gain, gain - below, min(1 - accuracy, gain + above))

    def _ahead(self, curve: Series) -> Estimate | None:
        if self.anneals and self.num_projected < self.thresholds.min_epochs:
            return None
        projected = curve[: self.num_projected]
        fall = projected_fall(projected)
        if fall is None:
            return None
        # a falling rate has lowered the loss already: the longer schedule lowers what it left by the same share
        scale = min(1.0, self._end(curve) / max(self._end(projected), 1e-12)) if self.anneals else 1.0
        return Estimate(*(scale * bound for bound in fall))

    @cached_property
    def train_falling(self) -> float:
        """Relative fall of the training loss in the last quarter of the epochs."""
        return _relative_fall(self.train_smooth)

    @cached_property
    def val_falling(self) -> float:
        """Relative fall of the validation loss in the last quarter of the epochs."""
        return _relative_fall(self.val_smooth)

    @cached_property
    def jumps(self) -> tuple[float, int]:
        """Share of epochs in the last half in which training accuracy jumps, and number of jumps down.

        While learning each epoch draws other augmentations and other units to drop, so there a jump is also beyond chance.
        """
        course = self.course
        late = course.train_accuracy[course.num_epochs // 2 :]
        steps, smallest = np.diff(late), max(self.thresholds.jump, 3 / course.num_train)
        if not course.clean:
            smallest = max(smallest, 1.96 * math.sqrt(2 * late.mean() * (1 - late.mean()) / course.num_train))
        if not len(steps):
            return 0.0, 0
        return float((np.abs(steps) > smallest).mean()), int((steps < -smallest).sum())

    def _end(self, series: Series) -> float:
        return float(np.median(series[-self.window :]))

    def _kept_training(self) -> tuple[float, int]:
        """Training accuracy of the kept weights, and the number of images behind it."""
        if self.course.kept_training is not None:
            return self.course.kept_training
        return self._kept(self.course.train_accuracy), self.course.num_train

    def _kept(self, series: Series) -> float:
        return self._end(series) if self.course.kept_epoch is None else float(series[self.course.kept_epoch - 1])


def running_median(series: Series, window: int) -> Series:
    """The median of the `window` epochs around each epoch, of fewer at both ends.

    >>> running_median(np.array([5.0, 1.0, 9.0, 2.0]), 3).tolist()
    [3.0, 5.0, 2.0, 5.5]
    """
    side = window // 2
    return np.array([np.median(series[max(0, index - side) : index + side + 1]) for index in range(len(series))])


def _relative_fall(smooth: Series) -> float:
    """Fall of a loss in the last quarter of the epochs, as a share of its value before; negative if it rose."""
    begin = smooth[len(smooth) - 1 - max(1, len(smooth) // 4)] if len(smooth) > 1 else smooth[-1]
    return float((begin - smooth[-1]) / begin) if begin > 0 else 0.0
