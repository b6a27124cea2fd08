"""Each command by hand, with the user's own images named on its command line alone."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command, command_runner
from tests.test_own_images import write_digits

SHORT = ("augment=none", "train.max_epochs=1", "hydra/launcher=basic", "tracking.enabled=false")


@pytest.fixture
def own(project: Path) -> Path:
    """A project beside 120 images of three classes, which its `params.yaml` does not name."""
    write_digits(project / "photos", 400)
    for label in range(3, 10):
        shutil.rmtree(project / "photos" / str(label))
    return project


def by_hand(run: Command, command: str, *arguments: str) -> str:
    return run(f"pipeline.{command}", *arguments, "data=folder", "data.source=photos").stdout


@pytest.mark.long
def test_every_stage_takes_images_that_its_command_line_names(own: Path) -> None:
    run = command_runner(own)
    for stage in ("fetch", "prepare", "augment", "train"):
        assert "written to" in by_hand(run, stage, *SHORT, f"hydra.run.dir={stage}")
    assert json.loads((own / "train/run.json").read_text())["dataset"]["name"] == "photos"
    by_hand(run, "evaluate", "evaluate.training=train", "tracking.enabled=false", "hydra.run.dir=evaluate")
    assert "photos" not in (own / "params.yaml").read_text()
    by_hand(run, "diagnose", "--training", "train", "--out", "diagnose")
    chosen = [f"report.{name}={folder}" for name, folder in REPORT.items()]
    by_hand(run, "report", *chosen, "tracking.enabled=false", "hydra.run.dir=report")
    assert "lenet <span>on</span> photos" in (own / "report/index.html").read_text()


REPORT = {"training": "train", "evaluation": "evaluate", "diagnosis": "diagnose"}

LAB = {
    "train": ("-m", "seed=0,1"),
    "cure": ("cure.seeds=1", "cure.confirm_seeds=3", "cure.max_runs=2"),
    "ablate": ("ablate.seeds=2", "ablate.only=[dropout]"),
    "learning_curve": ("learning_curve.seeds=2", "learning_curve.fractions=[0.3,0.5,1.0]"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", LAB)
def test_every_command_of_many_trainings_takes_images_that_its_command_line_names(own: Path, command: str) -> None:
    printed = by_hand(command_runner(own), command, *LAB[command], *SHORT, "prepare.val_fraction=0.2")
    assert "digits" not in printed
    pages = list(own.glob("multirun/*/*/index.html"))
    assert len(pages) == (command in ("cure", "ablate"))
    assert all(re.search("<title>.*lenet on photos</title>", page.read_text()) for page in pages)
