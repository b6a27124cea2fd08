"""How to start with few images: random weights, pretrained ones in our ways, and a loop in fastai's manner, on the same folds.

    PYTHONPATH=. python benchmarks/few_images.py FOLDER [--per-class 10 50] [--only probe head] [--in-time-of head]

Runs `python -m pipeline.starts` on a folder of class folders, with so many training images a class and with all, then, on each
fold that it prepared, a plain torch loop like fastai's `fine_tune` (Howard and Gugger 2020): the last layer for one epoch, then
all layers with discriminative rates and one-cycle schedules, flips and random crops. It runs once for the time that `head`
took, and once for that of `gradual`. The table is Markdown.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.run import RunRecord
from pipeline.artefacts.weights import WeightsRecord
from pipeline.model import start
from pipeline.stage import lineage
from pipeline.stage.inputs import input_folder

FOLDS, BATCH = 3, 32
COMMON = [f"train.batch_size={BATCH}", "train.early_stopping.patience=10", "augment=standard"]
WAYS = {
    "scratch": ["model=convnet", "model.width=32", "prepare.size=64", "train.max_epochs=40"],
    "probe": ["model=efficientnet"],
    "head": ["model=efficientnet", "train.max_epochs=40"],
    "gradual": [
        "model=efficientnet", "model.train_layers=gradual", "optimizer.lr=5e-4", "optimizer.layer_decay=0.8",
        "train.max_epochs=16",
    ],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--per-class", nargs="*", default=[])
    parser.add_argument("--only", nargs="*", default=[*WAYS], choices=[*WAYS], help="ways beside scratch")
    parser.add_argument(
        "--in-time-of", nargs="*", default=["head", "gradual"], help="ways whose time the plain loop gets, once each"
    )
    options = parser.parse_args()
    before = set(Path("multirun/starts").glob("*/starts.csv"))
    subprocess.run(
        [
            sys.executable, "-m", "pipeline.starts", "data=folder", f"data.source={options.source}",
            f"starts.folds={FOLDS}", f"starts.per_class=[{','.join(options.per_class)}]",
            f"starts.only=[{','.join(options.only)}]", *_ways(), "tracking.enabled=false", "hydra.launcher.n_jobs=1",
        ],
        check=True,
    )  # fmt: skip
    (table,) = set(Path("multirun/starts").glob("*/starts.csv")) - before
    rows, folder = list(csv.DictReader(table.read_text().splitlines())), table.parent
    print("\n| training images | start | accuracy | above random weights | seconds |\n|---|---|---|---|---|")
    for size in dict.fromkeys(row["num_train"] for row in rows):
        for row in rows:
            if row["num_train"] == size:
                gain = (
                    f"{float(row['gain']):+.3f} [{float(row['gain_low']):+.3f}, {float(row['gain_high']):+.3f}]"
                    if row["gain"]
                    else "–"
                )
                print(
                    f"| {size} | {row['start']} | {float(row['accuracy']):.3f} | {gain} | {float(row['seconds']):.0f} |"
                )
        for name in options.in_time_of:
            runs = [
                run
                for run in _trainings(folder)
                if run.config["model"]["train_layers"] == name
                and run.config["prepare"]["limit"] == (None if size == rows[-1]["num_train"] else int(size))
            ]
            if runs:
                accuracies = [_fine_tune(run, run.times_ms[-1] / 1000 - run.begin) for run in runs]
                print(
                    f"| {size} | like fastai's fine_tune, in the time of {name} | {fmean(accuracies):.3f} ± "
                    f"{stdev(accuracies):.3f} over folds | | equal |",
                    flush=True,
                )


def _ways() -> list[str]:
    """Overrides that set the ways; each of theirs in quotes, as it has a sign of equality."""
    quoted = {name: ",".join(f"'{override}'" for override in [*way, *COMMON]) for name, way in WAYS.items()}
    return [f"starts.ways.{name}=[{each}]" for name, each in quoted.items()]


def _trainings(folder: Path) -> list[RunRecord]:
    return [RunRecord.read(path.parent) for path in sorted(folder.glob("[0-9]*/run.json"))]


def _fine_tune(run: RunRecord, seconds: float) -> float:
    """Validation accuracy after a `fine_tune` of about so many seconds."""
    prepared = input_folder(run, "prepare")
    dataset = DatasetRecord.read(prepared)
    (weights,) = [
        path for path in lineage.CACHE.glob("weights-*") if lineage.content("weights", path) == run.weights_fingerprint
    ]
    options = {"name": "efficientnet", "conv_dropout": 0.0, "dropout": 0.2}
    torch.manual_seed(0)
    network = model.build(**start.description(options, WeightsRecord.read(weights), dataset))
    start.load_into(network, weights, with_last_layer=False)
    images, labels = (np.load(prepared / "train" / f"{name}.npy") for name in ("images", "labels"))
    begin, rate = time.perf_counter(), 2e-3
    _one_cycle(network, images, labels, 1, rate, frozen=True)
    took = time.perf_counter() - begin
    epochs = max(1, int((seconds - took) / (3 * took)))  # an epoch of all layers takes about three times as long
    _one_cycle(network, images, labels, epochs, rate / 2, frozen=False)
    network.eval()
    val, truth = (np.load(prepared / "val" / f"{name}.npy") for name in ("images", "labels"))
    with torch.no_grad():
        found = np.concatenate(
            [network(torch.from_numpy(val[i : i + 64])).argmax(1).numpy() for i in range(0, len(val), 64)]
        )
    return float((found == truth).mean())


def _one_cycle(
    network: model.Network, images: np.ndarray, labels: np.ndarray, epochs: int, rate: float, *, frozen: bool
) -> None:
    body = [parameter for layer in network.body() for parameter in layer.parameters()]
    for parameter in body:
        parameter.requires_grad_(not frozen)
    head = network.head[-1]
    assert isinstance(head, nn.Linear)
    groups = [{"params": list(head.parameters()), "lr": rate}] + ([] if frozen else [{"params": body, "lr": rate / 10}])
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = epochs * -(-len(labels) // BATCH)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.3)
    generator = np.random.default_rng(0)
    network.train()
    for _ in range(epochs):
        for part in np.array_split(generator.permutation(len(labels)), -(-len(labels) // BATCH)):
            batch = torch.from_numpy(_augmented(images[part], generator))
            loss = F.cross_entropy(network(batch), torch.from_numpy(labels[part]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _augmented(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Flips, and crops of up to an eighth of the side."""
    size = images.shape[1]
    margin = size // 8
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
    result = np.empty_like(images)
    for row, (top, left, flip) in enumerate(
        generator.integers(0, [2 * margin + 1, 2 * margin + 1, 2], (len(images), 3))
    ):
        crop = padded[row, top : top + size, left : left + size]
        result[row] = crop[:, ::-1] if flip else crop
    return result


if __name__ == "__main__":
    main()
