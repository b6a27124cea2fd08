"""Ends a process: turns signals into `KeyboardInterrupt`, errors into messages, and both into an exit code."""

import errno
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.config.secrets import masked
from pipeline.errors import UserError
from pipeline.storage import atomic
from pipeline.terminal import printable

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Error numbers of a file that this user may not read or write, and of a read-only disk."""

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask a process to stop. SIGHUP comes when a terminal is closed or a connection ends."""

received: list[int] = []
"""Signals that have asked this process to stop."""


def listen() -> None:
    """Make signals to stop raise `KeyboardInterrupt`, so that what runs cleans up."""
    for number in handled():
        signal.signal(number, stop)
    sys.unraisablehook = _send_again


def handled() -> list[int]:
    """The signals to stop that this process heeds: SIGHUP not where it is ignored, as under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in STOPPING if not (ignored and number == signal.SIGHUP)]


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal to stop.

    Raises:
        KeyboardInterrupt: Always.
    """
    received.append(number)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _send_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Repeat a signal whose `KeyboardInterrupt` Python drops, as it came in a callback such as that of a weak reference."""
    if not isinstance(dropped.exc_value, KeyboardInterrupt) or not received:
        sys.__unraisablehook__(dropped)
        return
    once_out_of_it = threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, received[-1]))
    once_out_of_it.daemon = True
    once_out_of_it.start()


@contextmanager
def messages() -> Iterator[None]:
    """Show errors that a user can mend as their message alone, others with their traceback, and end with an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        _end_as_stopped()
    except Exception as error:  # Python itself would show an address with its password
        if isinstance(error.__cause__, KeyboardInterrupt):  # Python 3.11 wraps one that comes while a class is made
            _end_as_stopped()
        show(error)
        sys.exit(1)


def _end_as_stopped() -> NoReturn:
    print("stopped; nothing half-written was kept", file=sys.stderr)
    exec("")  # else Python kills itself at its end where the signal came within an `exec`, as in making a dataclass
    sys.exit(128 + received[-1] if received else 130)


def show(error: Exception) -> None:
    """Print an error: as its message if a user can mend it, else with its traceback."""
    message = sentence(error)
    if message is None:
        print(masked("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    else:
        print(f"error: {printable(masked(message))}", file=sys.stderr)


def sentence(error: Exception) -> str | None:
    """The message of an error that a user can mend; None for others."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in atomic.NO_ROOM:
        free = "Free some, or lower augment.copies or prepare.limit."
        return f"{error.filename or 'the disk'} must have room for the stage's output; {error.strerror}. {free}"
    if isinstance(error, OSError) and error.errno in FORBIDDEN and isinstance(error.filename, str | Path):
        path = Path(error.filename).absolute()
        place = next(folder for folder in (path, *path.parents) if folder.is_dir())
        open_it = f"Give yourself the right to it (`chmod -R u+rwX {place}`)"
        if error.errno == errno.EROFS:
            open_it = "Its disk is read-only: mount it for writing, or copy the project to another disk"
        return f"{path} must be open to you; {error.strerror}. {open_it}."
    return None
