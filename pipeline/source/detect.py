"""Detects the layout of a source from the names of its files, and from the content of those that could be a table."""

from collections.abc import Callable, Mapping

from pipeline.errors import DataError
from pipeline.source import containers, folders, label_tables
from pipeline.source.files import Listing, Tree
from pipeline.source.layout import Layout, UnfitError


def detect(tree: Tree, kind: str | None, table: str | None, columns: Mapping[str, str]) -> Layout:
    """Detect the layout of the files of `tree`, with the values of `data.layout`, `data.table` and `data.columns`.

    Raises:
        DataError: No layout fits, or several do.
    """
    entries = tree.listing.entries
    candidates: dict[str, Callable[[], Layout | None]] = {
        "table": lambda: label_tables.listed_in_table(tree, table, columns),
        "parquet": lambda: containers.parquet(tree, columns),
        "idx": lambda: containers.in_one_folder("idx", entries),
        "cifar": lambda: containers.in_one_folder("cifar", entries),
        "arrays": lambda: containers.arrays(entries),
        "splits": lambda: folders.by_split(tree),
        "folders": lambda: folders.by_class(tree),
    }
    if kind is not None:
        layout = candidates[kind]()
        if layout is None:
            raise DataError(
                f"data.layout={kind} must fit the files of data.source; they are {summary(tree.listing)}. Set "
                "data.layout=null to have it found."
            )
        return layout
    fitting, problem = [], None
    for candidate in candidates.values():
        try:
            layout = candidate()
        except UnfitError as error:
            problem = problem or error
        else:
            fitting += [layout] if layout is not None else []
    if not fitting:
        raise problem or DataError(
            "data.source must hold images in folders named by class, in train/val/test folders of these, or beside a table "
            f"that names each file and its label; or Parquet, IDX, CIFAR or NumPy files. Found {summary(tree.listing)}."
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
