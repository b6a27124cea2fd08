"""Finds which columns of a table name the images and tell their labels, splits and groups: by what they hold, then by name."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import DataError
from pipeline.source.layout import COLUMN_NAMES, LabelledFile, UnfitError, class_name
from pipeline.source.tables import Table

Find = Callable[[str], str | None]
"""Finds the path of the file that a cell names; None where it names none."""

SAMPLED_ROWS = 1000
"""Number of rows that are read to find the column with the names of files."""

MOST = 0.5
"""Least share of a column's cells, or of the images, for a table to be one of these images."""
AGREEING = 0.95
"""Least share of the images whose folder tells the same class as a column, for the folders to be the labels."""

NAMES = {
    **COLUMN_NAMES,
    "path": (*COLUMN_NAMES["path"], "image_id", "image_name", "name", "id"),
    "split": (*COLUMN_NAMES["split"], "is_valid", "is_val", "is_test"),
}
"""Names of columns by role; of several, the first counts."""
BOOLEAN_SPLITS = {"is_valid": "val", "is_val": "val", "is_test": "test"}
"""Columns of true and false, as fastai writes them, with the split that true stands for."""
BOOLEANS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
MISSING = ("", "na", "nan", "n/a", "#n/a", "<na>", "null")
"""Labels, in lower case, that stand for none."""


@dataclass(frozen=True)
class LabelColumns:
    """The rows of a table below its header, and the index of the column with each role.

    Attributes:
        names: Names of the columns; "1", "2", … where the table has no header.
        rows: A list of cells for each row.
        lines: Number of each row in the file.
        files: Path of the file that each row names; None where there is no such file.
        roles: Index by role: `path`, and where the table has them `label`, `split` and `group`.
        one_hot: Columns of which each stands for a class, in place of one with labels.
        folders_tell: Whether the folders tell the labels, and the table only splits and groups.
    """

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    files: list[str | None]
    roles: dict[str, int]
    one_hot: list[int] = field(default_factory=list)
    folders_tell: bool = False

    def __str__(self) -> str:
        named = {role: self.names[self.roles[role]] for role in NAMES if role in self.roles}
        if self.one_hot:
            named["labels"] = ", ".join(self.names[index] for index in self.one_hot)
        if self.folders_tell:
            named["labels"] = "of the folders"
        return "; ".join(f"{role}: {name}" for role, name in named.items())

    def text(self, row: Sequence[str], role: str) -> str:
        """The cell of a row in the column with this role; an empty text where no column has it."""
        return row[self.roles[role]] if role in self.roles else ""

    def split(self, row: Sequence[str]) -> str:
        """The split that a row names, in its own words and lower case."""
        text = self.text(row, "split").lower()
        name = self.names[self.roles["split"]].lower() if text else ""
        if name in BOOLEAN_SPLITS and text in BOOLEANS:
            return BOOLEAN_SPLITS[name] if BOOLEANS[text] else "train"
        return text

    def label(self, row: Sequence[str]) -> str:
        if not self.one_hot:
            return self.text(row, "label")
        return next((self.names[index] for index in self.one_hot if BOOLEANS.get(row[index].lower())), "")


