"""Tests the comparison of ways to start a training."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.composition import compose
from pipeline.errors import ConfigError
from pipeline.metrics.starts import Way, best, compare
from pipeline.starts import chosen, conclusion
from tests.conftest import ROOT, command_runner


def ways() -> list[Way]:
    accuracies = {"scratch": [0.50, 0.52, 0.51], "head": [0.70, 0.73, 0.71], "gradual": [0.40, 0.95, 0.80]}
    right = {
        name: [
            {f"{fold} {image}": float(image < 100 * each) for image in range(100)} for fold, each in enumerate(folds)
        ]
        for name, folds in accuracies.items()
    }
    return compare(right, dict.fromkeys(right, 1.0), "scratch")


def test_a_start_wins_only_if_it_is_surely_better() -> None:
    found = ways()
    assert [way.name for way in found] == ["gradual", "head", "scratch"]
    assert best(found).name == "head", "gradual is better on average, but its folds differ too much"
    assert best([way for way in found if way.name != "head"]).name == "scratch"


def test_the_conclusion_says_how_to_adopt_the_winner() -> None:
    config = compose(ROOT / "conf", ROOT / "params.yaml", [])
    found = {way.name: way for way in ways()}
    said = conclusion(found["head"], chosen(config))
    assert said.startswith("Start with head: +0.203 [")
    assert said.endswith("dvc exp run -S ++model=efficientnet -S '++model={name:efficientnet,train_layers:head}'")
    assert conclusion(found["scratch"], chosen(config)).startswith("No other start is surely better")


def test_ones_own_weights_are_compared_too() -> None:
    config = compose(ROOT / "conf", ROOT / "params.yaml", ["model=lenet", "model.weights=elsewhere"])
    assert list(chosen(config)) == ["scratch", "probe", "head", "gradual", "own"]
    few = compose(ROOT / "conf", ROOT / "params.yaml", ["experiment=few_images"])
    assert list(chosen(few)) == ["scratch", "probe", "head"]


def test_a_way_that_does_not_exist_is_refused() -> None:
    config = compose(ROOT / "conf", ROOT / "params.yaml", ["starts.only=[hed]"])
    with pytest.raises(
        ConfigError, match=r"^starts.only must name ways .*; got 'hed'. Did you mean 'head'\? Correct it\.$"
    ):
        chosen(config)


@pytest.mark.slow
def test_starts_are_compared_on_the_same_folds(project: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(36):
        path = project / "photos" / f"class {number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(80 * (number % 3), 80 * (number % 3) + 90, (40, 40, 3), np.uint8)).save(path)
    run = command_runner(project)
    printed = run(
        "pipeline.starts", "experiment=few_images", "data=folder", "data.source=photos", "starts.folds=2",
        "starts.per_class=[3]", "train.max_epochs=3", "model.input_size=32", "augment.copies=1", "hydra.launcher.n_jobs=1",
    ).stdout  # fmt: skip
    [folder] = project.glob("multirun/starts/[0-9]*")
    with (folder / "starts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["start"] for row in rows} == {"scratch", "probe", "head"}
    assert len({row["num_train"] for row in rows}) == 2 and all(len(row["folds"].split()) == 2 for row in rows)
    assert (folder / "starts.png").read_bytes().startswith(b"\x89PNG")
    assert "above random weights" in (folder / "index.html").read_text()
    assert re.search(r"Look at multirun/starts/.*index.html", printed)
