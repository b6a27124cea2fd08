"""Train networks on pictures like users' with loops that are not this pipeline's, and label each by what would have helped it.

    python benchmarks/diagnosis/outside.py PICTURES            all, one at a time; goes on where it was stopped
    python benchmarks/diagnosis/outside.py PICTURES --trainer keras    with Keras or fastai (`other_trainers.py`)
    python benchmarks/diagnosis/outside.py PICTURES --pack     put them into outside.parquet, which outside_table.py reads

PICTURES holds a folder for each data set, with a folder of image files for each class: `clip` (openclipart), `icons` (the icon
themes Oxygen and GNOME at 48 pixels), `tiles` (scikit-image's brick, grass and gravel), `fashion` (Fashion-MNIST) and `glyphs`
(`python benchmarks/diagnosis/glyphs.py`). A set that is missing is left out.

Each training is certified by itself: the same seed and images with twice the epochs, a larger network, three times the images,
regularisation, or a tenth of the rate.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import other_trainers
import outside_truth
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pipeline.evaluation.reference import reference_accuracy
from pipeline.storage import atomic

SIZES = {"clip": 32, "icons": 32, "tiles": 32, "fashion": 28, "glyphs": 28}
COLOUR = ("clip", "icons")
MOST_PIXELS = 40_000_000
MOST_VALIDATED, MOST_TRAINED, SEEDS = 500, 1200, (0, 1)
LONGER, LARGER, MORE_DATA, REGULARISED, CALMER = "longer", "larger", "more data", "regularised", "calmer"
VARIANTS = (LONGER, LARGER, MORE_DATA, REGULARISED)
BATCH = 32
Image.MAX_IMAGE_PIXELS = None  # larger ones are passed over by MOST_PIXELS


@dataclass(frozen=True)
class Setting:
    """One way to train.

    Attributes:
        regime: Name.
        images: Share of the images outside of validation.
        epochs: Number of epochs.
        width: Channels of the first convolution.
        blocks: Number of convolutions.
        rate: Learning rate.
        optimizer: adam or sgd.
        schedule: constant, cosine, one_cycle, or fine_tune: the last layer alone for the first fifth, then one_cycle.
        decay: Weight decay of AdamW.
        dropout: Dropout before the last layer.
        augmented: Whether images are mirrored and shifted.
        noise: Share of the labels, in training and in validation, that are replaced by others.
        clean: Whether training is measured anew after each epoch; else while it learns, as Keras does.
        trainer: loop, keras or fastai.
    """

    regime: str
    images: float = 0.5
    epochs: int = 24
    width: int = 8
    blocks: int = 3
    rate: float = 1e-3
    optimizer: str = "adam"
    schedule: str = "constant"
    decay: float = 0.0
    dropout: float = 0.0
    augmented: bool = False
    noise: float = 0.0
    clean: bool = True
    trainer: str = "loop"


SETTINGS = (
    Setting("low rate", rate=1e-4, epochs=20),
    Setting("very low rate", rate=3e-5, epochs=30),
    Setting("low rate, small", rate=2e-4, epochs=16, width=6, images=1.0),
    Setting("low rate, sgd", rate=3e-3, optimizer="sgd", epochs=20, images=1.0, augmented=True),
    Setting("one channel", width=1, blocks=2, schedule="cosine", rate=3e-3, epochs=30, images=1.0),
    Setting("two channels", width=2, blocks=3, schedule="one_cycle", rate=3e-3, epochs=24, images=1.0),
    Setting("dropout too high", width=4, dropout=0.9, epochs=24, images=1.0),
    Setting("plain", schedule="one_cycle", rate=3e-3, epochs=16),
    Setting("plain, augmented", schedule="one_cycle", rate=3e-3, epochs=24, augmented=True, decay=0.05),
    Setting("all images, augmented", images=1.0, schedule="cosine", rate=3e-3, epochs=30, augmented=True, decay=0.05,
            dropout=0.2),
    Setting("fine_tune", schedule="fine_tune", rate=3e-3, epochs=15, augmented=True, decay=0.01),
    Setting("few images", images=0.1, epochs=30, width=16),
    Setting("few images, augmented", images=0.15, epochs=40, augmented=True, dropout=0.3),
    Setting("long and wide", images=0.3, epochs=50, width=16, schedule="cosine"),
    Setting("measured while learning", images=0.3, epochs=30, augmented=True, dropout=0.3, clean=False),
    Setting("10 % wrong labels", noise=0.1, epochs=24, augmented=True, decay=0.05, schedule="cosine", images=1.0),
    Setting("20 % wrong labels, low rate", noise=0.2, rate=2e-4, epochs=20),
    Setting("20 % wrong labels, by heart", noise=0.2, epochs=50, width=16, images=0.4),
    Setting("high rate, sgd", rate=1.0, optimizer="sgd", epochs=24),
    Setting("high rate", rate=5e-2, epochs=24),
    *(
        replace(each, regime=f"Keras, {each.regime}", trainer="keras", clean=False)
        for each in (
            Setting("low rate", rate=2e-4, epochs=20),
            Setting("as it comes", epochs=24),
            Setting("augmented, dropout", epochs=24, augmented=True, dropout=0.3),
            Setting("one channel", width=1, blocks=2, epochs=24, images=1.0),
            Setting("few images", images=0.15, epochs=30, width=12),
        )
    ),
    *(
        replace(each, regime=f"fastai, {each.regime}", trainer="fastai", clean=False, decay=0.01)
        for each in (
            Setting("fit_one_cycle", schedule="one_cycle", rate=3e-3, epochs=16),
            Setting("fit_one_cycle, augmented", schedule="one_cycle", rate=3e-3, epochs=24, augmented=True, images=1.0),
            Setting("fine_tune", schedule="fine_tune", rate=3e-3, epochs=15, augmented=True),
            Setting("low rate", schedule="one_cycle", rate=3e-4, epochs=12, images=1.0),
            Setting("few images", schedule="one_cycle", rate=3e-3, epochs=30, width=16, images=0.15),
        )
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A training of a setting on a data set; `variant` names the change that certifies it."""

    dataset: str
    setting: Setting
    variant: str
    seed: int

    def file(self, work: Path) -> Path:
        name = json.dumps([self.dataset, asdict(self.setting), self.variant, self.seed])
        return work / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def changed(setting: Setting, variant: str) -> Setting:
    """The setting of a training that certifies."""
    return {
        "": setting,
        LONGER: replace(setting, epochs=2 * setting.epochs),
        LARGER: replace(
            setting, width=max(2 * setting.width, 12), blocks=max(3, setting.blocks),
            dropout=min(setting.dropout, 0.3),
        ),
        MORE_DATA: replace(setting, images=min(1.0, 3 * setting.images)),
        REGULARISED: replace(
            setting, augmented=True, decay=max(0.1, setting.decay), dropout=max(0.4, setting.dropout),
        ),
        CALMER: replace(setting, rate=setting.rate / 10),
    }[variant]  # fmt: skip


