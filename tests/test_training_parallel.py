"""Two processes on gloo compute what one does: each row of the history, each weight, to rounding."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, nn

from pipeline.config import schema
from pipeline.errors import ConfigError
from pipeline.metrics import history
from pipeline.training import mixing, parallel
from pipeline.training.batches import ImageBatches
from pipeline.training.callbacks import OnRow
from pipeline.training.loop import Outcome, train_epochs
from pipeline.training.module import TrainingModule
from pipeline.training.processes import leading
from tests.networks import network

Case = dict[str, Any]
SGD = schema.SGD(name="sgd", lr=0.02, momentum=0.9, nesterov=False, layer_decay=1.0)
ADAMW = schema.AdamW(name="adamw", lr=3e-3, beta1=0.9, beta2=0.999, layer_decay=1.0)
MIX = partial(mixing.mix, num_classes=3, mixup=0.4, cutmix=0.4, erasing=0.3)

# 203 training images make batches of 51 and 50, of which two processes get 26, 25 or 25 each; of 61 for validation, 31 and 30.
PLAIN: Case = {"optimizer": SGD}
REMEDIES: Case = {
    "name": "convnet", "options": {"normalization": "group", "depth": 2}, "optimizer": ADAMW,
    "regularization": {"l1": 1e-3, "l2": 1e-2, "l2_as": "penalty", "label_smoothing": 0.1},
    "loop": {"ema_decay": 0.9, "gradient_clip_norm": 0.5},
}  # fmt: skip
WEIGHTED: Case = {
    "name": "convnet", "options": {"normalization": "group", "depth": 2}, "optimizer": SGD,
    "regularization": {"class_weights": torch.tensor([0.3, 1.0, 4.0]), "label_smoothing": 0.1}, "balanced": True,
}  # fmt: skip
RANDOM: Case = {
    "name": "resnet", "options": {"dropout": 0.5}, "optimizer": ADAMW,
    "regularization": {"l1": 1e-3, "l2": 1e-2, "mix": MIX}, "loop": {"ema_decay": 0.9},
}  # fmt: skip
CASES = {"plain": PLAIN, "remedies": REMEDIES, "weighted": WEIGHTED, "random": RANDOM}


def run_case(
    prepared: Path,
    augmented: Path,
    folder: Path,
    case: Case,
    on_row: OnRow = lambda row, time_ms: None,
) -> Outcome:
    torch.manual_seed(parallel.rank())  # of the initial weights, those of the first process count
    module = TrainingModule(
        network(case.get("name", "lenet"), num_classes=3, **case.get("options", {})),
        optimizer=case["optimizer"],
        scheduler=schema.WarmupScheduler(name="one_cycle", warmup_fraction=0.25),
        lr=case["optimizer"].lr,
        **case.get("regularization", {}),
    )
    batches = ImageBatches(prepared, augmented, batch_size=64, seed=0, balanced=case.get("balanced", False))
    settings = {"seed": 0, "max_epochs": 2, "accelerator": "cpu", **case.get("loop", {})}
    folder.mkdir(exist_ok=True)
    return train_epochs(module, batches, folder, on_row=on_row, **settings)


def run_cases(prepared: Path, augmented: Path, root: Path) -> dict[str, Outcome]:
    """Work of each process; the last training resumes after its first epoch."""
    folder, earlier = root / "random", root / "random, earlier"

    def keep(row: dict[str, float], time_ms: int) -> None:
        if row["epoch"] == 1 and folder.exists():
            shutil.copytree(folder, earlier)

    outcomes = {name: run_case(prepared, augmented, root / name, case, keep) for name, case in CASES.items()}
    distributed.barrier()  # until all have read what they end with
    if parallel.rank() == 0:
        shutil.rmtree(folder)
        shutil.copytree(earlier, folder)
    distributed.barrier()
    return {**outcomes, "resumed": run_case(prepared, augmented, folder, RANDOM)}


FOLLOWER = (
    "-c",
    "from pipeline.training.processes import follow_leader\n"
    "from tests.test_training_parallel import follow\n"
    "follow_leader(follow)",
)


def follow(prepared: str, augmented: str, root: str) -> None:
    run_cases(Path(prepared), Path(augmented), Path(root))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Folders of the prepared and of the augmented images, and the working folder of trainings."""
    root, generator = tmp_path_factory.mktemp("parallel"), np.random.default_rng(0)
    for split, count in {"train": 203, "val": 61}.items():
        labels = np.arange(count, dtype=np.int64) % 3
        images = generator.integers(0, 120, (count, 32, 32, 1), dtype=np.uint8)
        images[np.arange(count), 9 * labels] = 220
        (root / "prepare" / split).mkdir(parents=True)
        np.save(root / "prepare" / split / "images.npy", images)
        np.save(root / "prepare" / split / "labels.npy", labels)
    (root / "augment").mkdir()
    np.save(root / "augment" / "images.npy", np.load(root / "prepare" / "train" / "images.npy")[None, :, :, ::-1])
    return root / "prepare", root / "augment", root


