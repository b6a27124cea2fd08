"""What the layouts of files have in common: images with labels, or files that hold many, and how their names are read."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import DataError
from pipeline.source.files import Entry, Skipped, Tree

IMAGES = (
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "jp2", "j2k", "ppm", "pgm", "pbm",
    "pnm",
)  # fmt: skip
TABLES = ("csv", "tsv", "jsonl", "parquet")
OTHERS = (
    *TABLES, "txt", "md", "rst", "json", "yaml", "yml", "xml", "html", "htm", "pdf", "log", "py", "ipynb", "mat", "h5", "hdf5",
    "npz", "npy", "zip", "tar", "gz", "rar", "7z", "db", "ini", "doc", "docx", "xls", "xlsx", "pkl", "pickle", "pt", "pth",
    "mp4", "avi", "mov",
)  # fmt: skip
"""Endings of files that nobody takes for an image."""

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
"""Names of folders and values of columns, in lower case, and what they are called here."""

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img", "filepath"),
    "label": ("label", "class", "category", "target", "label_name", "class_name"),
    "split": ("split", "subset", "partition", "set"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id"),
}
"""What columns are called where `data.columns` says nothing."""


class UnfitError(DataError):
    """A layout that files begin to have; told where they have no other."""


@dataclass(frozen=True)
class Row:
    """An image file, its label, and the split and the group that it is in, as far as the source tells."""

    entry: Entry
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Found:
    """What files are.

    Attributes:
        layout: `folders`, `splits`, `table`, `parquet`, `idx`, `cifar` or `arrays`.
        title: For people, such as "image folder with 4 classes".
        rows: The images, where they are files of their own.
        skipped: Files that are no part of it.
        parts: Where they are not: the files of each split, as `pipeline.data.layouts` takes them.
        columns: Of Parquet files with images: what the columns are called.
        classes: Names, in the order of the labels, where the files tell.
    """

    layout: str
    title: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)
    classes: list[str] | None = None


def ending(path: str) -> str:
    """
    >>> ending("cats.old/1.PNG"), ending("cats.old/1")
    ('png', '')
    """
    name, _, last = path.rpartition("/")[2].rpartition(".")  # pathlib takes ten times as long
    return last.lower() if name else ""


def may_be_image(path: str) -> bool:
    """By its name; what is within a class's folder and has no known ending is left to the decoder."""
    return ending(path) not in OTHERS


MAGICS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"P5\n",
    b"P6\n",
)
"""How files of images begin; WebP and AVIF have a length before their names."""


def is_image(tree: Tree, entry: Entry) -> bool:
    """By its name, or where that speaks against it by how it begins: an image may have any name."""
    if may_be_image(entry.path):
        return True
    try:
        with tree.open(entry) as file:
            head = file.read(16)
    except Exception:  # a damaged archive raises nearly anything; such a file is none that its name does not make one
        return False
    return head.startswith(MAGICS) or head[8:12] == b"WEBP" or head[4:12] in (b"ftypavif", b"ftypavis")


def has_image_names(entries: Sequence[Entry]) -> bool:
    return any(ending(entry.path) in IMAGES for entry in entries)


def spelled(text: str) -> str:
    """`text` as it can be written: bytes of a name that are no UTF-8 are spelled out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def class_name(folder: str) -> str:
    """In composed Unicode."""
    return unicodedata.normalize("NFC", spelled(folder)).strip()


def counted(rows: Sequence[Row]) -> str:
    return f"{len({row.label for row in rows}):,} classes, {len(rows):,} images"


def match_columns(there: Sequence[str], given: Mapping[str, str]) -> dict[str, str | None]:
    """For each of `COLUMNS` the column that it is, or None."""
    lower = {name.lower().strip(): name for name in there if isinstance(name, str)}
    found: dict[str, str | None] = {}
    for key, names in COLUMNS.items():
        if key in given:
            found[key] = given[key] if given[key] in there else None
        else:
            found[key] = next((lower[name] for name in names if name in lower), None)
    return found
