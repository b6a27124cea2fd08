"""The user's own source: where it is, and whether it has changed since it was last read."""

import hashlib
import json
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.config.schema_data import Folder
from pipeline.errors import DataError
from pipeline.source.download import Patience, download
from pipeline.source.trees import opened
from pipeline.source.unpack import MirrorError


def asked(data: Folder) -> str:
    """Names what the configuration asks for, whatever the source holds."""
    return _digest(data.model_dump())


def max_bytes(data: Folder) -> int:
    """Of all files together."""
    return int(data.max_gigabytes * 1e9)


def version(data: Folder, root: Path) -> str | None:
    """Names the files of the source by path, size and time of change; None where it cannot be had.

    What an http address serves is taken to stay as it is.
    """
    source = located(str(data.source), root)
    if _on_web(source):
        return ""
    try:
        with opened(source, data.storage_options, max_bytes(data)) as tree:
            entries = tree.listing.entries
    except DataError:
        return None
    return _digest(entries)


def located(source: str, root: Path) -> str:
    """`source` as an absolute path, one that is relative to `root`; an address as it is."""
    return source if "://" in source else str(root / Path(source).expanduser())


def at_hand(source: str, root: Path, cache: Path, max_bytes: int) -> str:
    """What can be opened: a path or a bucket as it is, a file of the web downloaded into `cache`.

    Raises:
        DataError: The file cannot be downloaded.
    """
    source = located(source, root)
    if not _on_web(source):
        return source
    target = cache / (Path(urlsplit(source).path).name or "download")
    try:
        download(source, target, Patience(), lambda now, total: None, max_bytes)
    except MirrorError as error:
        raise DataError(f"data.source must be a file that can be downloaded; {source} cannot: {error}.") from error
    return str(target)


def _on_web(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
