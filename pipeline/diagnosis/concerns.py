"""Lists what should worry a reader beside the verdict, which it does not change: whether the network is good, not only whether
it fits."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.diagnosis import Concern, LabelNoiseRecord, SizeTrialRecord
from pipeline.diagnosis.measurements import Estimate
from pipeline.metrics import scores
from pipeline.metrics.intervals import wilson
from pipeline.metrics.split_shift import split_shifts

HARDLY = 0.2
"""Recall below which a class is hardly ever recognised; where guessing is above it, that."""

FEWEST = 5
"""Number of images of a class from which none recognised is a finding."""

UNEVEN = 0.05
"""Accuracy less balanced accuracy, from which the common classes hide what becomes of the rare ones."""

CONFUSED = 0.2
"""Share of the images of two classes that are taken for the other one, from which the two are confused."""

OVERCONFIDENT = 0.05
"""Mean confidence less accuracy, from which the network is too sure of itself."""

REDUCED = 3.0
"""Side of the source's images over that of the prepared ones, from which much of what they show is lost."""

WRONG = 0.02
"""Share of labels that must surely be wrong for a concern."""

SKILL = 0.5
"""Skill from which a logistic regression can tell wrong labels from hard images. Below it took hard ones for wrong in 17 of 120
draws of clean clip art and icons; above in none of clean sets (docs/diagnosis.md)."""

_MANY_PIXELS = 128
"""Size from which the prepared images are large enough whatever the source has."""


@dataclass(frozen=True)
class Seen:
    """The validation images' labels and the network's probabilities for them, with what its accuracy is held against.

    Attributes:
        labels: int64 of shape (n,).
        probabilities: Shape (n, classes), as the network gives them, without calibration.
        reference: Accuracy of simple methods on these images, or None.
        source_side: Median of the longer sides of the source's images in pixels, or None.
        noise: Estimate of the share of wrong labels in training and validation, or None.
        trial: Gain of a simple method from images of twice the size; None: not measured.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.floating]
    reference: Estimate | None = None
    source_side: float | None = None
    noise: LabelNoiseRecord | None = None
    trial: SizeTrialRecord | None = None

    @property
    def accuracy(self) -> Estimate:
        """Share of the images that the network classifies rightly."""
        return Estimate.share(scores.accuracy(self.labels, self.probabilities), len(self.labels))


def concerns(dataset: DatasetRecord, seen: Seen | None = None) -> list[Concern]:
    """The concerns about a training on `dataset`, each with its evidence and one step to take; the gravest first."""
    found = []
    if seen is not None:
        for concern in (_unrecognised, _suspect, _unbalanced, _confused, _no_better, _overconfident, _reduced):
            found += list(concern(dataset, seen))
    return found + list(_split_shift(dataset))


def is_hardly_recognised(correct: int, count: int, num_classes: int) -> bool:
    """Whether so few of a class's images being recognised means that it hardly ever is."""
    _, high = wilson(correct, count) if count else (0.0, 1.0)
    return high < max(HARDLY, 1 / num_classes) or (correct == 0 and count >= FEWEST)


def _unrecognised(dataset: DatasetRecord, seen: Seen) -> Iterator[Concern]:
    """Classes that are hardly ever recognised."""
    found = []
    for number, score in enumerate(scores.per_class(seen.labels, seen.probabilities)):
        if is_hardly_recognised(score.correct, score.count, len(dataset.classes)):
            low, high = wilson(score.correct, score.count)
            found.append((score.recall, low, high, number, score))
    if found:
        recall, low, high, number, score = min(found)
        others = f", and {len(found) - 1} more classes likewise" if len(found) > 1 else ""
        yield Concern(
            name="unrecognised_class",
            evidence=f"{dataset.classes[number]!r} is recognised in {score.correct} of its {score.count} validation "
            f"images{others}",
            interval=Interval(value=recall, low=low, high=high),
            step="look at its images in the report, and give each class the same weight: train.class_weights=balanced",
        )


def _suspect(dataset: DatasetRecord, seen: Seen) -> Iterator[Concern]:
    """Labels that look wrong."""
    noise = seen.noise
    if noise is not None and noise.low > WRONG and noise.skill >= SKILL:
        total = sum(sum(dataset.counts[split]) for split in ("train", "val"))
        yield Concern(
            name="suspect_labels",
            evidence=f"about {round(noise.share * total):,} of {total:,} labels look wrong, a share of "
            f"{Estimate(noise.share, noise.low, noise.high)}: on images that it was not fitted on and is sure of, a logistic "
            f"regression on {' and '.join(noise.views)} disagrees with so many at random",
            interval=Interval(value=noise.share, low=noise.low, high=noise.high),
            step="look at the likeliest ones and correct them: python -m pipeline.audit",
        )


