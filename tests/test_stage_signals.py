"""A process that is asked to stop cleans up, says so, and ends with the signal's exit code."""

import signal
import subprocess
import sys

import pytest

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


def test_a_closed_terminal_does_not_stop_what_nohup_started() -> None:
    command = ["nohup", sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.kill()
