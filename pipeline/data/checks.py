"""What is wrong with a dataset, found before anything is trained on it: pure functions of what is known of its images."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

OF_IMAGES = {
    "unreadable": "damaged or cut off",
    "not_an_image": "something else than an image",
    "bomb": "more pixels than prepare.max_pixels",
    "tiny": "a side shorter than prepare.min_side",
    "aspect": "one side longer than prepare.max_aspect times the other",
    "blank": "one colour, or nearly so",
    "duplicate": "the same pixels as an image before it",
    "near_duplicate": "nearly the same picture as an image before it",
    "conflicting_labels": "the same picture, or nearly, under two labels",
    "leak": "in the training split of the source, and the same picture, or nearly, in its val or test",
}
OF_DATASET = {
    "rare_class": "a class with fewer than prepare.min_per_class images",
    "imbalance": "classes whose sizes differ by more than prepare.max_imbalance times",
    "one_split": "a class that the source has in one split only",
    "shortcut": "the size of an image or its name alone tells its class",
}
PROBLEMS = {**OF_IMAGES, **OF_DATASET}
LEFT_OUT = {
    "not_an_image": "something else than an image",
    "unlisted": "an image that no table lists, or that lies in no class's folder",
    "missing": "a table lists it, and it is not there",
    "unlabelled": "a table gives it no label",
    "damaged": "it cannot be read from the source",
    "too_large": "more bytes than data.max_file_megabytes",
    "encrypted": "it needs a password",
    "link": "a link that leads out of the source, or to a folder, or is in an archive",
    "unsafe_name": "a name that would lead out of its archive",
    "no_file": "neither a file nor a folder, such as a device",
}
"""Why `fetch` leaves a file out."""

UNDECODED = ("unreadable", "not_an_image", "bomb")

BLANK_SPREAD = 1.0
"""A standard deviation, in grey levels of 255, below which nothing is to be seen."""

SHORTCUT_SHARE = 0.8
"""How far from chance (0) to certainty (1) a class must be told for it to be called a shortcut."""

_SAMPLE = 5000
_SHOWN = 5


@dataclass(frozen=True)
class Limits:
    """Where a problem begins; as the keys of `prepare` of the same names."""

    min_side: int
    max_aspect: float
    min_per_class: int
    max_imbalance: float


@dataclass(frozen=True)
class Table:
    """What the checks look at: n images, in any order.

    Attributes:
        names: Of each image, for people.
        labels: int64 of shape (n,).
        classes: Names, in the order of the labels.
        given: The split that the source gives each image; an empty text for none.
        shapes: Height, width and channels; of shape (n, 3).
        num_bytes: Of the encoded image; of shape (n,).
        spread: Standard deviation of the pixels; of shape (n,).
        first: The place of the first image with the same pixels; of shape (n,).
        undecoded: Problem and evidence of those that could not be decoded, by place.
        pairs: Near duplicates; int64 of shape (m, 2), the first place the smaller one.
    """

    names: Sequence[str]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    given: NDArray[np.str_]
    shapes: NDArray[np.int32]
    num_bytes: NDArray[np.int64]
    spread: NDArray[np.float32]
    first: NDArray[np.int64]
    undecoded: Mapping[int, tuple[str, str]]
    pairs: NDArray[np.int64]


@dataclass(frozen=True)
class Issue:
    """One problem of one image, or of the dataset.

    Attributes:
        name: Of the image, or of the class or the whole.
        problem: One of `PROBLEMS`.
        evidence: What shows it.
        row: The image's place; None for the dataset.
        twin: The place of the image that it is like; None where it is like none.
        action: What was done: `dropped` or `kept`.
    """

    name: str
    problem: str
    evidence: str
    row: int | None = None
    twin: int | None = None
    action: str = field(default="kept", compare=False)


def find(table: Table, limits: Limits) -> list[Issue]:
    """All problems, those of single images first, in the order of `PROBLEMS`."""
    issues = [
        *_undecoded(table),
        *_single(table, limits),
        *_copies(table),
        *_near(table),
        *_classes(table, limits),
        *_shortcuts(table),
    ]
    order = {problem: place for place, problem in enumerate(PROBLEMS)}
    return sorted(dict.fromkeys(issues), key=lambda issue: order[issue.problem])


def settle(
    issues: Sequence[Issue], on_issue: Mapping[str, str], num_images: int
) -> tuple[list[Issue], NDArray[np.bool_]]:
    """Do what `on_issue` says of each problem.

    Returns:
        The issues with the action taken, and which images stay: of shape (n,).

    Raises:
        DataError: A problem is there that must not be.
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