def _unbalanced(dataset: DatasetRecord, seen: Seen) -> Iterator[Concern]:
    accuracy = scores.accuracy(seen.labels, seen.probabilities)
    balanced = scores.balanced_accuracy(seen.labels, seen.probabilities)
    low, high = scores.balanced_accuracy_interval(seen.labels, seen.probabilities)
    if high < accuracy - UNEVEN:
        yield Concern(
            name="unbalanced",
            evidence=f"the mean accuracy of the classes is {Estimate(balanced, low, high)}, that of all images "
            f"{accuracy:.3f}",
            interval=Interval(value=balanced, low=low, high=high),
            step="give each class the same weight: train.class_weights=balanced",
        )


def _confused(dataset: DatasetRecord, seen: Seen) -> Iterator[Concern]:
    """The two classes that are most often taken for each other."""
    matrix = scores.confusion(seen.labels, seen.probabilities)
    mutual = np.triu(matrix + matrix.T, 1)
    first, second = np.unravel_index(int(mutual.argmax()), mutual.shape)
    count, total = int(mutual[first, second]), int(matrix[[first, second]].sum())
    low, high = wilson(count, total) if total else (0.0, 1.0)
    if low > CONFUSED:
        yield Concern(
            name="confused_classes",
            evidence=f"{dataset.classes[first]!r} and {dataset.classes[second]!r} are taken for each other in {count} of "
            f"{total} validation images",
            interval=Interval(value=count / total, low=low, high=high),
            step="look at them in build/evaluate/mistakes.csv: join the classes, name them more sharply, or show larger "
            "images",
        )


def _no_better(dataset: DatasetRecord, seen: Seen) -> Iterator[Concern]:
    """An accuracy that simple methods reach too."""
    val = seen.accuracy
    if seen.reference is not None and val.value <= seen.reference.value:
        yield Concern(
            name="no_better_than_simple_methods",
            evidence=f"validation accuracy is {val}, and simple methods reach {seen.reference} on these images",
            interval=Interval(value=val.value, low=val.low, high=val.high),
            step="compare ways to begin: python -m pipeline.starts",
        )


def _overconfident(dataset: DatasetRecord, seen: Seen) -> Iterator[Concern]:
    val = seen.accuracy
    confidence = float(seen.probabilities.max(axis=1).mean())
    if confidence - val.high > OVERCONFIDENT:
        yield Concern(
            name="overconfident",
            evidence=f"the network is {confidence:.3f} sure on average, and right in {val} of the validation images",
            interval=Interval(value=confidence - val.value, low=confidence - val.high, high=confidence - val.low),
            step="use the probabilities of build/package, which are calibrated on the confirm split, or smooth the labels: "
            "regularization.label_smoothing=0.1",
        )


def _reduced(dataset: DatasetRecord, seen: Seen) -> Iterator[Concern]:
    """Images that are far smaller than those of the source."""
    side, size, trial = seen.source_side, dataset.size, seen.trial
    if side is not None and is_reduced(size, side):
        tried = ""
        if trial is not None:
            gain = Estimate(trial.gain.value, trial.gain.low, trial.gain.high)
            tried = (
                f"; at {trial.size} pixels a logistic regression on edges gains {gain} on {trial.num_images:,} images"
                + ("" if gain.low > 0 else ", which may be chance")
            )
        yield Concern(
            name="small_images",
            evidence=f"the images of the source are {side:,.0f} pixels wide or high, and the network sees {size}{tried}",
            interval=Interval(value=side / size, low=side / size, high=side / size),
            step=f"show it more: prepare.size={2 * size}",
        )


def is_reduced(size: int, source_side: float) -> bool:
    """Whether images of so many pixels show far less than those of the source, of which the longer side is given."""
    return size < _MANY_PIXELS and source_side >= REDUCED * size


def _split_shift(dataset: DatasetRecord) -> Iterator[Concern]:
    for shift in split_shifts(dataset.counts)[:1]:
        difference = Estimate(shift.share - shift.train_share, shift.low, shift.high)
        yield Concern(
            name="split_shift",
            evidence=f"{dataset.classes[shift.label]!r} is {shift.share:.1%} of {shift.split} "
            f"and {shift.train_share:.1%} of train, a difference of {difference}",
            interval=Interval(value=difference.value, low=shift.low, high=shift.high),
            step="compare balanced accuracies, and draw the splits anew: prepare.seed=1, or, where the source gives them, "
            "its images in one folder for each class",
        )
