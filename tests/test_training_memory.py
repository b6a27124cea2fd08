"""Large images, augmented online: memory depends on the batch, not on how many images there are."""

import json
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.augment import augment
from pipeline.config import validation
from pipeline.config.schema import Augment
from tests.conftest import ROOT, environment

NUM_TRAIN, SIZE, CHANNELS = 2000, 224, 3
TRAIN = """
import sys
from pathlib import Path
from pipeline.config.composition import compose
from pipeline.training.training import Inputs, train

prepared, augmented, out = map(Path, sys.argv[2:5])
working = out / "working"
working.mkdir(parents=True)
config = compose(Path(sys.argv[1]) / "conf", Path(sys.argv[1]) / "params.yaml", sys.argv[5:])
train(Inputs(prepared, augmented), working, working, out, config, lambda row, time_ms: None)
"""
OVERRIDES = ("model=convnet", "model.width=8", "train.max_epochs=1", "train.batch_size=32", "train.threads=1")


def prepare(folder: Path, num_train: int) -> Path:
    """The output of `prepare`, written piece by piece."""
    generator = np.random.default_rng(0)
    for split, count in {"train": num_train, "val": 64}.items():
        (folder / split).mkdir(parents=True)
        images = np.lib.format.open_memmap(
            folder / split / "images.npy", mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, CHANNELS)
        )
        labels = np.arange(count) % 4
        for index, label in enumerate(labels):
            images[index] = generator.integers(0, 60, (SIZE, SIZE, CHANNELS)) + 60 * (np.arange(3) == label)
        np.save(folder / split / "labels.npy", labels)
    record = DatasetRecord(
        name="colours", classes=["red", "green", "blue", "grey"], size=SIZE, channels=CHANNELS, mean=[0.2] * 3,
        std=[0.1] * 3, counts={"train": np.bincount(labels).tolist()}, source="generated", licence="none", files={},
    )  # fmt: skip
    record.write(folder)
    return folder


def train(prepared: Path, augmented: Path, out: Path, workers: int) -> list[float]:
    """Train one epoch in a process of its own, and note the megabytes that it and its workers have, ten times a second.

    Pages of files are left out: the kernel drops them as soon as memory is wanted.
    """
    command = [sys.executable, "-c", TRAIN, str(ROOT), str(prepared), str(augmented), str(out), *OVERRIDES]
    variables = {**environment(), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, f"train.loader_workers={workers}"], env=variables, cwd=out.parent)
    megabytes = []
    while process.poll() is None:
        if (out / "working" / "signals.json").exists():  # the checks before training are over
            with suppress(psutil.NoSuchProcess):  # a worker that ends between two looks
                watched = psutil.Process(process.pid)
                used = [member.memory_info() for member in (watched, *watched.children(recursive=True))]
                megabytes.append(sum(each.rss - each.shared for each in used) / 1e6)
        time.sleep(0.1)
    assert process.returncode == 0
    return megabytes


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_memory_stays_flat_while_large_images_are_augmented_and_learnt(tmp_path: Path, workers: int) -> None:
    prepared, augmented = prepare(tmp_path / "prepare", NUM_TRAIN), tmp_path / "augment"
    augmented.mkdir()
    light = validation.read_yaml(ROOT / "conf" / "augment" / "light.yaml")
    augment(prepared, augmented, Augment(**{**light, "max_gigabytes": 0.5}))
    assert json.loads((augmented / "augment.json").read_text())["mode"] == "online"
    megabytes = train(prepared, augmented, tmp_path / "train", workers)
    quarter = len(megabytes) // 4  # in the first one, workers start; in the last one, nearly all images have been read
    early, late = (statistics.median(megabytes[place * quarter : (place + 1) * quarter]) for place in (1, 3))
    print(f"{workers} workers: {early:.0f} MB, later {late:.0f} MB, {max(megabytes):.0f} MB at most")
    assert late - early < 0.5 * NUM_TRAIN * SIZE**2 * CHANNELS / 1e6, "images that have been read are kept"