def find_columns(
    table: Table,
    find: Find,
    num_images: int,
    given: Mapping[str, str],
    by_folder: Mapping[str, LabelledFile],
    chosen: bool,
) -> LabelColumns | None:
    """Find the columns of a table; None where it names few of the images, or where the folders tell the same labels.

    Args:
        table: Table to look at.
        find: Function that finds the file that a cell names.
        num_images: Number of image files in the source.
        given: Names of columns by role that the user has given.
        by_folder: Image by path, where folders tell classes.
        chosen: Whether the user has named the table, so that it is one of these images in any case.

    Raises:
        UnfitError: The table names images, and no column can be their label.
        DataError: Several columns can be the label, or the table has no column of a name that the user has given.
    """
    if not table.rows:
        return None
    has_header = not any(find(cell) for cell in table.rows[0])
    names = table.rows[0] if has_header else [str(number + 1) for number in range(len(table.rows[0]))]
    rows, lines = table.rows[has_header:], table.lines[has_header:]
    path = names.index(given["path"]) if given.get("path") in names else path_column(names, rows, find)
    if path is None:
        return None
    files = [find(row[path]) for row in rows]
    named = {file: row for file, row in zip(files, rows, strict=True) if file}
    usual = names[path].lower() in NAMES["path"] and bool(_usual(names, "label"))
    most = len(named) >= MOST * min(num_images, len(rows))
    if not (most or usual or chosen or "path" in given):
        return None
    if not named:
        example = rows[0][path] if rows else ""
        raise UnfitError(
            f"{table.path} must list files of data.source with their labels; none of the {len(rows):,} that it lists is "
            f"there, such as {example!r}."
        )
    for role, name in given.items():
        if role != "image" and name not in names:
            raise DataError(
                f"data.columns.{role} must name a column of {table.path}: {', '.join(names)}; got {name!r}."
            )
    roles = {"path": path}
    for role in ("split", "group"):
        index = names.index(given[role]) if role in given else next(iter(_usual(names, role)), None)
        if index is not None:
            roles[role] = index
    if "label" in given:
        return LabelColumns(names, rows, lines, files, {**roles, "label": names.index(given["label"])})
    others = [index for index in range(len(names)) if index not in roles.values() and index not in table.nested]
    if not chosen and _agrees_with_folders(named, others, by_folder):
        return LabelColumns(names, rows, lines, files, roles, folders_tell=True) if len(roles) > 1 else None
    one_hot = _one_hot(table.path, names, rows, lines, others)
    if one_hot:
        return LabelColumns(names, rows, lines, files, roles, one_hot)
    label = _label_column(table, names, rows, others, path, bool(by_folder), find)
    return None if label is None else LabelColumns(names, rows, lines, files, {**roles, "label": label})


def _usual(names: Sequence[str], role: str) -> list[int]:
    """The columns with a usual name for a role, the most usual name first."""
    by_name = {name.lower(): index for index, name in reversed(list(enumerate(names)))}
    return [by_name[name] for name in NAMES[role] if name in by_name]


