"""Lists and reads the files of a bucket: S3, Google Cloud Storage, Azure or SSH, through fsspec."""

import io
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipeline.config.secrets import MASK, masked, secret_values
from pipeline.errors import ConfigError, DataError
from pipeline.source.files import Entry, Listing, hidden, reason
from pipeline.storage.atomic import room_for

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "ssh": "ssh",
          "sftp": "ssh"}  # fmt: skip
"""The extra of goodfit that installs the package for each kind of address."""

ONE_REQUEST_BYTES = 16 << 20
"""Limit for a file that is read in one request; a larger one is read piece by piece."""


class Bucket:
    """The files below `address`.

    Raises:
        ConfigError: The package for such an address is not installed.
        DataError: The files cannot be listed, or there are none.
    """

    num_readers = 16  # an answer takes tens of milliseconds, whatever its size
    root = ""

    def __init__(self, address: str, storage_options: Mapping[str, Any], key: str = "data.source") -> None:
        from fsspec import get_filesystem_class
        from fsspec.core import url_to_fs

        self._address, self._secrets, self._key = masked(address), secret_values(storage_options), key
        scheme = address.partition("://")[0]
        try:
            get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            mend = f"Known are {', '.join(sorted(EXTRAS))}."
            if scheme in EXTRAS:
                mend = f"Install it with `pip install -e '.[{EXTRAS[scheme]}]'`."
            raise ConfigError(f"{key}={masked(address)} needs a package for {scheme}:// ({error}). {mend}") from None
        try:
            self._files, self._root = url_to_fs(address, **storage_options)
            files = self._files.find(self._root, detail=True)
        except Exception as error:  # each file system raises its library's own
            raise DataError(
                f"{key} must be a folder that can be listed; {self._address} cannot: {self._short(error)}. Correct the "
                "address, or give what it needs in data.storage_options or in the environment."
            ) from None
        self._names: dict[str, str] = {}
        self.listing = Listing()
        for name, info in sorted(files.items()):
            path = name.removeprefix(self._root).lstrip("/") or PurePosixPath(name).name
            if info.get("type") == "directory" or hidden(path):
                continue
            stamp = next((str(info[key]) for key in ("ETag", "etag", "LastModified", "mtime") if key in info), "")
            self._names[path] = name
            self.listing.entries.append(Entry(path, int(info.get("size") or 0), stamp))
        if not self.listing.entries:
            raise DataError(f"{key} must hold files; {self._address} holds none.")

    def archive_in(self, folder: Path, max_bytes: int) -> str | None:
        """Copy the archive into `folder`, and give its path there; None where the address is that of a folder.

        Raises:
            DataError: It has more than `max_bytes` or cannot be read, or the disk is full.
        """
        only = self.listing.entries[0]
        if len(self.listing.entries) > 1 or self._names[only.path] != self._root:
            return None
        if only.size > max_bytes:
            raise DataError(
                f"data.source must be at most {max_bytes / 1e9:g} GB (data.max_gigabytes); {masked(self._address)} has "
                f"{only.size / 1e9:.3g} GB. Raise it if that is meant."
            )
        target = folder / only.path
        folder.mkdir(parents=True, exist_ok=True)
        with room_for(target, only.size), self.open(only) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
        return str(target)

    def open(self, entry: Entry) -> IO[bytes]:
        """Open a file; a missing one counts as damaged, any other error is an outage and raises `DataError`."""
        name = self._names[entry.path]
        try:
            if entry.size <= ONE_REQUEST_BYTES:
                return io.BytesIO(self._files.cat_file(name))
            return self._files.open(name, "rb")
        except FileNotFoundError:
            raise
        except Exception as error:
            raise DataError(
                f"{self._key} must stay at hand; {entry.path} of {self._address} cannot be read: {self._short(error)}. "
                "Run it again when it can."
            ) from None

    def _short(self, error: Exception) -> str:
        text = masked(reason(error))
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text[:200]
