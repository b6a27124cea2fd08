"""Detects the layout of a source from the names of its files, and from the content of those that could be a table."""

from collections.abc import Callable, Iterable, Sequence

from pipeline.errors import DataError
from pipeline.source import containers, folders, label_tables
from pipeline.source.files import Listing, Tree
from pipeline.source.label_tables import TableKeys
from pipeline.source.layout import LabelledFile, Layout, UnfitError


def detect(tree: Tree, kind: str | None, keys: TableKeys) -> Layout:
    """Detect the layout of the files of `tree`; `kind` is the value of `data.layout`.

    Raises:
        DataError: No layout fits, or several do, or the one that fits has no use for a key that the user has given.
    """
    layout = _of_kind(tree, kind, keys) if kind is not None else _only_fitting(tree, keys)
    if keys.table is not None and layout.kind != "table":
        raise DataError(
            f"data.table must be null for another layout than a table; got {keys.table}, and {layout.title}."
        )
    if keys.columns and layout.kind not in ("table", "parquet"):
        raise DataError(
            f"data.columns must be empty where no table names the images; got {dict(keys.columns)}, and {layout.title}."
        )
    _check_spelling(layout.labels, keys.classes)
    return layout


def _check_spelling(labels: Iterable[str], named: Sequence[str]) -> None:
    """Refuse classes that differ in case alone, unless the user has named them."""
    spellings: dict[str, str] = {}
    for label in sorted(labels):
        first = spellings.setdefault(label.casefold(), label)
        if first != label and not {first, label} <= set(named):
            raise DataError(
                f"data.source must spell each class alike; got {first!r} and {label!r}. Rename one, or name all classes in "
                "data.classes if these are two."
            )


def _candidates(
    tree: Tree, keys: TableKeys, by_folder: dict[str, LabelledFile]
) -> dict[str, Callable[[], Layout | None]]:
    entries = tree.listing.entries
    return {
        "splits": lambda: folders.by_split(tree),
        "folders": lambda: folders.by_class(tree),
        "table": lambda: label_tables.listed_in_table(tree, keys, by_folder),
        "parquet": lambda: containers.parquet(tree, keys.columns),
        "idx": lambda: containers.in_one_folder("idx", entries),
        "cifar": lambda: containers.in_one_folder("cifar", entries),
        "arrays": lambda: containers.arrays(entries),
    }


def _of_kind(tree: Tree, kind: str, keys: TableKeys) -> Layout:
    layout = _candidates(tree, keys, {})[kind]()
    if layout is None:
        raise DataError(
            f"data.layout={kind} must fit the files of data.source; they are {summary(tree.listing)}. Set "
            "data.layout=null to have it found."
        )
    return layout


def _only_fitting(tree: Tree, keys: TableKeys) -> Layout:
    fitting: list[Layout] = []
    problems: dict[str, UnfitError] = {}
    by_folder: dict[str, LabelledFile] = {}
    for kind, candidate in _candidates(tree, keys, by_folder).items():
        try:
            layout = candidate()
        except UnfitError as error:
            problems[kind] = error
            continue
        if layout is None:
            continue
        fitting.append(layout)
        if layout.kind in ("splits", "folders"):
            by_folder.update((image.entry.path, image) for image in layout.images)
        elif layout.kind == "table" and (layout.folders_tell or keys.table or keys.columns):
            fitting = [layout]  # it includes what the folders tell, or the user has asked for it
    if not fitting:
        raise (
            problems.get("table")
            or next(iter(problems.values()), None)
            or DataError(
                "data.source must hold images in folders named by class, in train/val/test folders of these, or beside a table "
                f"that names each file and its label; or Parquet, IDX, CIFAR or NumPy files. Found {summary(tree.listing)}."
            )
        )
    if len(fitting) > 1:
        options = "; ".join(f"data.layout={layout.kind} ({layout.title})" for layout in fitting)
        raise DataError(f"data.source can be read in more than one way. Choose one: {options}.")
    return fitting[0]


def summary(listing: Listing) -> str:
    """Number and first names of the files, and of those that were left out, for messages."""
    entries, skipped = listing.entries, listing.skipped
    names = ", ".join(entry.path for entry in entries[:5])
    files = f"{len(entries):,} files: {names}{', …' if len(entries) > 5 else ''}" if entries else "no file"
    if not skipped:
        return files
    return f"{files}; {len(skipped):,} left out, such as {skipped[0].path} ({skipped[0].evidence})"
