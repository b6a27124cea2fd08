"""A plain torch script, as many people begin: four convolutions with batch normalisation, 64 pixels, flips, 20 epochs.

    PYTHONPATH=. python benchmarks/plain.py data=folder data.source=photos

It takes the images that `prepare` gives at 64 pixels, with the same splits as any training of this configuration, and prints
the test accuracy of three seeds, against which a cure is held.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.config.composition import compose
from pipeline.stage import lineage

SIZE, EPOCHS, BATCH, SEEDS = 64, 20, 32, (0, 1, 2)


def network(channels: int, num_classes: int) -> nn.Module:
    widths = [channels, 32, 64, 128, 256]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes))


def main(overrides: list[str]) -> None:
    config = compose(lineage.PROJECT / "conf", Path("params.yaml"), [*overrides, f"prepare.size={SIZE}"])
    prepared = lineage.locate("prepare", config)
    arrays = {split: _arrays(prepared / split) for split in ("train", "test")}
    (images, labels), (tested, truth) = arrays["train"], arrays["test"]
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
        accuracy = float((found == truth).float().mean())
        print(
            f"seed {seed}: test accuracy {accuracy:.3f} on {len(truth)} images, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )


def _arrays(split: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images = np.load(split / "images.npy").astype(np.float32) / 127.5 - 1
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(np.load(split / "labels.npy"))


if __name__ == "__main__":
    main(sys.argv[1:])
