"""Where raw files come from: a folder, a web address, a Debian package; the first that answers serves.

Every file is known by the SHA-256 of its content, so it does not matter who gave it, and files of several mirrors mix.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from pipeline.config.errors import DataError
from pipeline.data.debian import unpack_package
from pipeline.data.download import NotFoundError, Patience, download
from pipeline.data.unpack import BadBytesError, MirrorError, unpack

KINDS = "a folder, an http(s) address or debian:<package>/<path>"


def fetch_files(
    files: Mapping[str, str],
    key: str,
    mirrors: Sequence[str],
    out: Path,
    cache: Path,
    patience: Patience | None = None,
) -> None:
    """Fill `out` with `files`, each from the first mirror that gives it whole.

    A mirror that fails is named on the terminal, with the reason, and the next one is asked for what is still missing.

    Args:
        files: SHA-256 of the plain content, by file name.
        key: The configuration key that named the mirrors, for messages.
        mirrors: Addresses, in the order in which they are tried.
        out: An existing folder.
        cache: Keeps the pieces of broken downloads for the next call.
        patience: Time-outs.

    Raises:
        DataError: No mirror gave what is missing, or the disk is full.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    reasons: dict[str, str] = {}
    for address in mirrors:
        missing = {name: sha256 for name, sha256 in files.items() if not (out / name).exists()}
        try:
            with _progress(console) as progress:
                _Mirror(address, missing, out, cache, patience or Patience(), progress).give()
        except MirrorError as error:
            reasons[address] = str(error)
            console.print(f"{shown(address)}: {error}")
        else:
            for partial in (path for sha256 in files.values() for path in cache.glob(f"{sha256[:16]}-*.partial")):
                partial.unlink()
            return
    raise _nothing_served(files, key, reasons)


def shown(address: str) -> str:
    """`address` without the user's name and password.

    >>> shown("https://me:secret@example.org/data")
    'https://example.org/data'
    """
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else address


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@dataclass(frozen=True)
class _Mirror:
    """One mirror, and what it is asked for."""

    address: str
    files: Mapping[str, str]
    out: Path
    cache: Path
    patience: Patience
    progress: Progress

    def give(self) -> None:
        """Fill `out`, whole file by whole file.

        Raises:
            MirrorError: At least one file cannot be had here.
        """
        scheme = self.address.partition(":")[0].lower() if ":" in self.address else ""
        if scheme in ("http", "https"):
            for name, sha256 in self.files.items():
                self._done(name, self._from_web(name, sha256))
        elif scheme == "debian":
            self._from_package(*self.address.partition(":")[2].partition("/")[::2])
        elif "://" in self.address or not self.address:
            raise MirrorError(f"it must be {KINDS}")
        else:
            self._from_folder(Path(self.address).expanduser())

    def _from_folder(self, folder: Path) -> None:
        for name, sha256 in self.files.items():
            self._done(name, unpack(_readable(folder, name), self.out / name, sha256))

    def _from_package(self, package: str, path: str) -> None:
        if not path:
            raise MirrorError("it must be debian:<package>/<path in the package>")
        with tempfile.TemporaryDirectory(prefix=".debian-", dir=self.out) as scratch:
            self.progress.add_task(f"apt-get download {package}", total=None)
            self._from_folder(unpack_package(package, Path(scratch), self.patience.apt_seconds) / path)

    def _from_web(self, name: str, sha256: str) -> int:
        for file_name in (f"{name}.gz", name):
            try:
                return self._from_url(f"{self.address.rstrip('/')}/{file_name}", name, sha256)
            except NotFoundError:
                continue
        raise MirrorError(f"it has neither {name}.gz nor {name} (HTTP 404)")

    def _from_url(self, url: str, name: str, sha256: str) -> int:
        """Download, and take the whole file once more where a part from before did not lead to the right bytes."""
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        partial = self.cache / f"{sha256[:16]}-{key}.partial"
        task = self.progress.add_task(name, total=None)
        resumed = partial.exists()
        while True:
            download(url, partial, self.patience, lambda now, total: self._show(task, now, total))
            try:
                num_bytes = unpack(partial, self.out / name, sha256)
            except BadBytesError:
                partial.unlink()
                if not resumed:
                    raise
                resumed = False
            else:
                partial.unlink()
                return num_bytes

    def _show(self, task: TaskID, now: int, total: int | None) -> None:
        self.progress.update(task, completed=now, total=total)

    def _done(self, name: str, num_bytes: int) -> None:
        self.progress.console.print(f"{name}: {num_bytes:,} bytes from {shown(self.address)}")


def _readable(folder: Path, name: str) -> Path:
    """The file of `folder` that holds `name`, plain or gzipped.

    Raises:
        MirrorError: There is none, or it cannot be read.
    """
    try:
        if not folder.exists():
            raise MirrorError("there is no such folder")
        if not folder.is_dir():
            raise MirrorError("it is a file, not a folder")
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                with path.open("rb"):
                    return path
    except OSError as error:
        raise MirrorError(f"{name} cannot be read there ({error.strerror})") from error
    raise MirrorError(f"it holds neither {name} nor {name}.gz")


def _nothing_served(files: Mapping[str, str], key: str, reasons: Mapping[str, str]) -> DataError:
    """What to say when no mirror gave all `files`: each mirror's reason, and the ways out."""
    lines = [f"{shown(address) or repr(address)}: {reason}" for address, reason in reasons.items()]
    got = "".join(f"\n  {line}" for line in lines) + "\n" if len(lines) > 1 else f" {''.join(lines) or '[]'}. "
    null = ", or to null for the mirrors of the configuration" if key == "data.source" else ""
    return DataError(
        f"{key} must name {KINDS} that holds {', '.join(files)}, plain or as .gz; got{got}"
        f"Set data.source to a folder or an http(s) address that does{null}; or run `dvc pull` where a remote has "
        f"the data; or take data=digits, which needs no network."
    )
