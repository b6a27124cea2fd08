"""Sends to the store by way of the spool, so that what does not arrive now arrives later, in order and once."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.config.schema import Tracking
from pipeline.errors import StoreError, UserError
from pipeline.storage import atomic
from pipeline.tracking.spool import FILES, Sending, folder_of, put, read, remove, set_aside, waiting, written_at
from pipeline.tracking.store import Refused, Store, StoreAway, address, answers, connect

SYNC = "python -m pipeline.sync"

LOCK_SECONDS = 10.0
"""Time to wait for another process that sends; then it is left to that one, which looks for new entries before it ends."""

REPORT_SECONDS = 5.0
"""Time between two lines about a long delivery."""

FORGET_SECONDS = 10.0
"""Time for which a process takes a store for away without asking again. Under DVC it is as long as its command runs."""

_AWAY = ".away.json"


@dataclass(frozen=True)
class Outcome:
    """What became of an entry.

    Attributes:
        path: Folder of the entry in the spool.
        title: What it was, in words.
        sentence: What the terminal should say, or "".
        refusal: Why the store refused it, or why it has to wait; None where it has arrived.
        num_waiting: Number of entries that wait after it.
    """

    path: Path
    title: str
    sentence: str
    refusal: str | None
    num_waiting: int

    def __str__(self) -> str:
        if self.refusal is None:
            return f"{self.title}: sent"
        if self.path.exists():
            return f"{self.title} waits: {self.refusal}"
        place = os.path.relpath(self.path.parent / "refused" / self.path.name)
        return f"{self.title} was refused ({self.refusal}) and lies in {place}"


def send(
    settings: Tracking, what: Sending, files: Mapping[str, Path] | None = None, *, away: str | None = None,
    strict: bool = False,
) -> None:  # fmt: skip
    """Send what waits and then `what`, or let it wait too; says what came of it and costs the caller no more than a line.

    Args:
        settings: Address and experiment of the store.
        what: What to send.
        files: Files that go with it, by name.
        away: Why the store is known to be away; None: it is asked.
        strict: Raise for a store that is set wrongly, and let nothing wait for it.

    Raises:
        StoreError: The store is set wrongly, and `strict` is true.
    """
    if not settings.enabled:
        return
    folder = folder_of(settings)
    try:
        own = put(settings, what, files or {})
    except OSError as error:
        print(f"tracking: {what.title} is not sent, as build/spool cannot take it ({error})", file=sys.stderr)
        return
    if away is not None:
        note_away(folder, away)
    try:
        _deliver_aloud(settings, own)
    except (StoreError, StoreAway, OSError) as error:
        if strict and isinstance(error, StoreError):
            shutil.rmtree(own, ignore_errors=True)
            raise
        _say_why(settings, error)


def keep(settings: Tracking, what: Sending) -> None:
    """Let `what` wait, without asking the store; says so."""
    try:
        put(settings, what, {})
    except OSError as error:
        print(f"tracking: {what.title} is not sent, as build/spool cannot take it ({error})", file=sys.stderr)
        return
    print(f"tracking: {what.title} waits in build/spool; the next command, or `{SYNC}`, sends it", file=sys.stderr)


def deliver_waiting(settings: Tracking) -> None:
    """Send what waits, if anything does, and say what came of it. Without anything it costs nothing."""
    if settings.enabled and waiting(folder_of(settings)):
        try:
            _deliver_aloud(settings, None)
        except (StoreError, StoreAway, OSError) as error:
            _say_why(settings, error)


def _say_why(settings: Tracking, error: StoreError | StoreAway | OSError) -> None:
    """Say why something waits, how much of it, and what sends it."""
    number = len(waiting(folder_of(settings)))
    reason = str(error)
    if isinstance(error, StoreAway):
        reason = f"{address(settings)} does not answer ({error});"
    elif isinstance(error, OSError):
        reason = f"build/spool must be writable; {error}."
    print(
        f"tracking: {reason} {number} {'entry waits' if number == 1 else 'entries wait'} in build/spool, and the next command "
        f"that reaches it, or `{SYNC}`, sends {'it' if number == 1 else 'them'}",
        file=sys.stderr,
    )


def _deliver_aloud(settings: Tracking, own: Path | None) -> None:
    """Deliver, with a line now and then about entries other than `own`.

    Raises:
        StoreError: The store is set wrongly.
        StoreAway: The store does not answer.
    """
    folder = folder_of(settings)
    if (reason := known_away(folder)) is not None:
        raise StoreAway(reason)
    long_ago = time.time() - LOCK_SECONDS  # younger ones are of other jobs of this sweep
    older = {path for path in waiting(folder) if path != own and written_at(path) < long_ago}
    if older:
        print(f"tracking: {len(older)} wait for {address(settings)} and go first", flush=True)
    said_at, num_sent = time.monotonic(), 0
    for outcome in deliver(settings):
        if outcome.refusal is not None:
            print(f"tracking: {outcome}", file=sys.stderr)
        elif outcome.path == own and outcome.sentence:
            print(outcome.sentence)
        num_sent += outcome.path in older and outcome.refusal is None
        if older and outcome.num_waiting and time.monotonic() > said_at + REPORT_SECONDS:
            print(f"tracking: {num_sent} sent, {outcome.num_waiting} wait", flush=True)
            said_at = time.monotonic()
    if own is not None and own.exists():
        print("tracking: another process sends at this moment, and sends this too")
    if num_sent:
        print(f"tracking: {num_sent} that waited {'has' if num_sent == 1 else 'have'} arrived")


def deliver(settings: Tracking) -> Iterator[Outcome]:
    """Send the entries of the store of `settings` in order. Each is removed once it has arrived, or set aside if refused.

    Yields:
        What became of each.

    Raises:
        StoreError: The store or its experiment is set wrongly; entries of other experiments are sent nevertheless.
        StoreAway: The store does not answer; what was not sent waits.
    """
    folder, wrong = folder_of(settings), dict[str, StoreError]()
    stores: dict[str, Store] = {}
    left: set[Path] = set()
    with _locked(folder) as have_lock:
        while have_lock and (entries := [path for path in waiting(folder) if path not in left]):
            for path in entries:
                title, sentence, refusal = path.name, "", None
                try:
                    entry = read(path)
                    title = entry.what.title
                    if entry.experiment in wrong:
                        left.add(path)
                        continue
                    if entry.experiment not in stores:
                        stores[entry.experiment] = connect(settings.model_copy(update={"experiment": entry.experiment}))
                        forget_away(folder)
                    with answers():
                        sentence = entry.what.send(stores[entry.experiment], path / FILES)
                    remove(path)
                except StoreAway as error:
                    note_away(folder, str(error))
                    raise
                except StoreError as error:
                    wrong[entry.experiment] = error
                    left.add(path)
                    refusal = str(error)
                except (Refused, UserError) as error:
                    refusal = str(error)
                    set_aside(path, refusal)
                if settings.experiment not in wrong:
                    yield Outcome(path, title, sentence, refusal, len(waiting(folder)))
    if settings.experiment in wrong:
        raise wrong[settings.experiment]


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Let one process at a time send. False where another still does after `LOCK_SECONDS`: it sends the rest too."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def note_away(folder: Path, reason: str) -> None:
    """Remember that the store did not answer, so that the rest of this command does not ask it again."""
    note = {"asker": _asker(), "time": time.time(), "reason": reason}
    with suppress(OSError):  # without a note it is asked again
        atomic.write_text(folder / _AWAY, json.dumps(note))


def forget_away(folder: Path) -> None:
    """Forget that the store did not answer."""
    (folder / _AWAY).unlink(missing_ok=True)


def known_away(folder: Path) -> str | None:
    """Why the store did not answer when this command asked it before; None where it has not, or where that is long ago."""
    try:
        note = json.loads((folder / _AWAY).read_text())
    except (OSError, ValueError):
        return None
    age = time.time() - note["time"]
    is_known = note["asker"] == _asker() and (_is_stage() or 0 <= age < FORGET_SECONDS)
    return str(note["reason"]) if is_known else None


def _asker() -> int:
    """The process whose command asks: DVC's for all stages of one `dvc repro`, else this one."""
    return os.getppid() if _is_stage() else os.getpid()


def _is_stage() -> bool:
    return "DVC_STAGE" in os.environ
