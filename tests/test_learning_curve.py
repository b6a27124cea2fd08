"""Tests the command learning_curve as a user runs it."""

import csv
import json
import re
from pathlib import Path

import pytest

from tests.conftest import command_runner
from tests.test_ablate import num_trained

SMALL = (
    "data=digits", "augment=none", "train.max_epochs=10", "train.batch_size=32", "learning_curve.seeds=2",
    "learning_curve.fractions=[0.1,0.3,1.0]", "prepare.limit=400", "hydra.launcher.n_jobs=2",
)  # fmt: skip


@pytest.mark.slow
def test_more_images_are_worth_what_the_curve_says(project: Path) -> None:
    run = command_runner(project)
    printed = run("pipeline.learning_curve", *SMALL).stdout
    [folder] = project.glob("multirun/learning_curve/[0-9]*")
    with (folder / "learning_curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["num_train"], row["seed"]) for row in rows] == [(n, s) for n in ("40", "120", "400") for s in "12"]
    found = json.loads((folder / "forecast.json").read_text())
    accuracies = [float(row["val/accuracy"]) for row in rows]
    assert sum(accuracies[:2]) < sum(accuracies[4:]), "more images, more accuracy"
    assert (
        found["twice"]["num_images"] == 800
        and found["twice"]["low"] <= found["twice"]["accuracy"] <= found["twice"]["high"]
    )
    told = re.search(r"Twice the images, 800, would bring about (\S+) \[(\S+), (\S+)\] where 400 give (\S+),", printed)
    assert told and float(told[1]) == pytest.approx(found["twice"]["accuracy"], abs=5e-4)
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    epochs = {
        json.loads((out / "run.json").read_text())["config"]["train"]["max_epochs"] for out in folder.glob("[0-9]*")
    }
    assert epochs == {10, 33, 100}, "as many steps with fewer images"

    before = num_trained(project)
    assert run("pipeline.learning_curve", "--resume", str(folder)).stdout.splitlines()[-2:] == printed.splitlines()[-2:]
    assert num_trained(project) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("learning_curve.fractions=[0.5,1.0]",),
            r"three different numbers in \(0, 1\] or more, .*; got \[0\.5, 1\.0\]",
        ),
        (("learning_curve.fractions=[0.1,0.5,0.9]",), r"1\.0 among them; got"),
        (("learning_curve.seeds=1",), r"learning_curve\.seeds must be a whole number >= 2; got 1"),
    ],
)
def test_what_is_no_curve_is_refused(project: Path, arguments: tuple[str, ...], message: str) -> None:
    done = command_runner(project)("pipeline.learning_curve", *arguments, check=False)
    assert done.returncode == 1 and re.search(f"^error: .*{message}", done.stderr, re.MULTILINE), done.stderr
