"""`source.json`: the raw files that `fetch` got."""

from typing import Any, ClassVar

from pipeline.artefacts.artefact import Artefact

SPLITS = ("train", "val", "test")
"""Names of the splits that a source may come with."""


class SourceRecord(Artefact):
    """What the files in `downloads/` and `data/` are.

    Attributes:
        name: Name of the dataset.
        layout: Layout of the files, as `pipeline.data.layouts` names it.
        found: Layout of the user's own source, in words; None for published data.
        asked: Digest of the keys that the user's own source was asked for with; None for published data.
        parts: Files of each split, as the layout's reader takes them; None where the layout alone tells.
        columns: Columns of Parquet files by their role; None where their names are the usual ones.
        classes: Names of the classes, in the order of the labels; None where the labels themselves are the names.
        licence: Licence of the images.
        source: Where the images come from, for people.
        files: SHA-256 of each file, by name.
    """

    FILE: ClassVar[str] = "source.json"
    STAGE: ClassVar[str] = "fetch"

    name: str
    layout: str
    found: str | None
    asked: str | None
    parts: dict[str, Any] | None
    columns: dict[str, str | None] | None
    classes: list[str] | None
    licence: str
    source: str
    files: dict[str, str]
