"""Keeps under `build/spool/` what is to be sent to a store, until all of it has arrived.

Each store has a folder, and each thing to send a numbered entry in it: `entry.json` beside a copy of the files that go with it,
as `build/<stage>` belongs to the next experiment. An entry is written whole before anything is sent and removed once all of it
has arrived; whatever sends under the lock of the folder begins with the lowest number. What a store refuses for good lies in
`refused/`, with the reason. No entry holds a password: it names a store as `store.place` does.
"""

import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import Field

from pipeline.artefacts.artefact import Record
from pipeline.config.schema import Tracking
from pipeline.errors import DataError
from pipeline.stage import lineage
from pipeline.storage import atomic
from pipeline.storage.digests import digest
from pipeline.tracking.parent_sendings import ParentBegin, ParentChild, ParentEnd, ParentResults, Winner
from pipeline.tracking.sendings import Packaged, Results, RunTags, Training, Unfinished
from pipeline.tracking.store import place

SPOOL = lineage.ROOT / "build" / "spool"
FILES = "files"
"""Name of the folder in an entry with the files that go with it."""

_ENTRY = "entry.json"

Sending = (
    Training
    | Unfinished
    | Results
    | Packaged
    | RunTags
    | ParentBegin
    | ParentResults
    | ParentChild
    | Winner
    | ParentEnd
)


class Entry(Record):
    """An entry of the spool.

    Attributes:
        version: Version of these fields.
        store: Address of the store, without secrets.
        experiment: Name of the experiment.
        what: What to send.
    """

    version: Literal[1] = 1
    store: str
    experiment: str
    what: Annotated[Sending, Field(discriminator="kind")]


def put(settings: Tracking, what: Sending, files: Mapping[str, Path]) -> Path:
    """Write an entry behind those that wait; gives its folder.

    Raises:
        OSError: The disk is full or `build/` cannot be written; nothing is left of the entry.
    """
    folder = folder_of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    entry = Entry(store=place(settings), experiment=settings.experiment, what=what)
    with FileLock(folder / ".order.lock"):
        for ending in (".partial", ".sent"):
            for left_by_a_kill in folder.glob(f".*{ending}"):
                shutil.rmtree(left_by_a_kill, ignore_errors=True)
        used = (*waiting(folder), *folder.glob("refused/*"))
        number = max((int(path.name) for path in used), default=0) + 1
        path = folder / f"{number:06d}"
        with atomic.folder(path) as scratch:
            (scratch / FILES).mkdir()
            for name, source in files.items():
                (scratch / FILES / name).parent.mkdir(exist_ok=True)
                shutil.copy2(source, scratch / FILES / name)
            atomic.write_text(scratch / _ENTRY, json.dumps(entry.model_dump(), ensure_ascii=False))
    return path


def folder_of(settings: Tracking) -> Path:
    """The folder of a store's entries."""
    store = place(settings)
    return SPOOL / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', store).strip('-')[-40:]}-{digest(store)[:8]}"


def waiting(folder: Path) -> list[Path]:
    """The entries in the folder of a store, in order."""
    return sorted(folder.glob("[0-9]*[0-9]"))


def stores() -> dict[str, Path]:
    """The folder of each store for which something waits, by the address without secrets."""
    found = {}
    for folder in sorted(SPOOL.glob("*")):
        for path in waiting(folder):
            try:
                found[read(path).store] = folder
                break
            except Damaged as error:
                if path.exists():  # else another process has just sent it
                    set_aside(path, str(error))
    return found


def refused() -> list[Path]:
    """The entries that a store has refused."""
    return sorted(SPOOL.glob("*/refused/*"))


class Damaged(DataError):
    """Raised for an entry that cannot be read."""


def written_at(path: Path) -> float:
    """Unix time at which an entry was written."""
    try:
        return (path / _ENTRY).stat().st_mtime
    except OSError:  # another process has just sent it
        return time.time()


def read(path: Path) -> Entry:
    """Read an entry.

    Raises:
        Damaged: It is not as it was written.
    """
    try:
        return Entry.model_validate_json((path / _ENTRY).read_bytes())
    except (OSError, ValueError) as error:
        raise Damaged(f"{path / _ENTRY} must be as it was written; {' '.join(str(error).split())[:200]}") from None


def remove(path: Path) -> None:
    """Remove an entry: a kill halfway leaves no half of one."""
    gone = path.with_name(f".{path.name}.sent")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def set_aside(path: Path, reason: str) -> None:
    """Move an entry that the store refuses out of the way of the others, with the reason."""
    place = path.parent / "refused" / path.name
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    atomic.write_text(path / "reason.txt", reason + "\n")
    path.rename(place)
