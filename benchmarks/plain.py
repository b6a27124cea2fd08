"""A plain torch script, as many people begin: four convolutions with batch normalisation, 64 pixels, flips, 20 epochs.

    PYTHONPATH=. python benchmarks/plain.py data=folder data.source=photos
    PYTHONPATH=. python benchmarks/plain.py data=folder data.source=photos --cured multirun/cure/…

It takes the images that `prepare` gives at 64 pixels, with the same splits as any training of this configuration, and prints
the test accuracy of three seeds. With `--cured` it trains the configuration before and after that cure with the same seeds, and
prints the differences, paired by seed, with 95 % intervals.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.artefacts.rounds import RoundsRecord
from pipeline.artefacts.run import RunRecord
from pipeline.config.composition import compose
from pipeline.evaluation.accuracy import accuracy_on
from pipeline.lab.treatment import written
from pipeline.metrics import paired
from pipeline.stage import lineage
from pipeline.stage.inputs import input_folder

SIZE, EPOCHS, BATCH, SEEDS = 64, 20, 32, (0, 1, 2)


def network(channels: int, num_classes: int) -> nn.Module:
    widths = [channels, 32, 64, 128, 256]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of the training before the cure")
    parser.add_argument("--cured", type=Path, help="folder of a cure, whose adopted configuration is compared")
    options = parser.parse_intermixed_args()
    plain = _plain(options.overrides)
    if options.cured is None:
        return
    adopted = RoundsRecord.read(options.cured).adopted
    before, after = _ours("before", options.overrides), _ours("after", [*options.overrides, *adopted])
    for name, other in (("the plain script", plain), ("before the cure", before)):
        print(f"after the cure, less {name}: {written(paired.difference(after, other))}")


def _ours(name: str, overrides: Sequence[str]) -> list[float]:
    """Test accuracy of our training with each seed."""
    accuracies = []
    for seed in SEEDS:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=".") as folder:
            out = Path(folder) / "training"
            given = [*overrides, f"seed={seed}", "tracking.enabled=false", f"hydra.run.dir={out}"]
            command = [sys.executable, "-m", "pipeline.train", *given]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            accuracies.append(accuracy_on(out, input_folder(RunRecord.read(out), "prepare"), "test"))
        print(
            f"{name}, seed {seed}: test accuracy {accuracies[-1]:.3f}, {time.perf_counter() - begin:.0f} s", flush=True
        )
    return accuracies


def _plain(overrides: Sequence[str]) -> list[float]:
    config = compose(lineage.PROJECT / "conf", Path("params.yaml"), [*overrides, f"prepare.size={SIZE}"])
    prepared = lineage.locate("prepare", config)
    arrays = {split: _arrays(prepared / split) for split in ("train", "test")}
    (images, labels), (tested, truth) = arrays["train"], arrays["test"]
    accuracies = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        begin, net = time.perf_counter(), network(images.shape[1], int(labels.max()) + 1)
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(EPOCHS):
            net.train()
            for part in torch.randperm(len(labels)).split(BATCH):
                batch = images[part]
                flipped = torch.rand(len(part)) < 0.5
                batch[flipped] = batch[flipped].flip(3)
                optimizer.zero_grad()
                F.cross_entropy(net(batch), labels[part]).backward()
                optimizer.step()
        net.eval()
        with torch.no_grad():
            found = torch.cat([net(part).argmax(1) for part in tested.split(250)])
        accuracies.append(float((found == truth).float().mean()))
        took = f"{time.perf_counter() - begin:.0f} s"
        print(
            f"plain script, seed {seed}: test accuracy {accuracies[-1]:.3f} on {len(truth)} images, {took}", flush=True
        )
    return accuracies


def _arrays(split: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images = np.load(split / "images.npy").astype(np.float32) / 127.5 - 1
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(np.load(split / "labels.npy"))


if __name__ == "__main__":
    main()
