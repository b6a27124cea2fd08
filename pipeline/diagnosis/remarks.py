"""Remarks on a training while it runs: early, one line each, and each only once."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.diagnosis.course import Course
from pipeline.diagnosis.measurements import Measurements
from pipeline.diagnosis.thresholds import Thresholds

RISING = 4
"""Number of epochs since the minimum of the validation loss after which a rise is remarked."""

GUESSING = 5
"""Number of epochs after which a network at the level of guessing is remarked."""


@dataclass
class Watch:
    """Finds the remarks that are new in an epoch, and remembers them.

    Attributes:
        thresholds: Thresholds of the diagnosis at the end.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    _said: set[str] = field(default_factory=set)

    def remarks(self, course: Course) -> list[str]:
        """The remarks on the last epoch of a course that did not apply in the epoch before."""
        measured = Measurements(course, self.thresholds)
        current = {"diverged": "a loss is no longer finite"} if measured.diverged else _current(measured)
        new = [text for name, text in current.items() if name not in self._said]
        self._said = set(current)
        return new


def _current(measured: Measurements) -> dict[str, str]:
    """Text of each remark that applies to the last epoch."""
    course, t = measured.course, measured.thresholds
    remarks = {}
    since = course.num_epochs - 1 - int(np.argmin(course.val_loss))
    later = course.val_loss[course.num_epochs - since :]
    if since >= RISING and np.diff(later).mean() > 0:
        rise = float(course.val_loss[-1] - course.val_loss.min())
        remarks["rising"] = (
            f"validation loss has risen for {since} epochs, by {rise:.3f} from its least; training loss "
            + ("falls on" if course.train_loss[-1] < course.train_loss[-1 - since] else "does too")
        )
    if measured.gap.value > t.gap and measured.gap.low > 0:
        remarks["gap"] = f"training is ahead of validation by {measured.gap}"
    if course.num_epochs >= GUESSING and measured.train_end.low <= course.base + t.skill:
        reached = f"after {course.num_epochs} epochs training accuracy is {measured.train_end.value:.3f}"
        remarks["guessing"] = f"{reached}, and guessing gives {course.base:.3f}"
    if measured.lead.low > t.ahead:
        remarks["ahead"] = f"validation is ahead of training by {measured.lead}"
    return remarks
