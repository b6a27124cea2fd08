"""Which layout files have: found by looking at their names, and into those that could be a table."""

from collections.abc import Callable, Mapping

from pipeline.errors import DataError
from pipeline.source import containers, folders, label_tables
from pipeline.source.files import Listing, Tree
from pipeline.source.layout import Found, UnfitError


def find(tree: Tree, layout: str | None, table: str | None, columns: Mapping[str, str]) -> Found:
    """What the files of `tree` are.

    Args:
        tree: The source.
        layout: `data.layout`: the one to take; None: the only one that fits.
        table: `data.table`: the file that names the images; None: the only one that does.
        columns: `data.columns`: what its columns are called, as far as they differ from `COLUMNS`.

    Raises:
        DataError: No layout fits, or several do.
    """
    entries = tree.listing.entries
    candidates: dict[str, Callable[[], Found | None]] = {
        "table": lambda: label_tables.listed_in_table(tree, table, columns),
        "parquet": lambda: containers.parquet(tree, columns),
        "idx": lambda: containers.idx(entries),
        "cifar": lambda: containers.cifar(entries),
        "arrays": lambda: containers.arrays(entries),
        "splits": lambda: folders.by_split(tree),
        "folders": lambda: folders.by_class(tree),
    }
    if layout is not None:
        found = candidates[layout]()
        if found is None:
            raise DataError(
                f"data.layout={layout} must fit the files of data.source; they are {shown(tree.listing)}. Set "
                "data.layout=null to have it found."
            )
        return found
    fitting, problem = [], None
    for candidate in candidates.values():
        try:
            found = candidate()
        except UnfitError as error:
            problem = problem or error
        else:
            fitting += [found] if found is not None else []
    if not fitting:
        raise problem or DataError(
            "data.source must hold images in folders named by class, in train/val/test folders of these, or beside a table "
            f"that names each file and its label; or Parquet, IDX, CIFAR or NumPy files. Found {shown(tree.listing)}."
        )
    if len(fitting) > 1:
        options = "; ".join(f"data.layout={found.layout} ({found.title})" for found in fitting)
        raise DataError(f"data.source can be read in more than one way. Choose one: {options}.")
    return fitting[0]


def shown(listing: Listing) -> str:
    """The first files, and the first that was left out, for people."""
    entries, skipped = listing.entries, listing.skipped
    names = ", ".join(entry.path for entry in entries[:5])
    files = f"{len(entries):,} files: {names}{', …' if len(entries) > 5 else ''}" if entries else "no file"
    return (
        f"{files}; {len(skipped):,} left out, such as {skipped[0].path} ({skipped[0].evidence})" if skipped else files
    )
