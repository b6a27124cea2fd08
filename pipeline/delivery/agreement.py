"""Compares answers with labels that are known for new images: accuracy, calibration, coverage, and the mistakes."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.config.section import nearest
from pipeline.delivery.classifier import Batch
from pipeline.errors import DataError
from pipeline.metrics import scores
from pipeline.metrics.intervals import wilson
from pipeline.metrics.scores import ClassScore

FOLDERS = "folders"
"""Value of `--against` for labels that are the names of the images' folders."""

NUM_MISTAKES = 24


class Labels:
    """The labels of images by their names: from a table with a column of paths and one of labels, or from their folders."""

    def __init__(self, source: str, classes: Sequence[str]) -> None:
        """Read the table at `source`, or take the folders where it is `FOLDERS`.

        Raises:
            DataError: It is no table with these columns, or names a class that the model does not know.
        """
        self._classes = {name: index for index, name in enumerate(classes)}
        self._by_path: dict[str, int | None] | None = None if source == FOLDERS else {}
        if self._by_path is None:
            return
        for path, label in _rows(source):
            if label not in self._classes:
                raise DataError(
                    f"{source} must name classes of the model; got {label!r} for {path}.{nearest(label, self._classes)}"
                )
            for key in {path, str(Path(source).parent / path), *_ends(path)}:
                if self._by_path.setdefault(key, self._classes[label]) != self._classes[label]:
                    self._by_path[key] = None  # several images with other labels end alike

    def index(self, image: str) -> int | None:
        """Index of the class that is known for an image; None where none is."""
        if self._by_path is None:
            return self._classes.get(image.rpartition("/")[0].rpartition("/")[2])
        for key in (image, *_ends(image)):
            if key in self._by_path:
                return self._by_path[key]
        return None


def _ends(path: str) -> list[str]:
    """
    >>> _ends("photos/cat/1.jpg")
    ['photos/cat/1.jpg', 'cat/1.jpg', '1.jpg']
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _rows(source: str) -> list[tuple[str, str]]:
    """Path and label of each row of a table."""
    from pipeline.source.files import FileTree
    from pipeline.source.layout import match_columns
    from pipeline.source.tables import read_table

    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"--against must be a table with paths and labels, or {FOLDERS!r}; {source} is no file.")
    tree = FileTree(path)
    try:
        table = read_table(tree, tree.listing.entries[0])
    except DataError as error:
        raise DataError(f"--against must be a table with paths and labels; {source} cannot be read: {error}.") from None
    names = table.rows[0] if table.rows else []
    columns = match_columns(names, {})
    if columns["path"] is None or columns["label"] is None:
        raise DataError(
            f"--against must be a table with a column of paths, such as `path`, and one of labels, such as `label`; {source} "
            f"has {', '.join(names) or 'none'}."
        )
    of_path, of_label = names.index(columns["path"]), names.index(columns["label"])
    return [(row[of_path], row[of_label]) for row in table.rows[1:] if row[of_label]]


@dataclass(frozen=True)
class Mistake:
    """An image that got another class than its label: its name, its pixels as the network saw them, and the probability."""

    image: str
    pixels: NDArray[np.uint8]
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Agreement:
    """How well answers agree with labels.

    Attributes:
        num_images: Number of images with a label that could be read.
        without_label: Number of those without.
        accuracy: Share of the images whose named class is the label.
        balanced_accuracy: Mean over the classes of that share.
        loss: Mean of −ln p(label), in nats.
        ece: Expected calibration error.
        coverage: Share of the images whose set holds the label; None where there are no sets.
        set_size: Mean number of classes in a set; None likewise.
        unknown: Share of the images that are called unknown; None where nothing tells.
        per_class: Scores of each class.
        matrix: Number of images by label (rows) and named class (columns).
        mistakes: The most confident mistakes, the most confident first.
    """

    num_images: int
    without_label: int
    accuracy: Interval
    balanced_accuracy: Interval
    loss: float
    ece: float
    coverage: Interval | None
    set_size: float | None
    unknown: Interval | None
    per_class: list[ClassScore]
    matrix: NDArray[np.int64]
    mistakes: list[Mistake]


class Comparison:
    """Collects what is needed to compare; of the pixels only those of the most confident mistakes."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._true: list[NDArray[np.int64]] = []
        self._named: list[NDArray[np.int64]] = []
        self._probabilities: list[NDArray[np.float32]] = []
        self._in_set: list[NDArray[np.bool_]] = []
        self._set_sizes = self._without = 0
        self._unknown: list[NDArray[np.bool_]] = []
        self._worst: list[tuple[float, int, Mistake]] = []
        self._order = count()

    def add(self, batch: Batch) -> None:
        if (decided := batch.decisions) is None:
            return
        names = [name for name, error in zip(batch.names, batch.errors, strict=True) if error is None]
        known = [self._labels.index(name) for name in names]
        rows = np.array([row for row, label in enumerate(known) if label is not None], np.int64)
        self._without += len(known) - len(rows)
        if not len(rows):
            return
        true = np.array([known[row] for row in rows], np.int64)
        named = decided.labels[rows]
        self._true.append(true)
        self._named.append(named)
        self._probabilities.append(decided.probabilities[rows])
        if decided.sets is not None:
            self._in_set.append(decided.sets[rows, true])
            self._set_sizes += int(decided.sets[rows].sum())
        if decided.unknown is not None:
            self._unknown.append(decided.unknown[rows])
        for row, label, guess in zip(rows.tolist(), true.tolist(), named.tolist(), strict=True):
            if label != guess:
                sure = float(decided.probabilities[row, guess])
                mistake = Mistake(names[row], batch.pixels[row], label, guess, sure)
                heapq.heappush(self._worst, (sure, -next(self._order), mistake))
                if len(self._worst) > NUM_MISTAKES:
                    heapq.heappop(self._worst)

    def result(self) -> Agreement:
        """The comparison of all images so far.

        Raises:
            DataError: None of them has a label.
        """
        if not self._true:
            raise DataError(
                "--against must tell labels of the images; it tells none of them. A table's paths must end as those of the "
                f"images do, and with {FOLDERS!r} each image must lie in a folder with the name of a class."
            )
        true, named = np.concatenate(self._true), np.concatenate(self._named)
        probabilities = np.concatenate(self._probabilities)
        answers = np.eye(probabilities.shape[1], dtype=np.float32)[named]  # the named class, at an operating point too
        low, high = scores.balanced_accuracy_interval(true, answers)
        return Agreement(
            num_images=len(true), without_label=self._without, accuracy=_share(true == named),
            balanced_accuracy=Interval(value=scores.balanced_accuracy(true, answers), low=low, high=high),
            loss=scores.negative_log_likelihood(true, probabilities),
            ece=scores.expected_calibration_error(true, probabilities),
            coverage=_share(np.concatenate(self._in_set)) if self._in_set else None,
            set_size=self._set_sizes / len(true) if self._in_set else None,
            unknown=_share(np.concatenate(self._unknown)) if self._unknown else None,
            per_class=scores.per_class(true, answers), matrix=scores.confusion(true, answers),
            mistakes=[mistake for *_, mistake in sorted(self._worst, key=lambda each: each[:2], reverse=True)],
        )  # fmt: skip


def _share(hits: NDArray[np.bool_]) -> Interval:
    low, high = wilson(int(hits.sum()), len(hits))
    return Interval(value=float(hits.mean()), low=low, high=high)