def path_column(names: Sequence[str], rows: Sequence[Sequence[str]], find: Find) -> int | None:
    """The column that names the most different files; of two alike the one with a usual name, then the first."""
    sample = rows[:: max(1, len(rows) // SAMPLED_ROWS)]
    usual = _usual(names, "path")
    best, column = (0, False), next(iter(usual), None)
    for index in range(len(names)):
        files = {file for row in sample if (file := find(row[index]))}
        if (score := (len(files), index in usual)) > best:
            best, column = score, index
    return column


def _agrees_with_folders(
    named: Mapping[str, Sequence[str]], columns: Iterable[int], by_folder: Mapping[str, LabelledFile]
) -> bool:
    """Whether a column tells the classes of the folders, in the same words or in others, for nearly all images that it has."""
    pairs = [(row, by_folder[file].label) for file, row in named.items() if file in by_folder]
    for column in columns:
        folders_of = defaultdict[str, Counter[str]](Counter)
        for row, folder in pairs:
            folders_of[class_name(row[column]).casefold()][folder] += 1
        main = {cell: counts.most_common(1)[0] for cell, counts in folders_of.items()}
        distinct = len({folder for folder, _ in main.values()}) == len(main) > 1
        several = len(pairs) >= 2 * len(main)  # any column of two images agrees with two folders
        if distinct and several and sum(number for _, number in main.values()) >= AGREEING * len(pairs):
            return True
    return False


def _one_hot(
    path: str, names: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[int], columns: Iterable[int]
) -> list[int]:
    """The columns of 0 and 1 of which each stands for a class; none where a column has a usual name for labels."""
    candidates = [index for index in columns if {row[index].lower() for row in rows} <= BOOLEANS.keys()]
    if len(candidates) < 2 or _usual(names, "label"):
        return []
    counts = [sum(BOOLEANS[row[index].lower()] for index in candidates) for row in rows]
    if sum(count == 1 for count in counts) < MOST * len(rows):
        return []
    for count, row, line in zip(counts, rows, lines, strict=True):
        if count > 1:
            labels = ", ".join(names[index] for index in candidates if BOOLEANS[row[index].lower()])
            raise DataError(f"{path} must give each image one label; line {line:,} gives {labels}. {ONE_LABEL}")
    return candidates


def _label_column(
    table: Table, names: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int], path: int,
    has_folders: bool, find: Find,
) -> int | None:  # fmt: skip
    """The column that must hold the labels; None where none can, and the folders tell them."""
    usual = _usual(names, "label")
    for index in usual:
        if index in table.nested:
            raise DataError(
                f"{table.path} must hold one label an image; its column {names[index]} holds lists or mappings."
            )
    values = {index: Counter(row[index] for row in rows) for index in columns}
    repeated = [index for index in columns if len(values[index]) > 1 and not _all_differ(values[index])]
    candidates = [index for index in usual if index in repeated]
    candidates = candidates or [index for index in repeated if not any(find(cell) for cell in list(values[index])[:20])]
    if len(candidates) == 1:
        return candidates[0]
    if len(candidates) > 1:
        listed = "; ".join(f"{names[index]} ({_first_values(values[index])})" for index in candidates)
        raise DataError(
            f"{table.path} names the images in its column {names[path]}, and several of its columns can be their label: "
            f"{listed}. Choose one, such as data.columns={{label: {names[candidates[0]]}}}"
            + (", or data.layout=folders, which takes the folders for the classes." if has_folders else ".")
        )
    if has_folders:
        return None
    constant = next((index for index in usual if len(values[index]) == 1), None)
    if constant is not None:
        return constant  # the caller tells that one class is none
    others = ", ".join(f"{names[index] or index + 1} ({_first_values(values[index])})" for index in columns)
    raise UnfitError(
        f"{table.path} names the images in its column {names[path]}; it must have a column with their labels too, whose values "
        f"repeat. Its other columns: {others or 'none'}."
    )


def _all_differ(values: Counter[str]) -> bool:
    """Whether a column holds another value in each of ten rows or more, as ids and measurements do."""
    return len(values) == values.total() >= 10


def _first_values(values: Iterable[str]) -> str:
    first = list(values)
    return ", ".join(first[:3]) + (", …" if len(first) > 3 else "")


ONE_LABEL = "goodfit tells one class an image: choose one label for each, or join them into a class of its own."


def settled(labels: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Labels with one spelling for each class: no text where a label stands for none, and whole numbers without ".0".

    >>> settled(["1", "1.0", "NaN"], []), settled(["1.5", "1.0"], []), settled(["NA", "EU"], ["EU", "NA"])
    (['1', '1', ''], ['1.5', '1.0'], ['NA', 'EU'])
    """
    labels = ["" if label.lower() in MISSING and label not in classes else label for label in labels]
    whole = all(re.fullmatch(r"-?\d+(\.0*)?", label) for label in labels if label)
    return [label.partition(".")[0] for label in labels] if whole else labels


def check_one_label(path: str, labels: Iterable[str]) -> None:
    """Refuse a label that joins labels that other images have alone, such as "cat,dog" beside "cat" and "dog".

    Raises:
        DataError: A label is one.
    """
    alone = set(labels)
    for label in sorted(alone):
        for separator in (",", ";", "|", " "):
            parts = [part.strip() for part in label.split(separator) if part.strip()]
            if len(parts) > 1 and alone.issuperset(parts):
                raise DataError(f"{path} must give each image one label; it has {label!r}. {ONE_LABEL}")
