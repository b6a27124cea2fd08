"""Gets published files from the first mirror that has them: a folder or a tar file, local, on the web or in a Debian package.

Each file is verified by the SHA-256 of its content, so files of several mirrors can be mixed.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urldefrag, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pipeline.config.secrets import masked
from pipeline.errors import DataError
from pipeline.source.debian import unpack_package
from pipeline.source.download import NotFoundError, Patience, download
from pipeline.source.unpack import BadBytesError, MirrorError, check, unpack, unpack_archive

KINDS = "a folder, a tar file, an http(s) address of one of these, or debian:<package>/<path>"

_ARCHIVE = re.compile(r".+\.(tar|tar\.gz|tgz)")
_CHECKSUM = re.compile(r"sha256=([0-9a-f]{64})")
_CHECKED = re.compile(r"#sha256=\w+$")

Taken = TypeVar("Taken")


def fetch_files(
    files: Mapping[str, str], key: str, mirrors: Sequence[str], out: Path, cache: Path, patience: Patience | None = None
) -> None:
    """Fill `out` with `files`, each from the first mirror that serves it whole.

    The terminal shows why a mirror fails; the next one is asked for the files that are still missing. The address of a tar
    file on the web may end with its checksum, as `#sha256=…`, which is checked before the file is opened. `files` holds the
    SHA-256 of the plain content by file name, and `key` is the configuration key that names the mirrors. `cache`, a folder
    for this dataset alone, keeps the pieces of broken downloads for the next call.

    Raises:
        DataError: No mirror serves a file, or the disk is full.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    reasons: dict[str, str] = {}
    for address in mirrors:
        missing = {name: sha256 for name, sha256 in files.items() if not (out / name).exists()}
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                _Mirror(address, missing, out, cache, patience or Patience(), progress).give()
        except MirrorError as error:
            reasons[address] = masked(str(error))
            console.print(f"{_shown(address)}: {reasons[address]}")
        else:
            shutil.rmtree(cache, ignore_errors=True)
            return
    raise _nothing_served(files, key, reasons)


def _shown(address: str) -> str:
    """The address without its secrets, and without a checksum."""
    return _CHECKED.sub("", masked(address))


@dataclass(frozen=True)
class _Mirror:
    """Gets the missing files from one mirror."""

    address: str
    files: Mapping[str, str]
    out: Path
    cache: Path
    patience: Patience
    progress: Progress

    def give(self) -> None:
        """Fill `out`, file by file.

        Raises:
            MirrorError: The mirror lacks a file, or fails.
        """
        scheme = self.address.partition(":")[0].lower() if ":" in self.address else ""
        if scheme in ("http", "https"):
            if _ARCHIVE.fullmatch(urlsplit(self.address).path.lower()):
                self._from_archive_on_web()
            else:
                for name, sha256 in self.files.items():
                    self._done(name, self._from_web(name, sha256))
        elif scheme == "debian":
            self._from_package(*self.address.partition(":")[2].partition("/")[::2])
        elif "://" in self.address or not self.address:
            raise MirrorError(f"it must be {KINDS}")
        else:
            self._from_path(Path(self.address).expanduser())

    def _from_path(self, path: Path) -> None:
        with _reading(path.name):
            is_archive = path.is_file()
            if is_archive:
                path.open("rb").close()
        if is_archive:
            self._from_archive(path)
        else:
            for name, sha256 in self.files.items():
                self._done(name, unpack(_readable(path, name), self.out / name, sha256))

    def _from_archive(self, path: Path) -> None:
        for name, num_bytes in unpack_archive(path, self.files, self.out):
            self._done(name, num_bytes)

    def _from_package(self, package: str, path: str) -> None:
        if not path:
            raise MirrorError("it must be debian:<package>/<path in the package>")
        with tempfile.TemporaryDirectory(prefix=".debian-", dir=self.out) as scratch:
            self.progress.add_task(f"apt-get download {package}", total=None)
            self._from_path(unpack_package(package, Path(scratch), self.patience.apt_seconds) / path)

    def _from_web(self, name: str, sha256: str) -> int:
        take = partial(unpack, target=self.out / name, sha256=sha256)
        for file_name in (f"{name}.gz", name):
            try:
                return self._download(f"{self.address.rstrip('/')}/{file_name}", name, take)
            except NotFoundError:
                continue
        raise MirrorError(f"it has neither {name}.gz nor {name} (HTTP 404)")

    def _from_archive_on_web(self) -> None:
        url, checksum = urldefrag(self.address)
        expected = _CHECKSUM.fullmatch(checksum.lower())
        if checksum and not expected:
            raise MirrorError(f"what follows its # must be sha256= and 64 hexadecimal digits; got {checksum!r}")

        def take(packed: Path) -> None:
            if expected:
                check(packed, expected[1])
            self._from_archive(packed)

        self._download(url, Path(urlsplit(url).path).name, take)

    def _download(self, url: str, name: str, take: Callable[[Path], Taken]) -> Taken:
        """Download `url` and pass the file to `take`; a resumed download that leads to wrong bytes is repeated in full."""
        packed = self.cache / f"{hashlib.sha256(masked(url).encode()).hexdigest()[:16]}.partial"
        task = self.progress.add_task(name, total=None)
        resumed = packed.exists()
        while True:
            download(
                url, packed, self.patience, lambda now, total: self.progress.update(task, completed=now, total=total)
            )
            try:
                taken = take(packed)
            except BadBytesError:
                packed.unlink()
                if not resumed:
                    raise
                resumed = False
            else:
                packed.unlink()
                return taken

    def _done(self, name: str, num_bytes: int) -> None:
        self.progress.console.print(f"{name}: {num_bytes:,} bytes from {_shown(self.address)}")


def _readable(folder: Path, name: str) -> Path:
    """The file of `folder` that holds `name`, plain or gzipped.

    Raises:
        MirrorError: There is none, or it cannot be read.
    """
    with _reading(name):
        if not folder.exists():
            raise MirrorError("there is no such folder or tar file")
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                path.open("rb").close()
                return path
    raise MirrorError(f"it holds neither {name} nor {name}.gz")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn an operating system's error about `name` into a mirror's reason."""
    try:
        yield
    except OSError as error:
        raise MirrorError(f"{name} cannot be read there ({error.strerror})") from error


def _nothing_served(files: Mapping[str, str], key: str, reasons: Mapping[str, str]) -> DataError:
    """The error for files that no mirror serves: the reason of each mirror, and the remedies."""
    lines = [f"{_shown(address) or repr(address)}: {reason}" for address, reason in reasons.items()]
    got = "".join(f"\n  {line}" for line in lines) + "\n" if len(lines) > 1 else f" {''.join(lines) or '[]'}. "
    null = ", or to null for the mirrors of the configuration" if key == "data.source" else ""
    return DataError(
        f"{key} must name {KINDS} that holds {', '.join(files)}, plain or as .gz; got{got}"
        f"Set data.source to one that does{null}; or run `dvc pull` where a remote has the data; or take data=digits, "
        f"which needs no network."
    )