def wanted(datasets: list[str], trainer: str) -> Iterator[Job]:
    for seed in SEEDS:
        for setting in SETTINGS:
            if setting.trainer != trainer:
                continue
            for dataset in datasets:
                for variant in ("", *VARIANTS, *((CALMER,) if setting.regime.startswith("high rate") else ())):
                    if variant == MORE_DATA and setting.images == 1.0:
                        continue
                    if variant == REGULARISED and changed(setting, variant) == setting:
                        continue
                    yield Job(dataset, setting, variant, seed)


def _cached(folder: Path, name: str, file: Path) -> tuple[np.ndarray, np.ndarray]:
    if not file.exists():
        images, labels = read(folder, name)
        np.savez(file, images=images, labels=labels)
    with np.load(file) as content:
        return content["images"], content["labels"]


def read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """All images of a data set, in its size, and their labels."""
    images, labels = [], []
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for label, each in enumerate(classes):
        for path in sorted((folder / each).iterdir()):
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    continue
                scaled = image.convert("RGBA").resize((SIZES[name], SIZES[name]), Image.Resampling.BOX)
            white = Image.new("RGBA", scaled.size, "white")
            white.alpha_composite(scaled)
            images.append(np.array(white.convert("RGB" if name in COLOUR else "L")).reshape(*scaled.size, -1))
            labels.append(label)
    return np.stack(images), np.array(labels)


