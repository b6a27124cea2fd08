"""A process that is asked to stop cleans up, says so, and ends with the signal's exit code."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.stage import signals

ROOT = Path(__file__).parents[1]
WAITING = """
import time
from pipeline.stage import signals
signals.listen()
with signals.messages():
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_stop_ends_a_process_with_its_exit_code(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number and told == "stopped; nothing half-written was kept\n"


IMPORTING = """
import os, signal
from pipeline.stage import signals
class Field:
    def __set_name__(self, owner, name): stop()
def stop(): os.kill(os.getpid(), signal.SIGINT)
signals.listen()
with signals.messages():
    {import_}
"""


@pytest.mark.parametrize("import_", ["exec('stop()')", "type('Made', (), {'field': Field()})"])
def test_a_signal_in_the_midst_of_an_import_is_a_stop(tmp_path: Path, import_: str) -> None:
    (tmp_path / "importing.py").write_text(IMPORTING.replace("{import_}", import_))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "importing"]  # with `-c` Python does not note what comes within an `exec`
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert (ended.returncode, ended.stderr) == (130, "stopped; nothing half-written was kept\n")


DROPPING = """
import os, signal, time, weakref
from pipeline.stage import signals
class Thing: pass
signals.listen()
with signals.messages():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing
    time.sleep(60)
"""


def test_a_signal_that_python_drops_in_a_callback_is_a_stop() -> None:
    ended = subprocess.run([sys.executable, "-c", DROPPING], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (130, "stopped; nothing half-written was kept\n")


def test_a_closed_terminal_does_not_stop_what_nohup_started() -> None:
    command = ["nohup", sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.kill()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "{here}/build/.train.lock"),
            r"error: {here}/build/.train.lock must be open to you; Permission denied. Give yourself the right to it "
            r"\(`chmod -R u\+rwX {here}`\).\n",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "{here}/out"),
            "error: {here}/out must be open to you; Read-only file system. Its disk is read-only: mount it for writing, or",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "{here}/last.ckpt"),
            "error: {here}/last.ckpt must have room for the stage's output; No space left on device. Free some, or",
        ),
    ],
)
def test_a_closed_folder_and_a_full_disk_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: OSError, message: str
) -> None:
    error.filename = error.filename.format(here=tmp_path)
    with pytest.raises(SystemExit, match="1"), signals.messages():
        raise error
    assert re.match(message.format(here=tmp_path), capsys.readouterr().err)


def test_other_errors_of_the_system_keep_their_frames(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, signals.messages():
        raise PermissionError(errno.EPERM, "Operation not permitted")  # of a process, not of a file
    assert ended.value.code == 1 and "test_stage_signals.py" in capsys.readouterr().err
