"""Small outputs of all stages, for the tests of evaluate, report and the page."""

import csv
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline import model
from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.run import RunDataset, RunRecord, Saving
from pipeline.artefacts.signals import OneBatch, SignalsRecord
from pipeline.config.schema import Package
from pipeline.diagnosis import Thresholds
from pipeline.evaluation.course import course_of, examine
from pipeline.evaluation.scoring import evaluate
from pipeline.metrics import history
from pipeline.stage import lineage

CLASSES = ["circle", "square", "<b>bold & sharp</b>"]
SIZE, BEST_EPOCH = 16, 4
COUNTS = {"train": 40, "val": 24, "confirm": 12, "test": 30}
PACKAGED = {"train": 40, "val": 40, "confirm": 24, "test": 60}
"""Numbers of images of a package: enough that new images can be compared with those that set its thresholds."""
ISSUES = [
    *((f"circle/<img src=x onerror=alert({number})>.png", "near_duplicate", "nearly the same picture as a & b", "dropped")
      for number in range(7)),
    (f"class {CLASSES[2]}", "rare_class", "9 images", "kept"),
    ("square/notes-" + 20 * "long" + ".txt", "not_an_image", "by its name, a .txt file", "left out by fetch"),
]  # fmt: skip
"""Path, problem, evidence and action."""
NETWORK: dict[str, Any] = {
    "name": "convnet", "width": 4, "depth": 2, "kernel_size": 3, "stride": 1, "padding": None, "dilation": 1,
    "pooling": "max", "pool_size": 2, "normalization": "batch", "activation": "relu", "head": "average", "hidden": 0,
    "conv_dropout": 0.0, "dropout": 0.0,
    "num_classes": len(CLASSES), "channels": 1, "size": SIZE, "mean": [0.4], "std": [0.3],
}  # fmt: skip


