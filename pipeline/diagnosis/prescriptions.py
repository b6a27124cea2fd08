"""Prescribes changes for a verdict: overrides in several strengths, the most promising first."""

from collections.abc import Callable, Iterator
from itertools import islice

from pipeline.diagnosis import remedies, rules
from pipeline.diagnosis.remedies import Configuration, Prescription
from pipeline.diagnosis.verdict import OVERCONFIDENT, Diagnosis

MOST = 3
"""Largest number of prescriptions of a diagnosis."""


_Remedy = Callable[[Configuration], Prescription | None]


def prescribe(
    diagnosis: Diagnosis,
    settings: Configuration | None = None,
    *,
    num_images: int | None = None,
    source_side: float | None = None,
    most: int | None = MOST,
) -> tuple[Prescription, ...]:
    """Prescribe changes, the most promising first; none for a good fit, nor for a verdict on the data.

    On people's own pictures the network, what it begins with, and the number of pixels come first: they are most often what is
    wrong there.

    Args:
        diagnosis: Diagnosis of the training.
        settings: Configuration of the training; None: that of another tool, for which the defaults are assumed.
        num_images: Number of training images; None: unknown, which leaves out what depends on it.
        source_side: Median of the longer sides of the source's images in pixels; None: unknown, likewise.
        most: Largest number of prescriptions; None: all.
    """
    known = {**(settings or {}), remedies.NUM_IMAGES: num_images, remedies.SOURCE_SIDE: source_side}
    prescriptions = (prescription for remedy in _remedies(diagnosis) if (prescription := remedy(known)) is not None)
    return tuple(islice(prescriptions, most))


def _remedies(diagnosis: Diagnosis) -> Iterator[_Remedy]:
    verdict, causes = diagnosis.verdict, diagnosis.causes
    if verdict in (rules.OVERFITTING, rules.UNDERFITTING, rules.INCONCLUSIVE):
        yield from remedies.FOR_OWN_PICTURES
    if verdict == rules.INCONCLUSIVE:
        if "epochs" not in diagnosis.settled_by:
            yield remedies.more_validated
    elif verdict == rules.OVERFITTING and causes == ("overtrained",):
        yield from (remedies.early_stopping, remedies.more_decay)
    elif verdict == rules.OVERFITTING:
        yield from (
            remedies.augment_more,
            remedies.more_decay,
            remedies.more_dropout,
            remedies.smooth_labels,
            remedies.narrower,
            remedies.more_l1,
            remedies.early_stopping,
        )
    elif verdict == rules.UNDERFITTING:
        if "regularised" in causes:
            yield from (remedies.less_l1, remedies.less_decay, remedies.less_dropout, remedies.augment_less)
        yield from (
            remedies.smaller_batches,
            remedies.wider,
            remedies.deeper,
            remedies.larger_images,
            remedies.range_test_lr,
        )
    elif verdict == rules.STILL_LEARNING:
        yield from (remedies.smaller_batches, remedies.more_epochs, remedies.higher_lr)
    elif verdict in (rules.UNSTABLE, rules.DIVERGED):
        yield remedies.lower_lr
        if verdict == rules.DIVERGED:
            yield remedies.range_test_lr
        yield from (remedies.clip, remedies.warm_up, remedies.larger_batches, remedies.average_weights)
    elif verdict == rules.NOT_LEARNING:
        yield from _when_not_learning(causes)
    elif verdict == rules.EVAL_MISMATCH:
        yield from (remedies.smaller_batches, remedies.group_norm, remedies.larger_batches)
    elif OVERCONFIDENT in diagnosis.flags:
        yield from (remedies.smooth_labels, remedies.more_decay)


def _when_not_learning(causes: tuple[str, ...]) -> Iterator[_Remedy]:
    if "penalty" in causes:
        yield from (remedies.less_l1, remedies.less_decay)
    if "dead_relu" in causes or "initialisation" in causes:
        yield from (remedies.other_activation, remedies.lower_lr)
    if "no_updates" in causes:
        yield remedies.much_higher_lr
    yield from (remedies.range_test_lr, remedies.much_higher_lr, remedies.lower_lr)
