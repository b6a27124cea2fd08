"""Notes the SHA-256 of each file of a finished folder in `SHA256SUMS`, and refuses files that have changed since.

`sha256sum -c SHA256SUMS` in such a folder checks all of them. Its last line is a digest of the others. Here a file is read
and compared once for each size and time of change that it has; the project's cache remembers what was found.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DamagedError, DataError
from pipeline.storage import atomic, places
from pipeline.storage.digests import digest, sha256
from pipeline.storage.mending import remedy

SUMS = "SHA256SUMS"

Found = dict[str, tuple[int, int, str]]
"""Size, time of change in nanoseconds, and SHA-256 of files when they were last read, by their path in their folder."""

_found: dict[Path, Found] = {}


def seal(folder: Path) -> None:
    """Write `SHA256SUMS` for all files below `folder`, which is finished."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = "".join(f"{sha256(folder / name)}  {name}\n" for name in names if name != SUMS)
    atomic.write_text(folder / SUMS, f"{lines}# {_digest(lines)}\n")


def check(path: Path) -> None:
    """Refuse a file that is not as it was when its folder was sealed. Files outside of sealed folders pass.

    Raises:
        DamagedError: The file has changed or is gone, or `SHA256SUMS` has changed.
    """
    folder = sealed_folder(path)
    if folder is not None and (expected := _sums(folder).get(path.relative_to(folder).as_posix())) is not None:
        check_file(folder, path, expected)


def check_file(folder: Path, path: Path, expected: str) -> None:
    """Refuse a file in `folder` whose SHA-256 is not `expected`.

    Raises:
        DamagedError: It is another one, or the file is gone.
    """
    try:
        if _sha256_of(folder, path) == expected:
            return
        got = _sha256_of(folder, path, again=True)  # what was remembered may be damaged too
    except FileNotFoundError as error:
        raise damaged(path, reason_of(error)) from None
    if got != expected:
        raise DamagedError(
            f"{path} must be as it was written (SHA-256 {expected[:12]}…); got {got[:12]}…. {remedy(path, folder)}"
        )


def is_whole(folder: Path) -> bool:
    """Whether all files of a sealed folder are as they were when it was sealed."""
    try:
        return are_whole(folder, _sums(folder))
    except DamagedError:
        return False


def are_whole(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether the files have the SHA-256 that `files` tells, by their path in `folder`."""
    try:
        for name, expected in files.items():
            check_file(folder, folder / name, expected)
    except DamagedError:
        return False
    return True


def require(folder: Path) -> None:
    """Refuse a folder that is not sealed.

    Raises:
        DamagedError: An earlier version of goodfit made it, or its `SHA256SUMS` is lost.
    """
    if not (folder / SUMS).exists():
        raise damaged(folder / SUMS, "no such file, as if an earlier version of goodfit had made the folder", folder)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Check `path`, and turn what the block raises while it reads the file into a sentence.

    Raises:
        DamagedError: The file has changed, is gone or cannot be read.
    """
    check(path)
    try:
        yield
    except (DataError, PermissionError):
        raise
    except Exception as error:  # of noise, readers raise nearly anything
        raise damaged(path, reason_of(error)) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DamagedError: The file has changed since its folder was sealed, or cannot be read.
    """
    with reading(path):
        return path.read_bytes()


def read_text(path: Path) -> str:
    """The content of a file in UTF-8; see `read_bytes`."""
    with reading(path):
        return path.read_text(encoding="utf-8")


def damaged(path: Path, reason: str, folder: Path | None = None) -> DamagedError:
    """The error for a file that cannot be read; `reason` is a clause, and `folder` the one that it was sealed in."""
    return DamagedError(
        f"{path} must be whole and readable; got {reason}. {remedy(path, folder or sealed_folder(path))}"
    )


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, as a clause in one line."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split()) or "damaged content"
    return f"{type(error).__name__} ({text.rstrip('.')})"


def sealed_folder(path: Path) -> Path | None:
    """The folder whose `SHA256SUMS` may list `path`; None outside of sealed folders."""
    return next((folder for folder in (path.parent, path.parent.parent) if (folder / SUMS).exists()), None)


def _sums(folder: Path) -> Mapping[str, str]:
    """The SHA-256 of each file, by its path in the folder.

    Raises:
        DamagedError: `SHA256SUMS` has changed.
    """
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
        lines, _, last = text.removesuffix("\n").rpartition("\n# ")
        if last != _digest(f"{lines}\n") or not text.endswith("\n"):
            raise ValueError("its last line, a digest of the others, does not fit them")
    except (OSError, ValueError) as error:
        raise damaged(folder / SUMS, reason_of(error), folder) from None
    return {name: value for value, _, name in (line.partition("  ") for line in lines.split("\n"))}


def _sha256_of(folder: Path, path: Path, *, again: bool = False) -> str:
    """SHA-256 of a file, which is read only if its size or its time of change is new, or if it is to be read `again`."""
    folder = folder.absolute()
    memory = places.CACHE / "checked" / f"{digest(str(folder))}.json"
    name, facts = path.absolute().relative_to(folder).as_posix(), path.stat()
    stamp, found = (facts.st_size, facts.st_mtime_ns), _found.setdefault(folder, {})
    if found.get(name, ())[:2] != stamp:
        found |= _remembered(memory)  # another process may have read it
    if again or found.get(name, ())[:2] != stamp:
        found[name] = (*stamp, sha256(path))
        with suppress(OSError):  # a project that cannot be written is read again each time
            atomic.write_text(memory, json.dumps(_remembered(memory) | found))
    return found[name][2]


def _remembered(memory: Path) -> Found:
    try:
        content = json.loads(memory.read_text())
        return {str(name): (int(size), int(time), str(value)) for name, (size, time, value) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # none yet, or a damaged one, which costs time alone


def _digest(lines: str) -> str:
    return hashlib.sha256(lines.encode()).hexdigest()
