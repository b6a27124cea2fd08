"""Locates and opens the user's own source, and tells whether it has changed since it was last read."""

import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.config.schema_data import Folder
from pipeline.config.secrets import masked, resolved, without_secrets
from pipeline.config.section import refused
from pipeline.errors import ConfigError, DataError
from pipeline.image_formats import EXTRAS, is_installed
from pipeline.source import relabel_table
from pipeline.source.archives import BoundedTarInfo, TarTree, ZipTree
from pipeline.source.buckets import Bucket
from pipeline.source.download import Patience, download
from pipeline.source.files import READ_ERRORS, FileTree, FolderTree, Tree, reason
from pipeline.source.unpack import MirrorError
from pipeline.storage.digests import digest, sha256

ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
"""Name extensions of archives."""


def asked(data: Folder) -> str:
    """Digest of the keys that the configuration asks for the source with; a new token or password leaves it as it was.

    `data.relabel` does not count: the table of corrected labels is kept beside the images.
    """
    return digest(without_secrets(data.model_dump(exclude={"relabel"})))


def connecting(data: Folder) -> Folder:
    """The section with the environment's values in its addresses and options; never written anywhere.

    Raises:
        ConfigError: A variable that it asks for is not set, or is empty and the source.
    """
    values = resolved(data.model_dump(include={"source", "storage_options"}))
    if not values["source"]:
        raise refused("data.source", "the path or the address of your images", data.source)
    return data.model_copy(update=values)


def max_bytes(data: Folder) -> int:
    """Limit for all files together."""
    return int(data.max_gigabytes * 1e9)


def version(data: Folder, root: Path) -> str | None:
    """Digest of the files' paths, sizes and times of change, of the formats that can be read here, and of corrected labels.

    None where the source or the table of corrected labels cannot be reached. The file at an http address is assumed never
    to change.
    """
    try:
        there = connecting(data)
    except ConfigError:  # a variable that it asks for is not set
        return None
    table = relabel_table.table_file(data, root)
    if table is not None and not table.is_file():
        return None
    source = located(there.source, root)
    extras = [extra for extra in EXTRAS if is_installed(extra)] + ([sha256(table)] if table is not None else [])
    if _on_web(source):  # what the configuration writes out is part of `asked`
        return digest([extras, "" if there.source == data.source else masked(source)])
    try:
        with opened(source, there.storage_options, max_bytes(data), data.follow_links) as tree:
            return digest([tree.listing.entries, extras])
    except DataError:
        return None


def located(source: str, root: Path) -> str:
    """`source` as an absolute path, where it is relative to `root`; an address as it is."""
    return source if "://" in source else str(root / Path(source).expanduser())


def local_copy(source: str, storage_options: Mapping[str, Any], root: Path, cache: Path, max_bytes: int) -> str:
    """The path or bucket of a source as `opened` takes it.

    A file of the web and an archive in a bucket are copied into `cache` first.

    Raises:
        DataError: The file cannot be downloaded, or has more than `max_bytes`.
        ConfigError: The package for the address is not installed.
    """
    source = located(source, root)
    if "://" in source and not _on_web(source) and source.lower().endswith(ARCHIVES):
        return Bucket(source, storage_options).archive_in(cache, max_bytes) or source
    if not _on_web(source):
        return source
    target = cache / (Path(urlsplit(source).path).name or "download")
    try:
        download(source, target, Patience(), lambda now, total: None, max_bytes)
    except MirrorError as error:
        raise DataError(
            f"data.source must be a file that can be downloaded; {masked(source)} cannot: {masked(str(error))}."
        ) from error
    return str(target)


@contextmanager
def opened(
    source: str, storage_options: Mapping[str, Any], max_bytes: int, follow_links: bool = False
) -> Iterator[Tree]:
    """Open the files of a folder, an archive, a file or an address that fsspec knows, and close them at the block's end.

    `max_bytes` is the limit for the content of an archive that must be unpacked to be listed; `follow_links` is
    `data.follow_links`, for a folder.

    Raises:
        DataError: The source does not exist, or cannot be read.
        ConfigError: The package for the address is not installed.
    """
    if "://" in source:
        yield Bucket(source, storage_options)
        return
    with ExitStack() as stack:
        yield _opened_path(Path(source).expanduser(), max_bytes, follow_links, stack)


def _opened_path(path: Path, max_bytes: int, follow_links: bool, stack: ExitStack) -> Tree:
    try:
        if path.is_dir():
            return FolderTree(path, follow_links)
        if not path.is_file():
            raise DataError(
                f"data.source must be a folder, an archive or a file that is there; got {path}, which is not."
            )
        if path.suffix.lower() != ".npz" and zipfile.is_zipfile(path):
            return ZipTree(stack.enter_context(zipfile.ZipFile(path)))
        if tarfile.is_tarfile(path):
            return TarTree(stack.enter_context(tarfile.open(path, tarinfo=BoundedTarInfo)), max_bytes)
        if path.name.lower().endswith(ARCHIVES):
            raise DataError(f"{path} must be a whole archive; its beginning or its end is not that of one.")
        return FileTree(path)
    except (DataError, RecursionError):
        raise
    except PermissionError as error:
        raise DataError(f"{error.filename} must be readable; it is not ({error.strerror}).") from error
    except READ_ERRORS as error:
        raise DataError(f"{path} must be a whole archive; got a damaged one ({reason(error)}).") from error


def _on_web(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))
