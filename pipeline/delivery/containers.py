"""Reads the images of files that hold many, and finds those that a table lists: Parquet, IDX, CIFAR, NumPy; CSV and lists."""

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.source import SourcePart
from pipeline.delivery.images import Image, broken
from pipeline.errors import DataError
from pipeline.source.archives import ZipTree
from pipeline.source.containers import CIFAR_TEST, CIFAR_TRAIN, image_column
from pipeline.source.files import READ_ERRORS, Entry, Tree, reason
from pipeline.source.layout import COLUMN_NAMES, Layout, extension

Named = tuple[str, Image]
LeaveOut = Callable[[str, str], None]

ROWS = 64
"""Number of rows of a Parquet file that are read at a time."""


def may_hold_images(path: str) -> bool:
    """Whether the name is that of a file that may hold many images.

    >>> may_hold_images("t10k-images-idx3-ubyte.gz"), may_hold_images("x.parquet"), may_hold_images("1.png")
    (True, True, False)
    """
    name = path.rpartition("/")[2].lower()
    return (
        extension(path) in ("parquet", "npy", "npz") or "idx3" in name or "idx1" in name
        or name in (*CIFAR_TRAIN, CIFAR_TEST)
    )  # fmt: skip


def holds_images(tree: Tree, entry: Entry) -> bool:
    """Whether a file holds many images; a Parquet file may also be a table of their names."""
    if extension(entry.path) != "parquet":
        return may_hold_images(entry.path)
    return _column_of_parquet(tree, entry) != ""


def images(
    tree: Tree, entry: Entry, local: Path | None, name: str, scratch: Path, max_bytes: int, leave_out: LeaveOut
) -> Iterator[Named]:
    """The images of a file, each named by its place there; a file that cannot be read counts as one such image.

    Args:
        tree: Tree that holds the file.
        entry: The file.
        local: Its path on this machine; None where it has none.
        name: Its name for the user.
        scratch: Folder for copies of what cannot be mapped where it is.
        max_bytes: Limit for these.
        leave_out: Takes a path that holds no images, and the reason.
    """
    try:
        if extension(entry.path) == "parquet":
            yield from _of_parquet(tree, entry, name, leave_out)
            return
        if "idx1" in entry.path.lower():
            leave_out(entry.path, "labels")
            return
        if extension(entry.path) == "npz":
            yield from _of_npz(tree, entry, name, scratch, max_bytes, leave_out)
            return
        if local is None or entry.path.endswith(".gz"):
            local = _copied(tree, entry.path, scratch, max_bytes)
        yield from _rows(_mapped(local), entry.path, name, leave_out)
    except DataError as error:
        yield name, broken(str(error))
    except READ_ERRORS as error:
        yield name, broken(reason(error))


def listed(tree: Tree, entry: Entry, path: Path, name: str) -> Iterator[Named]:
    """The files that a table names, relative to its folder or to the working folder.

    Raises:
        DataError: It cannot be read as a table, or names no file that is there.
    """
    from pipeline.source.label_columns import path_column
    from pipeline.source.tables import read_table

    def find(cell: str) -> str | None:
        for place in (path.parent / cell, Path(cell).expanduser()) if cell else ():
            if place.is_file():
                return str(place)
        return None

    rows = _lines(path, find) if extension(entry.path) == "txt" else []
    if not rows:
        try:
            table = read_table(tree, entry)
        except DataError as error:
            raise DataError(f"{name} must be a table that names images; it cannot be read: {error}.") from None
        rows = table.rows
    column = path_column(rows[0], rows, find) if rows else None
    if column is None or not any(find(row[column]) for row in rows[:1000]):
        raise DataError(
            f"{name} must name image files, relative to its folder, in a column such as {COLUMN_NAMES['path'][0]!r}; no cell "
            f"of its {len(rows):,} rows names a file that is there."
        )
    has_header = find(rows[0][column]) is None and len(rows) > 1
    for row in rows[has_header:]:
        if cell := row[column]:
            yield found if (found := find(cell)) else cell, Path(found) if found else broken("there is no such file")


def _lines(path: Path, find: Callable[[str], str | None]) -> list[list[str]]:
    """The lines of a list of files, whose names may hold spaces; none where the first line is not such a name."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError):
        return []
    return [[line] for line in lines] if lines and find(lines[0]) else []


def _column_of_parquet(tree: Tree, entry: Entry) -> str:
    """Name of the column with images; empty where there is none, or where the file cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with tree.open(entry) as file:
            return image_column(pq.read_schema(file), {}) or ""
    except (pa.ArrowException, *READ_ERRORS):
        return ""


def _of_parquet(tree: Tree, entry: Entry, name: str, leave_out: LeaveOut) -> Iterator[Named]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with tree.open(entry) as file:
            table = pq.ParquetFile(file, pre_buffer=False)
            if (column := image_column(table.schema_arrow, {})) is None:
                leave_out(entry.path, "a table without images")
                return
            names = [column, *(each for each in ("path",) if each in table.schema_arrow.names and each != column)]
            row = 0
            for batch in table.iter_batches(ROWS, columns=names):
                for value, *path in zip(*(batch[each].to_pylist() for each in names), strict=True):
                    content, own = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
                    place = next((each for each in (*path, own) if isinstance(each, str) and each), None)
                    yield f"{name}/{place}" if place else f"{name}[{row}]", content or b""
                    row += 1
    except pa.ArrowException as error:
        raise DataError(f"it is no whole Parquet file ({reason(error)})") from None


def _of_npz(tree: Tree, entry: Entry, name: str, scratch: Path, max_bytes: int, leave_out: LeaveOut) -> Iterator[Named]:
    scratch.mkdir(parents=True, exist_ok=True)
    with tree.open(entry) as file, zipfile.ZipFile(file) as archive:
        arrays = ZipTree(archive)
        for array in arrays.listing.entries:
            path = _copied(arrays, array.path, Path(mkdtemp(dir=scratch)), max_bytes)
            inner = f"{entry.path}/{array.path}"
            yield from _rows(_mapped(path), inner, f"{name}/{array.path.removesuffix('.npy')}", leave_out)


def _copied(tree: Tree, path: str, scratch: Path, max_bytes: int) -> Path:
    """A copy of a file on this machine, unpacked if it is gzipped."""
    from pipeline.source.copies import copy_parts

    scratch.mkdir(parents=True, exist_ok=True)
    [part] = copy_parts(
        tree, Layout("arrays", "", parts=[SourcePart(split="", images=[path])]), scratch, max_bytes
    )  # fmt: skip
    return scratch / part.images[0]


def _mapped(path: Path) -> NDArray[np.uint8] | None:
    """The images of a file of pixels, of shape (n, height, width, channels); None where its array holds something else."""
    from pipeline.data import pixel_files

    name = path.name.lower()
    if "idx3" in name:
        return pixel_files.idx_images(path)
    if name.endswith(".bin"):
        return pixel_files.cifar_images(path)
    array = pixel_files.map_array(path)
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        return array[None]  # one image in colour
    if array.ndim == 3:
        array = array[..., None]
    is_images = array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] in (1, 3, 4)
    return array if is_images and 0 not in array.shape[1:] else None


def _rows(array: NDArray[np.uint8] | None, path: str, name: str, leave_out: LeaveOut) -> Iterator[Named]:
    if array is None:
        leave_out(path, "no uint8 array of images")
        return
    for row in range(len(array)):
        yield f"{name}[{row}]", partial(_row, array, row)


def _row(array: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
    return np.array(array[row])
