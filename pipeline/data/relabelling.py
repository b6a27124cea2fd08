"""Puts corrected labels in the place of those that the source gives."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.source import Correction
from pipeline.errors import DataError
from pipeline.storage.tables import harmless

_SHOWN = 5


@dataclass(frozen=True)
class Relabelled:
    """Labels after corrections.

    Attributes:
        classes: Names, in the order of the labels.
        labels: int64 of shape (n,).
        rows: Index of each corrected image, in the order of the corrections.
    """

    classes: list[str]
    labels: NDArray[np.int64]
    rows: list[int]


def relabelled(
    ids: Sequence[str], labels: NDArray[np.int64], classes: list[str], corrections: Sequence[Correction]
) -> Relabelled:
    """Give each image that a correction names its new label; a new label that is the old one is allowed.

    Args:
        ids: Path of each image in the source.
        labels: Labels of the source, int64 of shape (n,).
        classes: Names of the classes, in the order of the labels.
        corrections: At most one for an image.

    Raises:
        DataError: A correction names no image or several, an old label is not the source's, or a new one is no class.

    >>> corrections = [Correction(path="b.png", old="cat", new="dog")]
    >>> relabelled(["a.png", "b.png"], np.array([0, 0]), ["cat", "dog"], corrections).labels.tolist()
    [0, 1]
    """
    by_name, numbers = _rows(ids), {_composed(name): number for number, name in enumerate(classes)}
    result, rows = labels.copy(), []
    for correction in corrections:
        found = by_name.get(correction.path, [])
        if len(found) != 1:
            what = "names none of them" if not found else f"is the path of {len(found)}"
            raise DataError(
                f"data.relabel must name images of data.source by their paths; {correction.path!r} {what}. Take that row "
                "out, or copy the path from suspects.csv of `python -m pipeline.audit`."
            )
        [row] = found
        if _composed(correction.old) != _composed(classes[labels[row]]):
            raise DataError(
                f"data.relabel must say as the old label what data.source gives; {correction.path} is "
                f"{classes[labels[row]]!r} there, not {correction.old!r}. Take that row out, or audit again."
            )
        new = numbers.get(_composed(correction.new))
        if new is None:
            names = ", ".join(classes[:_SHOWN]) + (", …" if len(classes) > _SHOWN else "")
            raise DataError(
                f"data.relabel must say one of the classes as the new label ({names}); {correction.path} gets "
                f"{correction.new!r}. Correct it, or name the new class in data.classes."
            )
        result[row] = new
        rows.append(row)
    twice = [ids[row] for row, number in Counter(rows).items() if number > 1]
    if twice:
        raise DataError(f"data.relabel must give each image one row; {twice[0]} has several. Keep one of them.")
    return Relabelled(classes, result, rows)


def without_empty_classes(found: Relabelled) -> Relabelled:
    """The same without the classes that no image has any more, as if their folders had been removed."""
    there, labels = np.unique(found.labels, return_inverse=True)
    return Relabelled([found.classes[number] for number in there.tolist()], labels.astype(np.int64), found.rows)


def _rows(ids: Sequence[str]) -> Mapping[str, list[int]]:
    """The images by their path, and by their path as it stands in a table that we wrote."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        for written in {name, name.strip(), str(harmless(name)).strip()}:
            rows.setdefault(written, []).append(row)
    return rows


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", str(harmless(name))).strip()
