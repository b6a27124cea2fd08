"""What can be said of a training while it still runs: early, in one line each, and only once."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.diagnosis.case import Case
from pipeline.diagnosis.course import Course
from pipeline.diagnosis.thresholds import Thresholds

RISING = 4
"""Epochs in a row without a new lowest validation loss, each higher than the one before the first of them."""

PATIENCE = 5
"""Epochs after which a network that only guesses is worth a word."""


@dataclass
class Watch:
    """Remembers what it has said.

    Attributes:
        thresholds: Of the diagnosis that will follow.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    _said: set[str] = field(default_factory=set)

    def remarks(self, course: Course) -> list[str]:
        """What is new in the last epoch of a course; empty where nothing is."""
        case = Case(course, self.thresholds)
        found = {} if case.diverged else _seen(case)
        found |= {"diverged": "a loss is no longer finite"} if case.diverged else {}
        new = [text for name, text in found.items() if name not in self._said]
        self._said = set(found)  # what has passed may be said again when it comes back
        return new


def _seen(case: Case) -> dict[str, str]:
    course, t = case.course, case.thresholds
    seen = {}
    since = course.num_epochs - 1 - int(np.argmin(course.val_loss))
    later = course.val_loss[course.num_epochs - since :]
    if since >= RISING and np.diff(later).mean() > 0:
        rise = float(course.val_loss[-1] - course.val_loss.min())
        seen["rising"] = (
            f"validation loss has risen for {since} epochs, by {rise:.3f} from its least; training loss "
            + ("falls on" if course.train_loss[-1] < course.train_loss[-1 - since] else "does too")
        )
    if case.gap.value > t.gap and case.gap.low > t.sure_gap:
        seen["gap"] = f"training is ahead of validation by {case.gap}"
    if course.num_epochs >= PATIENCE and case.train_end.low <= course.base + t.skill:
        reached = f"after {course.num_epochs} epochs training accuracy is {case.train_end.value:.3f}"
        seen["guessing"] = f"{reached}, and guessing gives {course.base:.3f}"
    if case.lead.low > t.ahead:
        seen["ahead"] = f"validation is ahead of training by {case.lead}"
    return seen
