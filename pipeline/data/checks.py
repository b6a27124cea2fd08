"""Checks a dataset for problems before anything is trained on it, from measurements of its images."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema_data import Prepare
from pipeline.data.problems import OF_IMAGES, PROBLEMS
from pipeline.data.shortcuts import shortcuts
from pipeline.errors import DataError
from pipeline.metrics.split_shift import split_shifts

Mask = NDArray[np.bool_]

BLANK_SPREAD = 1.0
"""Standard deviation, in grey levels of 255, below which an image counts as blank."""

LARGE_SHARE, LARGE_FACTOR = 0.02, 5
"""Share of the images, and multiple of the median group, above which a group is told: one split would be that group."""

LOW_RANGE = 16
"""The level of white divided by this is the largest value below which a picture counts as dark by a wrong level."""

_SAMPLE = 5000
_SHOWN = 5


@dataclass(frozen=True)
class ImageTable:
    """Measurements of n images, in any order.

    Attributes:
        names: Name of each image, for people.
        labels: int64 of shape (n,).
        classes: Names, in the order of the labels.
        given: Split that the source gives each image; an empty text for none.
        shapes: Height, width and channels; of shape (n, 3).
        num_bytes: Size of the encoded image; of shape (n,).
        spread: Standard deviation of the pixels; of shape (n,).
        peak: Largest value of an image of more than 8 bits that does not tell which value is white; 0 for others.
        inverted: 1 for an image that stores white as 0.
        white_drawing: 1 for a white drawing on transparency, which was put on black.
        white_level: Value that is white in these images; None where there are none.
        first: Index of the first image with the same pixels; of shape (n,).
        undecoded: Problem and evidence of the images that cannot be decoded, by index.
        pairs: Near duplicates; int64 of shape (m, 2), the smaller index first.
        keys: Key of each image, equal for images that stay in one split together; of shape (n,).
    """

    names: Sequence[str]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    given: NDArray[np.str_]
    shapes: NDArray[np.int32]
    num_bytes: NDArray[np.int64]
    spread: NDArray[np.float32]
    peak: NDArray[np.float32]
    inverted: NDArray[np.uint8]
    white_drawing: NDArray[np.uint8]
    white_level: float | None
    first: NDArray[np.int64]
    undecoded: Mapping[int, tuple[str, str]]
    pairs: NDArray[np.int64]
    keys: NDArray[np.bytes_]


@dataclass(frozen=True)
class Issue:
    """A problem of one image, or of the dataset.

    Attributes:
        name: Name of the image or the class, or "all images".
        problem: One of `PROBLEMS`.
        evidence: Clause that shows the problem.
        row: Index of the image; None for a problem of the dataset.
        twin: Index of the image that it is like; None where there is none.
        action: `dropped` or `kept`.
    """

    name: str
    problem: str
    evidence: str
    row: int | None = None
    twin: int | None = None
    action: str = field(default="kept", compare=False)


def find(images: ImageTable, limits: Prepare) -> list[Issue]:
    """Find all problems, in the order of `PROBLEMS`."""
    of_images = chain(_undecoded(images), _single(images, limits), _copies(images), _near(images))
    issues = dict.fromkeys(chain(of_images, _classes(images, limits), _groups(images), _shortcuts(images)))
    order = {problem: index for index, problem in enumerate(PROBLEMS)}
    return sorted(issues, key=lambda issue: order[issue.problem])


def shifts(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> list[Issue]:
    """The splits in which classes have other shares than in training, from the number of images of each class by split."""
    return [
        Issue(
            f"class {classes[shift.label]}",
            "split_shift",
            f"{shift.share:.1%} of {shift.split} and {shift.train_share:.1%} of train, a difference that chance gives with "
            f"p = {shift.p:.1g}",
        )
        for shift in split_shifts(counts)
    ]


def settle(issues: Sequence[Issue], on_issue: Mapping[str, str], num_images: int) -> tuple[list[Issue], Mask]:
    """Drop or keep the images with problems, as `on_issue` says: `drop`, `keep` or `fail` for each problem.

    Returns:
        The issues with the action taken, and a mask of the images that stay, of shape (n,).

    Raises:
        DataError: There is a problem that `on_issue` does not allow.
    """
    failing = [issue for issue in issues if on_issue[issue.problem] == "fail"]
    if failing:
        counts = Counter(issue.problem for issue in failing)
        raise DataError(
            f"the data must be free of {', '.join(counts)}, as prepare.on_issue says fail; got "
            f"{', '.join(f'{number:,} × {problem}' for problem, number in counts.items())}: "
            f"{'; '.join(f'{issue.name}: {issue.evidence}' for issue in failing[:_SHOWN])}"
            f"{'; …' if len(failing) > _SHOWN else ''}. Mend the data, or set prepare.on_issue.{failing[0].problem}=keep"
            f"{' or drop' if failing[0].problem in OF_IMAGES else ''}."
        )
    stays = np.ones(num_images, dtype=bool)
    settled = []
    for issue in issues:
        drops = on_issue[issue.problem] == "drop" and issue.row is not None
        if drops:
            stays[issue.row] = False
        settled.append(replace(issue, action="dropped" if drops else "kept"))
    return settled, stays


def summary(issues: Sequence[Issue]) -> str:
    """Number of issues by problem and action, in one line."""
    counts = Counter((issue.problem, issue.action) for issue in issues)
    return ", ".join(f"{number:,} × {problem} ({action})" for (problem, action), number in counts.items())


def _undecoded(images: ImageTable) -> Iterator[Issue]:
    for row, (problem, evidence) in images.undecoded.items():
        yield Issue(images.names[row], problem, evidence, row)


def _readable(images: ImageTable) -> Mask:
    readable = np.ones(len(images.labels), dtype=bool)
    readable[list(images.undecoded)] = False
    return readable


def _single(images: ImageTable, limits: Prepare) -> Iterator[Issue]:
    readable = _readable(images)
    height, width = images.shapes[:, 0], images.shapes[:, 1]
    shorter, longer = np.minimum(height, width), np.maximum(height, width)
    for row in np.flatnonzero(readable & (shorter < limits.min_side)).tolist():
        yield Issue(images.names[row], "tiny", f"{width[row]}×{height[row]} pixels", row)
    for row in np.flatnonzero(readable & (longer > limits.max_aspect * shorter)).tolist():
        yield Issue(images.names[row], "aspect", f"{width[row]}×{height[row]} pixels", row)
    for row in np.flatnonzero(readable & (images.spread < BLANK_SPREAD)).tolist():
        evidence = f"its pixels differ by {images.spread[row]:.2f} of 255 (standard deviation)"
        yield Issue(images.names[row], "blank", evidence, row)
    darkest = (images.white_level or 0) / LOW_RANGE
    for row in np.flatnonzero(readable & (images.peak > 0) & (images.inverted == 0) & (images.peak < darkest)).tolist():
        evidence = f"its largest value is {images.peak[row]:,g}, and {images.white_level:,g} is white"
        yield Issue(images.names[row], "low_range", evidence, row)
    for row in np.flatnonzero(readable & (images.inverted == 1)).tolist():
        yield Issue(images.names[row], "inverted", "it stores white as 0", row)
    for row in np.flatnonzero(readable & (images.white_drawing == 1)).tolist():
        yield Issue(images.names[row], "white_drawing", "it was put on black, as white would erase it", row)


def _copies(images: ImageTable) -> Iterator[Issue]:
    groups = defaultdict(list)
    rows = np.flatnonzero(_readable(images) & (images.first != np.arange(len(images.first))))
    for row, head in zip(rows.tolist(), images.first[rows].tolist(), strict=True):
        groups[head].append(row)
    for head, rest in groups.items():
        yield from _alike(images, [head, *rest], "duplicate", "the same pixels as")


def _near(images: ImageTable) -> Iterator[Issue]:
    same = images.first[images.pairs[:, 0]] == images.first[images.pairs[:, 1]]
    for pair in images.pairs[~same].tolist():
        yield from _alike(images, pair, "near_duplicate", "nearly the same picture as")


def _alike(images: ImageTable, rows: Sequence[int], problem: str, words: str) -> Iterator[Issue]:
    """The issues of images that show the same picture, the original first; `problem` holds where all labels agree."""
    head, *rest = rows
    labels = {int(images.labels[row]) for row in rows}
    for row in rest:
        if len(labels) == 1:
            yield Issue(images.names[row], problem, f"{words} {images.names[head]}", row, head)
    if len(labels) > 1:
        for row in rows:
            other = next(one for one in rows if images.labels[one] != images.labels[row])
            name = images.classes[images.labels[other]]
            evidence = f"{words} {images.names[other]}, which is {name!r}"
            yield Issue(images.names[row], "conflicting_labels", evidence, row, other)
    sealed = next((row for row in rows if images.given[row] in ("val", "test")), None)
    if sealed is not None:
        for row in rows:
            if images.given[row] not in ("val", "test"):
                evidence = f"{words} {images.names[sealed]} of {images.given[sealed]}"
                yield Issue(images.names[row], "leak", evidence, row, sealed)


def _classes(images: ImageTable, limits: Prepare) -> Iterator[Issue]:
    readable = _readable(images)
    counts = np.bincount(images.labels[readable], minlength=len(images.classes))
    for label in np.flatnonzero(counts < limits.min_per_class).tolist():
        yield Issue(f"class {images.classes[label]}", "rare_class", f"{counts[label]:,} images")
    if counts.min() * limits.max_imbalance < counts.max():
        least, most = int(counts.argmin()), int(counts.argmax())
        evidence = f"{counts[most]:,} of {images.classes[most]!r}, {counts[least]:,} of {images.classes[least]!r}"
        yield Issue("all classes", "imbalance", evidence)
    splits = sorted(set(images.given.tolist()))
    if len(splits) > 1:
        for label, name in enumerate(images.classes):
            given = sorted(set(images.given[readable & (images.labels == label)].tolist()))
            if len(given) == 1:
                yield Issue(f"class {name}", "one_split", f"all of its images are in {given[0] or 'no named split'}")


def _groups(images: ImageTable) -> Iterator[Issue]:
    rows = np.flatnonzero(_readable(images))
    if not len(rows):
        return
    _, first, counts = np.unique(images.keys[rows], return_index=True, return_counts=True)
    large = (counts > LARGE_SHARE * len(rows)) & (counts > LARGE_FACTOR * np.median(counts))
    for group in np.flatnonzero(large).tolist():
        row = int(rows[first[group]])
        evidence = f"{counts[group]:,} images that stay in one split together, {counts[group] / len(rows):.0%} of all"
        yield Issue(images.names[row], "large_group", evidence, row)


def _shortcuts(images: ImageTable) -> Iterator[Issue]:
    rows = np.flatnonzero(_readable(images))
    rows = rows[:: max(1, len(rows) // _SAMPLE)]
    measurements = {
        "the file's size in bytes": images.num_bytes[rows],
        "colour or grey": images.shapes[rows, 2],
    }
    names = [images.names[row] for row in rows.tolist()]
    for evidence in shortcuts(names, images.labels[rows], images.classes, images.shapes[rows, :2], measurements):
        yield Issue("all images", "shortcut", evidence)
