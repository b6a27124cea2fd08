"""Images per second of a training epoch, against a bare PyTorch loop of the same model, data, batch and memory layout.

    python benchmarks/throughput.py [--images 24000] [--rounds 5] [--model lenet] [--stages]

Both train on the same arrays with the same optimiser; the bare loop does nothing else: no metrics, no schedule, no
checkpoint. They take turns in one process, so that the machine's other load hits both; the ratio of each turn is what
counts. The epoch of goodfit is its training part alone; what it measures after it (validation and the clean training
probe) is shown apart, as the bare loop has no such thing.

`--stages` then times each stage of `dvc repro` as a process, imports included, and how much of train is not the loop.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from pipeline import model
from pipeline.config.schema import AdamW, WarmupScheduler
from pipeline.metrics import history
from pipeline.training.batches import ImageBatches
from pipeline.training.loop import train_epochs
from pipeline.training.module import TrainingModule

OPTIONS: dict[str, dict[str, Any]] = {
    "lenet": {"width": 1.0, "depth": 1, "activation": "relu", "pooling": "max", "conv_dropout": 0.0, "dropout": 0.0},
    "convnet": {
        "width": 16, "depth": 3, "kernel_size": 3, "stride": 1, "padding": None, "dilation": 1,
        "pooling": "max", "pool_size": 2, "normalization": "batch", "activation": "relu", "head": "average",
        "hidden": 0, "conv_dropout": 0.0, "dropout": 0.0,
    },
}  # fmt: skip


def make_data(folder: Path, num_images: int) -> tuple[Path, Path]:
    """Noise in the layout of `prepare` and `augment`: its content does not matter to speed."""
    generator = np.random.default_rng(0)
    prepared, augmented = folder / "prepare", folder / "augment"
    for split, count in {"train": num_images, "val": num_images // 8}.items():
        (prepared / split).mkdir(parents=True)
        np.save(prepared / split / "images.npy", generator.integers(0, 256, (count, 32, 32, 1), dtype=np.uint8))
        np.save(prepared / split / "labels.npy", generator.integers(0, 10, count))
    augmented.mkdir()
    np.save(augmented / "images.npy", np.empty((0, num_images, 32, 32, 1), np.uint8))
    return prepared, augmented


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return model.build(name, num_classes=10, channels=1, size=32, mean=[0.3], std=[0.3], **OPTIONS[name])


def bare_epoch(net: nn.Module, optimizer: torch.optim.Optimizer, images: np.ndarray, labels: np.ndarray) -> float:
    """Seconds of one epoch of the shortest loop that trains."""
    begin = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(labels))
    for indices in np.array_split(order, -(-len(labels) // 256)):
        logits = net(torch.from_numpy(images[indices]))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[indices]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - begin


class Turns(pl.Callback):
    """Before each epoch of goodfit, one of the bare loop."""

    def __init__(self, bare: Any) -> None:
        self.bare, self.bare_seconds, self.our_seconds = bare, [], []
        self.measuring_seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bare_seconds.append(self.bare())
        self.begin = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.our_seconds.append(time.perf_counter() - self.begin)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.measuring_seconds.append(time.perf_counter() - self.begin - self.our_seconds[-1])


def throughput(num_images: int, rounds: int, name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        prepared, augmented = make_data(Path(scratch), num_images)
        images = np.load(prepared / "train" / "images.npy", mmap_mode="r")
        labels = np.load(prepared / "train" / "labels.npy")
        bare_network = network(name)
        bare_optimizer = torch.optim.AdamW(bare_network.parameters(), 3e-3, weight_decay=0.0, fused=True)
        turns = Turns(lambda: bare_epoch(bare_network, bare_optimizer, images, labels))
        module = TrainingModule(
            network(name),
            optimizer=AdamW(name="adamw", lr="auto", beta1=0.9, beta2=0.999, layer_decay=1.0),
            scheduler=WarmupScheduler(name="one_cycle", warmup_fraction=0.25),
            lr=3e-3,
        )
        batches = ImageBatches(prepared, augmented, batch_size=256, seed=0)
        train_epochs(module, batches, Path(scratch), seed=0, max_epochs=rounds + 1, extra_callbacks=[turns])
    pairs = list(zip(turns.bare_seconds, turns.our_seconds, strict=True))[1:]  # the first warms up
    ratios = [bare / ours for bare, ours in pairs]
    print(f"{name}, {num_images:,} images 32×32×1, batch 256, {torch.get_num_threads()} threads, {rounds} rounds")
    for label, column in (("bare loop", 0), ("goodfit", 1)):
        rates = [num_images / pair[column] for pair in pairs]
        print(f"  {label:10s} {statistics.median(rates):9,.0f} images/s   [{min(rates):,.0f}, {max(rates):,.0f}]")
    print(f"  ratio      {statistics.median(ratios):9.3f}            [{min(ratios):.3f}, {max(ratios):.3f}]")
    measuring = statistics.median(turns.measuring_seconds[1:]) / statistics.median(turns.our_seconds[1:])
    print(f"  measuring validation and the clean probe adds {measuring:.0%} of the training part")


def stages() -> None:
    """Seconds of each stage as `dvc repro` starts it; the loop is the sum of the epochs in `history.csv`."""
    print("stage       seconds   of which the training loop")
    outside = 0.0
    for stage in ("compose", "fetch", "prepare", "augment", "train", "evaluate", "report"):
        begin = time.perf_counter()
        subprocess.run(["dvc", "repro", "--force", "--single-item", stage], check=True, capture_output=True)
        seconds = time.perf_counter() - begin
        loop = 0.0
        if stage == "train":
            loop = sum(row["seconds"] for row in history.read_csv(Path("build/train/history.csv")))
            epochs = json.loads(Path("build/train/run.json").read_text())["epochs"]
        outside += seconds - loop
        print(f"{stage:10s} {seconds:8.1f}   " + (f"{loop:.1f} in {epochs} epochs" if loop else ""), flush=True)
    print(f"outside of the loop: {outside:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=OPTIONS, default="lenet")
    parser.add_argument("--stages", action="store_true", help="also time each stage of dvc repro, by force")
    options = parser.parse_args()
    throughput(options.images, options.rounds, options.model)
    if options.stages:
        stages()
    sys.stdout.flush()
