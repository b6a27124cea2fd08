"""What a terminal shows while trainings run side by side, and where their own lines go meanwhile."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.lab.live import LOG, shown
from pipeline.lab.trainings import Trainings
from pipeline.sweep.job import LOG_VARIABLE
from tests.sweep_probe import wait_until


def trainings(folder: Path, launcher: str) -> Trainings:
    made = Trainings("cure", folder, [launcher], lambda *_: None)
    made.requested = [("seed=1",), ("seed=2",)]
    return made


def test_a_terminal_shows_a_table_and_a_file_takes_what_the_trainings_print(tmp_path: Path) -> None:
    screen = io.StringIO()
    with shown(trainings(tmp_path, "hydra/launcher=joblib"), [("seed=1",)], Console(file=screen, force_terminal=True)):
        assert os.environ[LOG_VARIABLE] == str(tmp_path / LOG)
        wait_until(lambda: "0 of 1 trainings are over; what they print is in" in screen.getvalue())
        assert "seed=1" in screen.getvalue() and "seed=2" not in screen.getvalue()
    assert LOG_VARIABLE not in os.environ


@pytest.mark.parametrize(("launcher", "terminal"), [("hydra/launcher=joblib", False), ("hydra/launcher=basic", True)])
def test_trainings_print_as_usual_without_a_terminal_and_in_the_process_of_the_command(
    tmp_path: Path, launcher: str, terminal: bool
) -> None:
    screen = io.StringIO()
    with shown(trainings(tmp_path, launcher), [("seed=1",)], Console(file=screen, force_terminal=terminal)):
        assert LOG_VARIABLE not in os.environ
    assert screen.getvalue() == ""