def told(issues: Sequence[Issue]) -> str:
    """One line for the terminal: how many of each problem, and what was done."""
    counts = Counter((issue.problem, issue.action) for issue in issues)
    return ", ".join(f"{number:,} × {problem} ({action})" for (problem, action), number in counts.items())


def _undecoded(table: Table) -> Iterator[Issue]:
    for row, (problem, evidence) in table.undecoded.items():
        yield Issue(table.names[row], problem, evidence, row)


def _readable(table: Table) -> NDArray[np.bool_]:
    readable = np.ones(len(table.labels), dtype=bool)
    readable[list(table.undecoded)] = False
    return readable


def _single(table: Table, limits: Limits) -> Iterator[Issue]:
    readable = _readable(table)
    height, width = table.shapes[:, 0], table.shapes[:, 1]
    shorter, longer = np.minimum(height, width), np.maximum(height, width)
    for row in np.flatnonzero(readable & (shorter < limits.min_side)).tolist():
        yield Issue(table.names[row], "tiny", f"{width[row]}×{height[row]} pixels", row)
    for row in np.flatnonzero(readable & (longer > limits.max_aspect * shorter)).tolist():
        yield Issue(table.names[row], "aspect", f"{width[row]}×{height[row]} pixels", row)
    for row in np.flatnonzero(readable & (table.spread < BLANK_SPREAD)).tolist():
        evidence = f"its pixels differ by {table.spread[row]:.2f} of 255 (standard deviation)"
        yield Issue(table.names[row], "blank", evidence, row)


def _copies(table: Table) -> Iterator[Issue]:
    groups = defaultdict(list)
    rows = np.flatnonzero(_readable(table) & (table.first != np.arange(len(table.first))))
    for row, head in zip(rows.tolist(), table.first[rows].tolist(), strict=True):
        groups[head].append(row)
    for head, rest in groups.items():
        yield from _alike(table, [head, *rest], "duplicate", "the same pixels as")


def _near(table: Table) -> Iterator[Issue]:
    same = table.first[table.pairs[:, 0]] == table.first[table.pairs[:, 1]]
    for pair in table.pairs[~same].tolist():
        yield from _alike(table, pair, "near_duplicate", "nearly the same picture as")


def _alike(table: Table, rows: Sequence[int], problem: str, words: str) -> Iterator[Issue]:
    """The issues of images that are one picture."""
    head, *rest = rows
    labels = {int(table.labels[row]) for row in rows}
    for row in rest:
        if len(labels) == 1:
            yield Issue(table.names[row], problem, f"{words} {table.names[head]}", row, head)
    if len(labels) > 1:
        for row in rows:
            other = next(one for one in rows if table.labels[one] != table.labels[row])
            name = table.classes[table.labels[other]]
            evidence = f"{words} {table.names[other]}, which is {name!r}"
            yield Issue(table.names[row], "conflicting_labels", evidence, row, other)
    sealed = next((row for row in rows if table.given[row] in ("val", "test")), None)
    if sealed is not None:
        for row in rows:
            if table.given[row] not in ("val", "test"):
                evidence = f"{words} {table.names[sealed]} of {table.given[sealed]}"
                yield Issue(table.names[row], "leak", evidence, row, sealed)