@dataclass(frozen=True)
class Split:
    train: np.ndarray
    train_labels: np.ndarray
    val: np.ndarray
    val_labels: np.ndarray


def split(images: np.ndarray, labels: np.ndarray, setting: Setting, seed: int) -> Split:
    """Validation is the same for all settings of a seed, and a smaller training set is part of a larger one."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    num_val = min(MOST_VALIDATED, round(0.3 * len(labels)))
    val, rest = order[:num_val], order[num_val:][:MOST_TRAINED]
    labels = labels.copy()
    if setting.noise:
        wrong = generator.random(len(labels)) < setting.noise
        shift = generator.integers(1, labels.max() + 1, len(labels))
        labels[wrong] = (labels[wrong] + shift[wrong]) % (labels.max() + 1)
    chosen = rest[: max(round(setting.images * len(rest)), 2 * len(np.unique(labels)))]
    return Split(images[chosen], labels[chosen], images[val], labels[val])


def network(setting: Setting, channels: int, num_classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    width = setting.width
    for _ in range(setting.blocks):
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels, width = width, 2 * width
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(setting.dropout),
        nn.Linear(4 * channels, num_classes),
    )


def train(setting: Setting, drawn: Split, num_classes: int, seed: int) -> list[dict[str, float]]:
    """The history of a training, a row for each epoch; it ends where a loss is not finite."""
    if setting.trainer != "loop":
        trainers = {"keras": other_trainers.train_keras, "fastai": other_trainers.train_fastai}
        return trainers[setting.trainer](setting, drawn, num_classes, seed)
    torch.manual_seed(seed)
    net = network(setting, drawn.train.shape[-1], num_classes)
    if setting.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), setting.rate, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(net.parameters(), setting.rate, weight_decay=setting.decay)
    steps = setting.epochs * -(-len(drawn.train) // BATCH)
    schedule = _schedule(setting, optimizer, steps)
    generator = np.random.default_rng(seed)
    probe = tensors(drawn.train[:1000]), torch.from_numpy(drawn.train_labels[:1000])
    val = tensors(drawn.val), torch.from_numpy(drawn.val_labels)
    labels = torch.from_numpy(drawn.train_labels)
    rows = []
    for epoch in range(setting.epochs):
        frozen = setting.schedule == "fine_tune" and epoch < setting.epochs / 5
        for parameter in list(net.parameters())[:-2]:
            parameter.requires_grad_(not frozen)
        net.train()
        rate, losses, right = optimizer.param_groups[0]["lr"], [], 0
        for part in np.array_split(generator.permutation(len(labels)), -(-len(labels) // BATCH)):
            pixels = augmented(drawn.train[part], generator) if setting.augmented else drawn.train[part]
            logits = net(tensors(pixels))
            loss = F.cross_entropy(logits, labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()) * len(part))
            right += int((logits.argmax(1) == labels[part]).sum())
        row = {"lr": rate, "train/loss": sum(losses) / len(labels), "train/accuracy": right / len(labels)}
        net.eval()
        with torch.no_grad():
            for name, (images, truth) in (("train_clean", probe), ("val", val)):
                if name == "train_clean" and not setting.clean:
                    continue
                logits = torch.cat([net(each) for each in images.split(250)])
                row[f"{name}/loss"] = float(F.cross_entropy(logits, truth))
                row[f"{name}/accuracy"] = float((logits.argmax(1) == truth).float().mean())
        rows.append(row)
        if not np.isfinite(list(row.values())).all():
            break
    return rows


def _schedule(setting: Setting, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    scheduler = torch.optim.lr_scheduler
    if setting.schedule == "cosine":
        return scheduler.CosineAnnealingLR(optimizer, steps + 1)
    if setting.schedule in ("one_cycle", "fine_tune"):
        return scheduler.OneCycleLR(optimizer, setting.rate, total_steps=steps + 1, pct_start=0.3)
    return scheduler.ConstantLR(optimizer, 1.0)


def tensors(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


def augmented(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    size, margin = images.shape[1], images.shape[1] // 8
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    result = np.empty_like(images)
    for row, (top, left, flip) in enumerate(
        generator.integers(0, [2 * margin + 1, 2 * margin + 1, 2], (len(images), 3))
    ):
        crop = padded[row, top : top + size, left : left + size]
        result[row] = crop[:, ::-1] if flip else crop
    return result


def run(job: Job, images: np.ndarray, labels: np.ndarray, num_classes: int, work: Path) -> None:
    """Train, unless the file exists, and store the history with what else a diagnosis uses."""
    if job.file(work).exists():
        return
    setting = changed(job.setting, job.variant)
    if setting.schedule == "constant" and job.variant == "":
        longer = replace(job, variant=LONGER)  # begins alike
        run(longer, images, labels, num_classes, work)
        rows, begin = json.loads(longer.file(work).read_text())["rows"][: setting.epochs], time.perf_counter()
        drawn = split(images, labels, setting, job.seed)
    else:
        drawn, begin = split(images, labels, setting, job.seed), time.perf_counter()
        rows = train(setting, drawn, num_classes, job.seed)
    shares = np.bincount(drawn.val_labels, minlength=num_classes) / len(drawn.val_labels)
    seen = shares[shares > 0]
    known = {
        "num_train": min(len(drawn.train), 1000) if setting.clean else len(drawn.train), "num_val": len(drawn.val),
        "num_learning": len(drawn.train), "num_classes": num_classes, "majority": float(shares.max()),
        "chance_loss": float(-(seen * np.log(seen)).sum()), "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    if not job.variant:
        known["reference"], known["num_reference"] = _reference(drawn, num_classes, work)
    atomic.write_text(
        job.file(work),
        json.dumps({"job": asdict(job) | {"regime": job.setting.regime}, "known": known, "rows": rows}),
    )


def _reference(drawn: Split, num_classes: int, work: Path) -> tuple[float, int]:
    """Validation accuracy of the simple methods, as `diagnose` computes it."""
    folder = work / "prepared"
    for name, images, labels in (
        ("train", drawn.train, drawn.train_labels),
        ("val", drawn.val, drawn.val_labels),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / "images.npy", images)
        np.save(folder / name / "labels.npy", labels)
    return reference_accuracy(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/outside"), help="folder for a file of each training")
    parser.add_argument("--trainer", choices=("loop", "keras", "fastai"), default="loop")
    parser.add_argument(
        "--pack", action="store_true", help="train nothing; put all that are there into outside.parquet"
    )
    options = parser.parse_args()
    if options.pack:
        outside_truth.pack(options.work)
        return
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    datasets = [name for name in SIZES if (options.pictures / name).is_dir()]
    content = {name: _cached(options.pictures / name, name, options.work / f"{name}.npz") for name in datasets}
    jobs = list(wanted(datasets, options.trainer))
    for number, job in enumerate(jobs, 1):
        images, labels = content[job.dataset]
        run(job, images, labels, int(labels.max()) + 1, options.work)
        print(f"{number}/{len(jobs)} {job.dataset} {job.setting.regime} {job.variant} {job.seed}", flush=True)


if __name__ == "__main__":
    main()
