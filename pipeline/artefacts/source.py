"""`source.json`: the raw files that `fetch` got."""

from pipeline.artefacts.artefact import Artefact, Record

SPLITS = ("train", "val", "test")
"""Names of the splits that a source may come with."""

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
"""Split by the name of a folder or the value of a column, in lower case."""

LEFT_OUT = {
    "damaged": "it cannot be read from the source",
    "encrypted": "it needs a password",
    "link": "a link that leads out of the source or nowhere, or is in an archive",
    "linked_folder": "a link to a folder outside of the source",
    "missing": "a table lists it, and it is not there",
    "no_file": "neither a file nor a folder, such as a device",
    "not_an_image": "something else than an image",
    "too_large": "more bytes than data.max_file_megabytes",
    "unlabelled": "a table gives it no label",
    "unlisted": "an image that no table lists, or that lies in no class's folder",
    "unread_format": "a picture in a format that is not read",
    "unsafe_name": "a name that would lead out of its archive",
}
"""Reasons for which `fetch` leaves a file out."""


class SourcePart(Record):
    """Files with images of one split.

    Attributes:
        split: One of `SPLITS`; an empty text where the source does not tell, or tells it for each image.
        images: Names of the files with images.
        labels: Name of the file with their labels; None where the files with images hold the labels too.
    """

    split: str
    images: list[str]
    labels: str | None = None


class Correction(Record):
    """The corrected label of an image; both labels are names of classes."""

    path: str
    old: str
    new: str


RELABELLING = "relabel.csv"
"""Name of the file with the corrected labels, as `data.relabel` gives them: path, old, new."""


class SourceRecord(Artefact, file="source.json", stage="fetch"):
    """The files in `downloads/` and `data/`.

    Attributes:
        name: Name of the dataset.
        layout: Layout of the files, as `pipeline.data.raw_dataset` names it.
        found: Layout of the user's own source, in words; None for published data.
        asked: Digest of the keys that the user's own source was asked for with; None for published data.
        parts: Files that hold many images each; None where they have their layout's usual names.
        columns: Columns of Parquet files by their role; None where their names are the usual ones.
        classes: Names of the classes, in the order of the labels; None where the labels themselves are the names.
        licence: Licence of the images.
        source: Origin of the images, for people.
        files: SHA-256 of each file, by name.
    """

    name: str
    layout: str
    found: str | None = None
    asked: str | None = None
    parts: list[SourcePart] | None = None
    columns: dict[str, str | None] | None = None
    classes: list[str] | None
    licence: str
    source: str
    files: dict[str, str]
