"""Detects overfitting by the rules of other tools, as their sources compute them.

A rule that watches every step or epoch counts as positive if it would have fired at any of them.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich import box
from rich.table import Table
from sklearn.metrics import precision_recall_fscore_support

from pipeline.diagnosis import Course

Rule = Callable[[Course], bool]


def sagemaker(course: Course) -> bool:
    """Amazon SageMaker Debugger's `Overfit`: (validation loss − training loss) / training loss > 0.1, five times in all
    (ratio_threshold=0.1, patience=5), at the steps where both are measured."""
    ratio = (course.val_loss - course.train_loss) / np.maximum(course.train_loss, 1e-12)
    return int((ratio > 0.1).sum()) >= 5


def autotrainer(course: Course) -> bool:
    """AUTOTRAINER (Zhang et al. 2021, https://doi.org/10.1109/ICSE43902.2021.00043), whose code computes this and leaves the
    verdict out: after 30 % of the epochs, training accuracy ahead by 0.1, or by 0.07 where it is above 0.9, more than once."""
    late = slice(round(0.3 * course.num_epochs), None)
    gap = (course.train_accuracy - course.val_accuracy)[late]
    return int((gap >= np.where(course.train_accuracy[late] > 0.9, 0.07, 0.1)).sum()) > 1


def umlaut(course: Course) -> bool:
    """UMLAUT (Schoop, Huang and Hartmann 2021, https://doi.org/10.1145/3411764.3445538): validation loss rises over an epoch
    while training loss does not."""
    return bool(((np.diff(course.val_loss) > 0) & (np.diff(course.train_loss) <= 0)).any())


def deepchecks(course: Course) -> bool:
    """deepchecks' train-test performance check: a relative degradation of the accuracy above 10 %."""
    return bool((course.train_accuracy[-1] - course.val_accuracy[-1]) / max(course.train_accuracy[-1], 1e-12) > 0.1)


def generalization_loss(course: Course) -> bool:
    """GL with α = 5 (Prechelt 1998, "Early stopping — but when?"): validation loss 5 % above its least so far, at any epoch."""
    least = np.minimum.accumulate(course.val_loss)
    return bool((100 * (course.val_loss / np.maximum(least, 1e-12) - 1) > 5).any())


def smoothed_rise(course: Course) -> bool:
    """Validation loss, as a running mean of three epochs, ends more than 5 % above its minimum."""
    smooth = np.convolve(course.val_loss, np.ones(3) / 3, "valid") if course.num_epochs >= 3 else course.val_loss
    return bool(smooth[-1] > 1.05 * smooth.min())


def trainproof(course: Course) -> bool:
    """trainproof's TP-OVERFIT (https://pypi.org/project/trainproof): with four epochs or more, validation loss ends above 1.2
    times its minimum, and training loss ends below what it was there."""
    least = int(np.argmin(course.val_loss))
    risen = course.num_epochs >= 4 and course.val_loss[-1] > 1.2 * course.val_loss[least]
    return bool(risen and course.train_loss[-1] < course.train_loss[least])


RIVALS: dict[str, Rule] = {
    "SageMaker Debugger": sagemaker,
    "AUTOTRAINER": autotrainer,
    "UMLAUT": umlaut,
    "deepchecks": deepchecks,
    "GL, α = 5": generalization_loss,
    "smoothed rise of 5 %": smoothed_rise,
    "trainproof": trainproof,
}


def compared(
    courses: Sequence[Course],
    overfits: Sequence[bool],
    fits: Sequence[bool],
    ours: Mapping[str, Sequence[bool]],
    title: str = "overfitting against the rest",
) -> Table:
    """Precision, recall and F1 of detecting overfitting on the same trainings, for this diagnosis and for the rules of others.

    Args:
        courses: Courses of the trainings, none of which diverged.
        overfits: Whether each training truly overfits.
        fits: Whether each training is truly a good fit.
        ours: What this diagnosis says of each training, by the name of the row.
        title: Title of the table.
    """
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for name in ("rule", "F1", "precision", "recall", "alarms on good fits"):
        table.add_column(name, justify="left" if name == "rule" else "right")
    said = {**ours, **{name: [rule(course) for course in courses] for name, rule in RIVALS.items()}}
    for name, verdicts in said.items():
        scores = precision_recall_fscore_support(overfits, verdicts, average="binary", zero_division=0.0)
        precision, recall, f1, _ = scores
        alarms = sum(verdict for fit, verdict in zip(fits, verdicts, strict=True) if fit)
        table.add_row(name, f"{f1:.2f}", f"{precision:.2f}", f"{recall:.2f}", f"{alarms} of {sum(fits)}")
    return table
