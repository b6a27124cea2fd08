"""Reads the table of corrected labels that `data.relabel` names."""

from pathlib import Path

from pipeline.artefacts.source import RELABELLING, SourceRecord
from pipeline.config.schema_data import Folder
from pipeline.errors import DataError
from pipeline.source.files import DamagedError, FileTree
from pipeline.source.layout import extension
from pipeline.source.tables import FORMATS, UNREAD, read_table
from pipeline.storage import atomic
from pipeline.storage.digests import digest, sha256_of
from pipeline.storage.tables import to_csv

COLUMNS = ("path", "old", "new")


def table_file(data: Folder, root: Path) -> Path | None:
    """The table's file, relative to `root`; None without one."""
    return None if data.relabel is None else root / Path(data.relabel).expanduser()


def corrections(data: Folder, root: Path) -> str:
    """The corrections as CSV with `COLUMNS` alone, so that other columns and another order of them change nothing.

    Raises:
        DataError: The file is not there, is no table, or lacks a column or a cell.
    """
    file = table_file(data, root)
    assert file is not None
    if not file.is_file():
        raise DataError(
            f"data.relabel must be a table of labels to correct that is there; got {data.relabel}, which is not. "
            "`python -m pipeline.audit` writes one; data.relabel=null keeps the labels of data.source."
        )
    if extension(file.name) not in FORMATS or extension(file.name) in UNREAD:
        raise DataError(f"data.relabel must be a .csv file; got {data.relabel}. Save it as one.")
    tree = FileTree(file)
    try:
        table = read_table(tree, tree.listing.entries[0])
    except DamagedError as error:
        raise DataError(f"data.relabel must be readable as a table; {data.relabel} is not: {error}.") from None
    header = [name.strip().lower() for name in table.rows[0]] if table.rows else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"data.relabel must have the columns path, old and new; {data.relabel} lacks {', '.join(missing)}. Keep the first "
            "line of suspects.csv as it is."
        )
    places = [header.index(name) for name in COLUMNS]
    rows = [[row[place] for place in places] for row in table.rows[1:]]
    for row, line in zip(rows, table.lines[1:], strict=True):
        if not all(row):
            empty = COLUMNS[row.index("")]
            raise DataError(
                f"data.relabel must have a path, an old and a new label in each row; line {line} of {data.relabel} has no "
                f"{empty}. Fill it in, or take the row out."
            )
    return to_csv(COLUMNS, [[cell.removeprefix("'") if _guarded(cell) else cell for cell in row] for row in rows])


def fingerprint(data: Folder, root: Path, kept: SourceRecord, recorded: str | None) -> str | None:
    """The fingerprint of images that are kept, as `recorded`, once they have the corrections of `data`.

    Where the table is gone, the kept corrections stay; None where there are none to stay.

    Raises:
        DataError: The table cannot be read.
    """
    has, table = kept.files.get(RELABELLING), table_file(data, root)
    if table is not None and not table.is_file():
        return recorded if has else None
    wanted = None if table is None else sha256_of(corrections(data, root).encode())
    return recorded if wanted == has else digest({"kept": recorded, "relabel": wanted})


def put_in_place(data: Folder, root: Path, out: Path) -> None:
    """Give images that were copied into `out` from an earlier fetch the corrections of `data`, where its table is there.

    Raises:
        DataError: The table cannot be read.
    """
    table = table_file(data, root)
    if table is not None and not table.is_file():
        return
    record = SourceRecord.read(out)
    files = {name: sha for name, sha in record.files.items() if name != RELABELLING}
    (out / RELABELLING).unlink(missing_ok=True)
    if table is not None:
        text = corrections(data, root)
        atomic.write_text(out / RELABELLING, text)
        files[RELABELLING] = sha256_of(text.encode())
    record.model_copy(update={"files": files}).write(out)


def _guarded(cell: str) -> bool:
    """Whether a cell begins with the apostrophe that we put before what a spreadsheet would take for a formula."""
    return cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@")