@pytest.fixture(scope="module")
def together(folders: tuple[Path, Path, Path]) -> dict[str, Outcome]:
    """Results of each case with two processes."""
    with leading(2, "cpu", FOLLOWER) as group:
        group.begin(**dict(zip(("prepared", "augmented", "root"), map(str, folders), strict=True)))
        return run_cases(*folders)


@pytest.mark.long
@pytest.mark.parametrize("name", ["plain", "remedies", "weighted"])
def test_two_processes_give_the_history_and_the_weights_of_one(
    name: str, folders: tuple[Path, Path, Path], together: dict[str, Outcome]
) -> None:
    prepared, augmented, root = folders
    alone = run_case(prepared, augmented, root / f"{name}, alone", CASES[name])
    assert len(alone.rows) == len(together[name].rows) == 2
    for one, two in zip(alone.rows, together[name].rows, strict=True):
        for column in set(history.COLUMNS) - {"seconds"}:
            assert two[column] == pytest.approx(one[column], rel=1e-5, abs=1e-7), column
    for key, weights in alone.state.items():
        assert torch.allclose(together[name].state[key], weights, rtol=1e-4, atol=1e-5), key
    assert together[name].best_epoch == alone.best_epoch


@pytest.mark.long
def test_two_processes_that_go_on_end_with_the_same_weights_bit_for_bit(together: dict[str, Outcome]) -> None:
    undisturbed, resumed = together["random"], together["resumed"]
    assert undisturbed.times_ms[0] == resumed.times_ms[0] and undisturbed.times_ms[1] < resumed.times_ms[1]
    assert all(torch.equal(weights, resumed.state[name]) for name, weights in undisturbed.state.items())
    for first, second in zip(undisturbed.rows, resumed.rows, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.long
def test_what_two_processes_measure_on_unequal_parts_is_what_the_kept_weights_give(
    folders: tuple[Path, Path, Path], together: dict[str, Outcome]
) -> None:
    prepared, _, _ = folders
    outcome = together["random"]  # an average of weights, with batch normalisation
    measured = network("resnet", num_classes=3, **RANDOM["options"]).eval()
    measured.load_state_dict(outcome.state)
    images, labels = (torch.from_numpy(np.load(prepared / "val" / f"{name}.npy")) for name in ("images", "labels"))
    with torch.no_grad():
        logits = measured(images)
    row = outcome.rows[outcome.best_epoch - 1]
    assert row[history.VAL_LOSS] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert row[history.VAL_ACCURACY] == pytest.approx((logits.argmax(1) == labels).double().mean().item())


def test_each_process_must_have_an_image_of_every_batch(folders: tuple[Path, Path, Path]) -> None:
    prepared, augmented, _ = folders
    batches = ImageBatches(prepared, augmented, batch_size=2, seed=0)
    batches.trainer = type("Trainer", (), {"global_rank": 0, "world_size": 3})()
    message = (
        r"train\.devices must leave .*; got 3 processes for batches of 1 and 61 validation images\. Lower it, or raise"
    )
    with pytest.raises(ConfigError, match=message):
        batches.train_dataloader()


def test_each_process_has_its_part_and_its_loss_counts_as_much(
    make_prepared: Callable[..., Path], make_augmented: Callable[..., Path]
) -> None:
    prepared = make_prepared(num_train=23)
    batches = ImageBatches(prepared, make_augmented(prepared), batch_size=8, seed=0)
    losses = np.random.default_rng(0).random(8)
    parts, measured = [], []
    for rank in range(3):
        batches.trainer = type("Trainer", (), {"global_rank": rank, "world_size": 3})()
        batches.train_dataloader()
        parts.append(batches.weight(0) * losses[rank::3].mean())
        measured.append([sum(len(labels) for _, labels in loader) for loader in batches.val_dataloader()])
    assert np.mean(parts) == pytest.approx(losses.mean())
    assert measured == [[11, 8], [11, 8], [10, 7]], "no image is measured twice"
