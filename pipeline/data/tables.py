"""Parquet files with encoded images, as `fetch` packs them and as the Hugging Face hub stores them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.source.layout import SPLITS

COLUMNS = {"image": "image", "label": "label", "path": "path", "split": "split", "group": "group"}
"""What the columns are called where `source.json` says nothing else."""


@dataclass(frozen=True)
class TableBlock:
    """A row group of a Parquet file.

    Attributes:
        path: The file.
        row_group: Its number in the file.
        column: That holds the images: bytes, or a struct with a field `bytes`.
        num_images: Rows.
    """

    path: Path
    row_group: int
    column: str
    num_images: int

    def read(self) -> list[bytes]:
        """The bytes of each encoded image; those of a missing one are empty."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, memory_map=True) as file:
            values = file.read_row_group(self.row_group, columns=[self.column])[self.column].to_pylist()
        return [(value.get("bytes") if isinstance(value, dict) else value) or b"" for value in values]


@dataclass(frozen=True)
class Tables:
    """What the columns beside the images say, in the order of `blocks`; see `pipeline.data.layouts.RawDataset`."""

    blocks: list[TableBlock]
    labels: list[Any]
    splits: list[str]
    ids: list[str]
    files: list[str]
    groups: list[str]


def read_tables(
    folder: Path, parts: Mapping[str, Mapping[str, Any]] | None, columns: Mapping[str, str | None] | None
) -> Tables:
    """Read all that is said of the images in the Parquet files of `folder`, and none of the images.

    Args:
        folder: Of the files.
        parts: The files that count and for each its `split`, as far as it is known; None: all of them.
        columns: Names of the columns, as `COLUMNS` has them; those that are left out or null are not there.

    Raises:
        DataError: A file is missing, damaged, or without its column of images or labels; or an image has no label.
    """
    names = {**dict.fromkeys(COLUMNS), **(columns or COLUMNS)}
    tables = Tables([], [], [], [], [], [])
    for file, about in (parts or {path.name: {} for path in sorted(folder.glob("*.parquet"))}).items():
        _read_one(folder / file, (about or {}).get("split") or "", names, tables)
    if not tables.labels:
        raise DataError(f"{folder} must hold Parquet files with images; there is none with a row.")
    return tables


def _read_one(path: Path, split: str, names: Mapping[str, str | None], tables: Tables) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            there = set(file.schema_arrow.names)
            wanted = {key: name for key, name in names.items() if name in there and key != "image"}
            if names["image"] not in there or "label" not in wanted:
                raise DataError(
                    f"{path} must have the columns {names['image']!r} and {names['label']!r}; it has "
                    f"{', '.join(sorted(there))}. Name them with data.columns."
                )
            rows = file.read(columns=list(wanted.values()))
            groups = range(file.metadata.num_row_groups)
            sizes = [file.metadata.row_group(number).num_rows for number in groups]
    except FileNotFoundError:
        raise DataError(f"{path} must be there, as source.json says; there is no such file.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} must be a whole Parquet file; got a damaged one ({error}).") from None

    def column(key: str) -> list[Any]:
        return rows[wanted[key]].to_pylist() if key in wanted else [None] * len(rows)

    labels = column("label")
    if None in labels:
        raise DataError(f"{path} must have a label for each image; row {labels.index(None)} has none.")
    tables.blocks.extend(
        TableBlock(path, number, str(names["image"]), size) for number, size in zip(groups, sizes, strict=True) if size
    )
    tables.labels.extend(labels)
    tables.splits.extend([_split(path, value) or split for value in column("split")])
    tables.ids.extend([value or f"{path.stem}-{place:06d}" for place, value in enumerate(column("path"))])
    tables.files.extend([path.name] * len(rows))
    tables.groups.extend(["" if value is None else str(value) for value in column("group")])


def _split(path: Path, value: Any) -> str:
    """`train`, `val` or `test`, or an empty text, for what a column calls it."""
    name = str("" if value is None else value).strip().lower()
    if name and name not in SPLITS:
        raise DataError(
            f"{path} must have train, val or test as its splits; got {value!r}. Name another column with data.columns."
        )
    return SPLITS.get(name, "")