def _classes(table: Table, limits: Limits) -> Iterator[Issue]:
    readable = _readable(table)
    counts = np.bincount(table.labels[readable], minlength=len(table.classes))
    for label in np.flatnonzero(counts < limits.min_per_class).tolist():
        yield Issue(f"class {table.classes[label]}", "rare_class", f"{counts[label]:,} images")
    if counts.min() * limits.max_imbalance < counts.max():
        least, most = int(counts.argmin()), int(counts.argmax())
        evidence = f"{counts[most]:,} of {table.classes[most]!r}, {counts[least]:,} of {table.classes[least]!r}"
        yield Issue("all classes", "imbalance", evidence)
    splits = sorted(set(table.given.tolist()))
    if len(splits) > 1:
        for place, name in enumerate(table.classes):
            found = sorted(set(table.given[readable & (table.labels == place)].tolist()))
            if len(found) == 1:
                yield Issue(f"class {name}", "one_split", f"all of its images are in {found[0] or 'no named split'}")


def _shortcuts(table: Table) -> Iterator[Issue]:
    rows = np.flatnonzero(_readable(table))
    rows = rows[:: max(1, len(rows) // _SAMPLE)]
    names = [table.names[row] for row in rows.tolist()]
    labels = table.labels[rows]
    kinds, counts = np.unique(labels, return_counts=True)
    if len(kinds) < 2 or counts.min() < 3:
        return
    about = {
        "the file's size in bytes": table.num_bytes[rows],
        "the width in pixels": table.shapes[rows, 1],
        "the height in pixels": table.shapes[rows, 0],
        "colour or grey": table.shapes[rows, 2],
    }
    for name, values in about.items():
        if len(np.unique(values)) > 1 and (share := _told_by_number(values, labels, len(kinds))) >= SHORTCUT_SHARE:
            yield Issue("all images", "shortcut", f"{name} alone tells the class, {share:.0%} of the way from chance")
    tokens = list(map(_begins, names))
    share = _told_by_token(tokens, labels, [table.classes[label].lower() for label in labels.tolist()], len(kinds))
    if share >= SHORTCUT_SHARE:
        yield Issue(
            "all images",
            "shortcut",
            f"the first letters of the file's name tell the class, {share:.0%} of the way from chance",
        )


def _told_by_number(values: NDArray[np.generic], labels: NDArray[np.int64], num_classes: int) -> float:
    """What a small cross-validated tree makes of one number: 0 is chance, 1 certainty."""
    from sklearn.model_selection import cross_val_score
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=2 * num_classes, min_samples_leaf=3, random_state=0)
    scores = cross_val_score(tree, values.reshape(-1, 1), labels, cv=3, scoring="balanced_accuracy")
    return float((scores.mean() - 1 / num_classes) / (1 - 1 / num_classes))


def _begins(name: str) -> str:
    """The letters before the first digit of a file's name.

    >>> _begins("cats/IMG_0012.jpg"), _begins("7/0012.png")
    ('img_', '')
    """
    match = re.match(r"\D*", PurePosixPath(name).stem)
    return match[0].lower() if match else ""


def _told_by_token(tokens: Sequence[str], labels: NDArray[np.int64], classes: Sequence[str], num_classes: int) -> float:
    """What the commonest label of each token says of the images, where tokens are few and are not the classes' names."""
    named = sum(
        name in token or (token.strip("-_ ") or "?") in name for token, name in zip(tokens, classes, strict=True)
    )
    by_token = defaultdict(list)
    for token, label in zip(tokens, labels.tolist(), strict=True):
        by_token[token].append(label)
    if len(by_token) < 2 or len(by_token) > len(labels) / 5 or named > len(labels) / 2:
        return 0.0
    commonest = {token: Counter(found).most_common(1)[0][0] for token, found in by_token.items()}
    told_right = np.array([commonest[token] for token in tokens]) == labels
    accuracy = float(np.mean([told_right[labels == label].mean() for label in np.unique(labels)]))
    return (accuracy - 1 / num_classes) / (1 - 1 / num_classes)
