"""Layouts of a source: labelled image files, or files with many images, and how their names are read."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.artefacts.source import SourcePart
from pipeline.errors import DataError
from pipeline.image_formats import HEAD, WEAK_SIGNATURES, has_signature
from pipeline.source.files import Entry, Skipped, Tree

IMAGES = (
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "jp2", "j2k", "ppm", "pgm", "pbm",
    "pnm",
)  # fmt: skip
WITH_EXTRA = {"heic": "heif", "heif": "heif", "hif": "heif", "dcm": "dicom", "dicom": "dicom", "dic": "dicom"}
"""Name extensions of pictures that an extra reads, and that extra."""
UNREAD = {
    "svg": "a drawing without pixels", "jxl": "a .jxl file", "psd": "a .psd file", "exr": "an .exr file",
    "dng": "a camera's raw file", "cr2": "a camera's raw file", "cr3": "a camera's raw file", "nef": "a camera's raw file",
    "arw": "a camera's raw file", "orf": "a camera's raw file", "rw2": "a camera's raw file",
}  # fmt: skip
"""Pictures in formats that are not read: name extension, and what it is."""
PICTURES = (*IMAGES, *WITH_EXTRA, *UNREAD)
"""Name extensions of pictures."""
OTHERS = (
    "csv", "tsv", "tab", "psv", "jsonl", "ndjson", "parquet", "ods", "txt", "md", "rst", "json", "yaml", "yml", "xml", "html",
    "htm", "pdf", "log", "py", "ipynb", "mat", "h5", "hdf5", "npz", "npy", "zip", "tar", "gz", "rar", "7z", "db", "ini", "doc",
    "docx", "xls", "xlsx", "pkl", "pickle", "pt", "pth", "mp4", "avi", "mov",
)  # fmt: skip
"""Name extensions of files that are not images."""

COLUMN_NAMES = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img", "filepath"),
    "label": (
        "label", "class", "category", "target", "label_name", "class_name", "labels", "diagnosis", "dx", "breed", "species",
    ),
    "split": ("split", "subset", "partition", "set"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id", "lesion_id"),
}  # fmt: skip
"""Names of columns by their role, in lower case, where `data.columns` gives none."""


class UnfitError(DataError):
    """Raised when files have a layout in part; shown where no other layout fits."""


@dataclass(frozen=True)
class LabelledFile:
    """An image file with its class, its split, and the group that must stay in one split; empty where nothing tells."""

    entry: Entry
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Layout:
    """Layout of a source.

    Attributes:
        kind: `folders`, `splits`, `table`, `parquet`, `idx`, `cifar` or `arrays`.
        title: Description for people, such as "image folder with 4 classes".
        images: Image files with their labels, where each image is a file.
        skipped: Files that are left out.
        parts: Files that hold many images each.
        archive: NumPy archive (`.npz`) that holds the arrays.
        columns: Columns of the Parquet files by their role.
        classes: Names of the classes, in the order of the labels, where the files tell them.
        folders_tell: Whether a table tells splits or groups, and the folders the labels.
    """

    kind: str
    title: str
    images: list[LabelledFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    parts: list[SourcePart] = field(default_factory=list)
    archive: str | None = None
    columns: dict[str, str | None] = field(default_factory=dict)
    classes: list[str] | None = None
    folders_tell: bool = False

    @property
    def labels(self) -> set[str]:
        """The classes of the images."""
        return {image.label for image in self.images}


def extension(path: str) -> str:
    """The extension of a file's name, in lower case and without its dot.

    >>> extension("cats.old/1.PNG"), extension("cats.old/1")
    ('png', '')
    """
    name, _, last = path.rpartition("/")[2].rpartition(".")  # pathlib takes ten times as long
    return last.lower() if name else ""


def may_be_image(path: str) -> bool:
    """Whether the name allows an image. A file in a class's folder with an unknown extension is left to the decoder."""
    return extension(path) not in OTHERS


def is_image(tree: Tree, entry: Entry) -> bool:
    """Whether the name allows an image, or the first bytes are those of one: an image may have any name."""
    if may_be_image(entry.path):
        return True
    try:
        with tree.open(entry) as file:
            head = file.read(HEAD)
    except Exception:  # a damaged archive raises nearly anything
        return False
    return has_signature(head) or head.startswith(WEAK_SIGNATURES)


def has_image_names(entries: Sequence[Entry]) -> bool:
    return any(extension(entry.path) in PICTURES for entry in entries)


def as_utf8(text: str) -> str:
    """`text` with each byte that is not valid UTF-8 as an escape sequence, so that it can be written."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def class_name(folder: str) -> str:
    """Name of a class in composed Unicode."""
    return unicodedata.normalize("NFC", as_utf8(folder)).strip()


def counted(images: Sequence[LabelledFile]) -> str:
    return f"{len({image.label for image in images}):,} classes, {len(images):,} images"


def match_columns(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str | None]:
    """The column among `names` for each role: the one that the user has given, or a usual name; None where there is none.

    Raises:
        DataError: No column has a name that the user has given.
    """
    by_lower_name = {name.lower().strip(): name for name in names if isinstance(name, str)}
    columns: dict[str, str | None] = {}
    for role, usual in COLUMN_NAMES.items():
        if role in given and given[role] not in names:
            raise DataError(
                f"data.columns.{role} must name a column: {', '.join(map(str, names))}; got {given[role]!r}."
            )
        usual_column = next((by_lower_name[name] for name in usual if name in by_lower_name), None)
        columns[role] = given.get(role, usual_column)
    return columns
