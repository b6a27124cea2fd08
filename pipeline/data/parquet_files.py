"""Reads Parquet files with encoded images, as `fetch` packs them and as the Hugging Face hub stores them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefacts.source import SPLIT_NAMES, SourcePart
from pipeline.errors import DataError

Columns = Mapping[str, str | None]

COLUMNS = {name: name for name in ("image", "label", "path", "split", "group")}
"""Columns by role, as `fetch` packs them."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file, whose `column` holds the images: bytes, or structs with a field `bytes`."""

    path: Path
    number: int
    column: str
    num_images: int

    def read(self) -> list[bytes]:
        """The bytes of each encoded image; none for a missing image."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, memory_map=True) as file:
            values = file.read_row_group(self.number, columns=[self.column])[self.column].to_pylist()
        return [(value.get("bytes") if isinstance(value, dict) else value) or b"" for value in values]


@dataclass(frozen=True)
class ParquetRows:
    """Row groups, and the columns beside the images in their order; see `pipeline.data.raw_dataset.RawDataset`."""

    blocks: list[RowGroup]
    labels: list[Any]
    splits: list[str]
    ids: list[str]
    files: list[str]
    groups: list[str]


def read_parquet(folder: Path, parts: Sequence[SourcePart] | None, columns: Columns | None) -> ParquetRows:
    """Read the columns beside the images of `parts`, or of all files of the folder.

    A role that `columns` lacks, or maps to None, has no column; without `columns`, `COLUMNS` count.

    Raises:
        DataError: A file is missing, damaged, or without its column of images or labels; or an image has no label.
    """
    roles = {**dict.fromkeys(COLUMNS), **(columns or COLUMNS)}
    rows = ParquetRows([], [], [], [], [], [])
    if not parts:
        parts = [SourcePart(split="", images=[path.name]) for path in sorted(folder.glob("*.parquet"))]
    for part in parts:
        for name in part.images:
            _read_file(folder / name, part.split, roles, rows)
    if not rows.labels:
        raise DataError(f"{folder} must hold Parquet files with images; there is none with a row.")
    return rows


def _read_file(path: Path, split: str, roles: Columns, rows: ParquetRows) -> None:
    """Append the rows of one file to `rows`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            names = set(file.schema_arrow.names)
            wanted = {role: name for role, name in roles.items() if name in names and role != "image"}
            if roles["image"] not in names or "label" not in wanted:
                raise DataError(
                    f"{path} must have the columns {roles['image']!r} and {roles['label']!r}; it has "
                    f"{', '.join(sorted(names))}. Name them with data.columns."
                )
            for role, name in wanted.items():
                if pa.types.is_nested(kind := file.schema_arrow.field(name).type):
                    raise DataError(
                        f"{path} must have one value a row in {name!r}, the column with the {role}; it has {kind}. Name "
                        f"another column with data.columns={{{role}: …}}."
                    )
            table = file.read(columns=list(wanted.values()))
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    except FileNotFoundError:
        raise DataError(f"{path} must be there, as source.json says; there is no such file.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} must be a whole Parquet file; got a damaged one ({error}).") from None

    def column(role: str) -> list[Any]:
        return table[wanted[role]].to_pylist() if role in wanted else [None] * len(table)

    labels = column("label")
    if None in labels:
        raise DataError(f"{path} must have a label for each image; row {labels.index(None)} has none.")
    rows.blocks.extend(RowGroup(path, number, str(roles["image"]), size) for number, size in enumerate(sizes) if size)
    rows.labels.extend(labels)
    rows.splits.extend([_split(path, value) or split for value in column("split")])
    rows.ids.extend([value or f"{path.stem}-{number:06d}" for number, value in enumerate(column("path"))])
    rows.files.extend([path.name] * len(table))
    rows.groups.extend(["" if value is None else str(value) for value in column("group")])


def _split(path: Path, value: Any) -> str:
    """`train`, `val` or `test`, or an empty text, for a value of the column with the splits."""
    name = str("" if value is None else value).strip().lower()
    if name and name not in SPLIT_NAMES:
        raise DataError(
            f"{path} must have train, val or test as its splits; got {value!r}. Name another column with data.columns."
        )
    return SPLIT_NAMES.get(name, "")
