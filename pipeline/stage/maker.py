"""Runs the stages that a process needs, one after the other, in one other process, whose imports serve them all.

Each fold of a cross-validation needs two stages or three, of which a moment is work and seconds are imports.
"""

import atexit
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from pipeline.storage.places import PROJECT

LONG_SECONDS = 20.0
"""Time of a stage after which its process ends, so that large data leave no memory and no workers behind."""

IDLE_SECONDS = 60.0
"""Time after which a process that nobody asks ends."""

_at_once = threading.Lock()
_maker: "_Maker | None" = None


def make(stage: str, config: Path, folder: Path) -> bool:
    """Run a stage, which shows its output and its errors, and tell whether it succeeded.

    Args:
        stage: Name of the stage.
        config: File with the whole configuration.
        folder: Folder to write.
    """
    global _maker
    with _at_once:
        maker, _maker = _maker, None
        answer = maker.run(stage, config, folder) if maker else None
        if maker is None or answer is None:
            maker = _Maker()
            answer = maker.run(stage, config, folder)
        code, goes_on = answer or (1, False)
        if goes_on:
            _maker = maker
    return code == 0


class _Maker:
    """A process that waits for stages to run."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._connection, theirs = socket.socketpair()
        paths = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        command = [sys.executable, "-m", "pipeline.stage.maker"]
        with theirs:
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), env={**os.environ, "PYTHONPATH": paths})
        atexit.register(self.end)

    def run(self, stage: str, config: Path, folder: Path) -> tuple[int, bool] | None:
        """The exit code of a stage, and whether the process waits for another one; None where it had ended before."""
        answer = b""
        if self._owner == os.getpid() and self._process.poll() is None:  # and this is no fork of its owner
            request = [stage, str(config), str(folder), os.getcwd(), dict(os.environ)]
            try:
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._connection.sendall(json.dumps(request).encode() + b"\n")
                    answer = self._connection.recv(100)
            except BaseException:
                self._process.kill()
                self.end()
                raise
            if answer:
                code, goes_on = json.loads(answer)
                if not goes_on:
                    self.end()
                return code, goes_on
            if self._process.wait() != 0:  # it was killed, and not idle for too long
                self.end()
                return 1, False
        self.end()
        return None

    def end(self) -> None:
        """Let it end: nothing more is asked for."""
        atexit.unregister(self.end)
        self._connection.close()
        if self._owner == os.getpid():
            self._process.wait()


def serve() -> None:
    """Run the stages that `make` asks for on standard input, until nobody asks any more or one of them has taken long."""
    from pipeline.stage.entry import run_from_file
    from pipeline.stage.program import as_program

    with suppress(KeyboardInterrupt), socket.socket(fileno=os.dup(0)) as connection, connection.makefile() as lines:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        while select.select([connection], [], [], IDLE_SECONDS)[0] and (line := lines.readline()):
            stage, config, folder, place, environment = json.loads(line)
            os.chdir(place)
            os.environ.clear()
            os.environ.update(environment)
            begin, code = time.monotonic(), 0
            try:
                with as_program():
                    main = importlib.import_module(f"pipeline.{stage}").main
                    run_from_file(stage, main, ["--config", config, "--out", folder])
            except SystemExit as end:
                code = int(end.code or 0)
            sys.stdout.flush()
            goes_on = code == 0 and time.monotonic() - begin < LONG_SECONDS
            connection.sendall(json.dumps([code, goes_on]).encode())
            if not goes_on:
                break


if __name__ == "__main__":
    serve()
