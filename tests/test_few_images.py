"""A pretrained network on a folder of photographs, from the first command to an answer, and the same weights again."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artefacts.package import CARD
from tests.conftest import command_runner

pytestmark = pytest.mark.slow

OWN = (
    "data=folder",
    "data.source=photos",
    "model=efficientnet",
    "model.input_size=64",
    "train.max_epochs=4",
    "augment.copies=1",
)


def photographs(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(60):
        label = number % 3
        path = folder / ("sky", "grass", "brick")[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 80, (70, 90, 3), np.uint8)
        pixels[..., 2 - label] += 120
        Image.fromarray(pixels).save(path)


def test_a_pretrained_network_is_trained_packaged_used_and_made_again(project: Path) -> None:
    photographs(project / "photos")
    run = command_runner(project)
    printed = run("pipeline.train", *OWN).stdout
    [training] = project.glob("outputs/train/*")
    record = json.loads((training / "run.json").read_text())
    assert record["weights_fingerprint"] and record["config"]["prepare"]["size"] == 64
    assert "features of" in printed
    card = (training / "package" / CARD).read_text()
    assert "- Started from the weights imagenet; its last layer alone learned." in card
    answer = run("pipeline.predict", "photos", "--model", str(training / "package"), "--format", "csv").stdout
    assert len(answer.splitlines()) == 61
    again = run("pipeline.reproduce", str(training)).stdout
    assert re.search(r"same weights|bit for bit", again), again
    assert "starting from the weights in" in again