def make_all(root: Path, sizes: Mapping[str, int] = COUNTS) -> dict[str, Path]:
    """Folders by the names of `report`'s arguments; the evaluation is not made."""
    folders = {name: root / name for name in ("prepared", "augmented", "training", "diagnosis")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    _prepare(folders["prepared"], sizes)
    _augment(folders["augmented"])
    _train(folders["training"], folders["prepared"], folders["augmented"], sizes)
    _diagnose(folders["diagnosis"], folders["training"], folders["prepared"])
    return folders


def make_package(root: Path, **changes: Any) -> Path:
    """A package of a network that nobody has trained; `changes` are keys of the section `package`."""
    from pipeline.delivery.building import Sources, build

    folders, out = make_all(root, PACKAGED), root / "package"
    out.mkdir()
    keys = {"training": None, "evaluation": None, "diagnosis": None, "coverage": 0.9, "operating_point": {}}
    settings = Package(**{**keys, "confirm_chose": False, **changes})
    sources = Sources(folders["training"], folders["prepared"], evaluation=None, diagnosis=None)
    build(sources, settings, out, tta="none", batch_size=32)
    return out


def make_evaluated(root: Path) -> dict[str, Path]:
    """The folders of `make_all` with those of an evaluation and of a package, which names squares from a threshold."""
    from pipeline.delivery.building import Sources, build

    folders = make_all(root)
    folders |= {name: root / name for name in ("evaluation", "package")}
    evaluate(training=folders["training"], prepared=folders["prepared"], batch_size=30, out=folders["evaluation"])
    folders["package"].mkdir()
    sources = Sources(**{name: folders[name] for name in ("training", "prepared", "evaluation", "diagnosis")})
    settings = Package(
        training=None, evaluation=None, diagnosis=None, coverage=0.8, operating_point={"class": "square", "recall": 0.5},
        confirm_chose=False,
    )  # fmt: skip
    build(sources, settings, folders["package"], tta="none", batch_size=30)
    return folders


def rows(num_epochs: int = 6) -> list[dict[str, float]]:
    """Epochs whose validation loss is lowest in `BEST_EPOCH` and whose gap grows."""
    made = []
    for epoch in range(1, num_epochs + 1):
        clean_loss = math.exp(-epoch / 3)
        val_loss = clean_loss + 0.01 + 0.02 * (epoch - BEST_EPOCH) ** 2
        row = dict.fromkeys(history.COLUMNS, 0.5)
        row |= {"epoch": epoch, history.CLEAN_LOSS: clean_loss, history.VAL_LOSS: val_loss}
        row |= {history.TRAIN_LOSS: clean_loss + 0.3, history.TRAIN_ACCURACY: 1 - 0.6 * math.exp(-epoch / 4)}
        row |= {history.CLEAN_ACCURACY: 1 - 0.5 / epoch, history.VAL_ACCURACY: 1 - 0.75 / epoch}
        made.append(row)
    return made


def _prepare(folder: Path, sizes: Mapping[str, int]) -> None:
    generator = np.random.default_rng(0)
    counts = {}
    for split, count in sizes.items():
        labels = np.arange(count, dtype=np.int64) % len(CLASSES)
        images = generator.integers(0, 90, (count, SIZE, SIZE, 1), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 : 8 + 2 * label, 4 : 8 + 2 * label] += np.uint8(120)
        (folder / split).mkdir()
        np.save(folder / split / "images.npy", images)
        np.save(folder / split / "labels.npy", labels)
        names = [f"{split}/{index:05d}" for index in range(count)]
        digests = [hashlib.sha256(image.data).hexdigest() for image in images]
        pq.write_table(
            pa.table(
                {"id": names, "path": names, "sha256": digests, "width": [SIZE] * count, "height": [SIZE] * count}
            ),
            folder / split / "ids.parquet",
        )
        counts[split] = np.bincount(labels, minlength=len(CLASSES)).tolist()
    dataset_record(classes=CLASSES, counts=counts).write(folder)
    with (folder / "issues.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "problem", "evidence", "action"), *ISSUES])
    _picture(folder / "issues.png")
    _picture(folder / "overview.png")


def dataset_record(**changes: Any) -> DatasetRecord:
    """The record of a made-up dataset."""
    fields: dict[str, Any] = {
        "name": "shapes", "classes": CLASSES, "size": SIZE, "channels": 1, "counts": {}, "mean": [0.4], "std": [0.3],
        "source": "made for tests", "licence": "MIT", "files": {},
    }  # fmt: skip
    return DatasetRecord(**{**fields, **changes})


def _augment(folder: Path) -> None:
    record = AugmentRecord(
        name="light", mode="materialized", asked="auto", reason="the copies are small", copies=4, strength=1.0, seed=0,
        transforms=[{"HorizontalFlip": {"p": 0.5}}, {"Affine": {"rotate": [-10, 10]}}], veto={}, images_sha256="",
    )  # fmt: skip
    record.write(folder)
    _picture(folder / "preview.png")


def _train(folder: Path, prepared: Path, augmented: Path, sizes: Mapping[str, int]) -> None:
    torch.manual_seed(0)
    network = model.build(**NETWORK)
    model.save(folder / "model.ckpt", NETWORK, network.state_dict(), CLASSES)
    (folder / "history.csv").write_text(history.to_csv(rows()))
    (folder / "weights.csv").write_text("layer,weights,zeros,norm\nblock_1_convolution,36,5,1.5\nclasses,24,0,1.0\n")
    one_batch = OneBatch(
        num_images=32, steps=20, loss_before=1.09, loss_after=0.01, accuracy_after=1.0, passed=True
    )  # fmt: skip
    signals = SignalsRecord(
        initial_loss=1.1, initial_loss_expected=math.log(3), one_batch=one_batch, num_classes=3,
        num_train=sizes["train"], num_probe=sizes["val"], num_val=sizes["val"],
    )  # fmt: skip
    signals.write(folder)
    counts = {split: np.bincount(np.arange(count) % 3).tolist() for split, count in sizes.items()}
    run = RunRecord(
        id="6d1f", mlflow_run_id=None, parent_run_id=None, begin=1.0, git_commit="0123abc", git_dirty=False,
        data_hash=None, dvc_experiment=None, name="made", tracking_uri="sqlite:///mlflow.db", fingerprint="train-1",
        prepare_fingerprint=lineage.content("prepare", prepared),
        augment_fingerprint=lineage.content("augment", augmented),
        dataset=RunDataset(name="shapes", source="made for tests", counts=counts, size=SIZE, channels=1),
        overrides="model=convnet",
        config={
            "prepare": {"max_pixels": 1_000_000}, "model": {"name": "convnet"}, "optimizer": {"name": "adamw", "lr": 0.003},
            "train": {
                "max_epochs": 15, "monitor": "val/loss",
                "early_stopping": {"patience": 2, "min_delta": 0.0, "warmup_epochs": 0},
            },
            "tracking": {"uri": "https://ana:secret@example.org"},
        },
        best_epoch=BEST_EPOCH, epochs=6, stop_reason="val/loss had not improved for 2 epochs",
        early_stopping=Saving(saved_epochs=9, saved_seconds=112.8), lr=0.003, seconds=75.2, times_ms=[],
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        weights_sha256=lineage.hash_file(folder / "model.ckpt"),
    )  # fmt: skip
    run.write(folder)


def _diagnose(folder: Path, training: Path, prepared: Path) -> None:
    run, course = RunRecord.read(training), course_of(training, prepared, 0.9)
    examine(course, Thresholds(), run.config, DatasetRecord.read(prepared), run.id).write(folder)
    _picture(folder / "curve.png")


def _picture(path: Path) -> None:
    cv2.imwrite(str(path), np.full((20, 30, 3), 128, np.uint8))
