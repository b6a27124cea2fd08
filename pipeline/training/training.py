"""Trains the network that the configuration describes, from the folders of `prepare` and `augment` to a folder of its own."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline import model
from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.run import RunOutcome, Saving
from pipeline.artefacts.signals import SignalsRecord
from pipeline.config import validation
from pipeline.config.schema import Config
from pipeline.metrics import history
from pipeline.metrics.early_stopping import StoppingRule
from pipeline.seeds import derive_seed
from pipeline.stage import lineage
from pipeline.storage import atomic, checksums, tables
from pipeline.training import checkpoints, lr_range, mixing, processes
from pipeline.training.balance import balanced_weights
from pipeline.training.batches import Augment, ImageBatches
from pipeline.training.callbacks import OnRow
from pipeline.training.checks import measure_signals
from pipeline.training.loop import Outcome, train_epochs
from pipeline.training.module import TrainingModule

LR_RANGE = "lr_range.csv"

FOLLOWER = ("-m", "pipeline.train")
"""Arguments of a Python that runs `follow`, started as a rank above 0."""


def train(prepared: Path, augmented: Path, working: Path, out: Path, config: Config, on_row: OnRow) -> RunOutcome:
    """Train one network and write what it learned.

    Args:
        prepared: Output folder of the prepare stage.
        augmented: Output folder of the augment stage.
        working: Folder of the checkpoints, from which a training that was killed goes on.
        out: Folder to fill.
        config: Configuration; `seed`, `model`, `regularization`, `optimizer`, `scheduler` and `train` count.
        on_row: Function that takes each row of the history, once its checkpoint is saved, and the time its epoch ended.

    Raises:
        ConfigError: There are too few devices, or too few images for as many processes.
        ShapeError: The images are too small for the network.
        TrainingError: A loss was not finite, or another process of the training ended.
    """
    with processes.leading(config.train.devices, config.train.accelerator, FOLLOWER) as group:
        checkpoints.repair(working)
        description, network, batches = _build(prepared, augmented, config)
        if not (working / SignalsRecord.FILE).exists():
            measure_signals(network, batches, description["num_classes"], config.seed).write(working)
        lr = config.optimizer.lr
        if lr == "auto":
            lr = _lr_from_range_test(network, batches, config, working)
        folders = {"prepared": str(prepared), "augmented": str(augmented), "working": str(working)}
        group.begin(**folders, config=config.model_dump(), lr=lr)
        outcome = _train_epochs(network, description["num_classes"], batches, working, config, lr, on_row)
    model.save(out / "model.ckpt", description, outcome.state, DatasetRecord.read(prepared).classes)
    (out / "history.csv").write_text(history.to_csv(outcome.rows))
    for name in (SignalsRecord.FILE, LR_RANGE):
        if (working / name).exists():
            shutil.copy2(working / name, out)
    (out / "weights.csv").write_text(_weights_table(network, outcome.state))
    return RunOutcome(
        best_epoch=outcome.best_epoch, epochs=len(outcome.rows), stop_reason=outcome.stop_reason,
        early_stopping=Saving(saved_epochs=outcome.saved_epochs, saved_seconds=outcome.saved_seconds), lr=lr,
        seconds=sum(row["seconds"] for row in outcome.rows), times_ms=outcome.times_ms,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        weights_sha256=lineage.hash_file(out / "model.ckpt"),
    )  # fmt: skip


def follow(prepared: str, augmented: str, working: str, config: dict[str, Any], lr: float) -> None:
    """Compute a training together with its leader, which calls `train` and sends the arguments as JSON."""
    settings = validation.validate(config)
    description, network, batches = _build(Path(prepared), Path(augmented), settings)
    _train_epochs(network, description["num_classes"], batches, Path(working), settings, lr)


def _build(prepared: Path, augmented: Path, config: Config) -> tuple[Mapping[str, Any], model.Network, ImageBatches]:
    """The network's description, the network with its initial weights, and the batches; the same in every process."""
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    dataset, augmentation = DatasetRecord.read(prepared), AugmentRecord.read(augmented)
    description = {
        **config.model.model_dump(), "num_classes": len(dataset.classes), "channels_last": config.train.channels_last,
        "channels": dataset.channels, "size": dataset.size, "mean": dataset.mean, "std": dataset.std,
    }  # fmt: skip
    torch.manual_seed(derive_seed(config.seed, "weights"))
    network = model.build(**description)
    batches = ImageBatches(
        prepared, augmented, batch_size=config.train.batch_size, seed=config.seed,
        loader_workers=config.train.loader_workers,
        augment=_online(augmentation, dataset) if augmentation.mode == "online" else None,
        balanced=config.train.sampling == "balanced",
    )  # fmt: skip
    return description, network, batches


def _train_epochs(
    network: model.Network, num_classes: int, batches: ImageBatches, working: Path, config: Config, lr: float,
    on_row: OnRow = lambda row, time_ms: None,
) -> Outcome:  # fmt: skip
    weighted = config.train.class_weights == "balanced"
    mixture = config.regularization.model_dump(include={"mixup", "cutmix", "erasing"})
    module = TrainingModule(
        network,
        optimizer=config.optimizer,
        scheduler=config.scheduler,
        lr=lr,
        class_weights=balanced_weights(batches.train.labels, num_classes) if weighted else None,
        mix=partial(mixing.mix, num_classes=num_classes, **mixture) if any(mixture.values()) else None,
        **config.regularization.model_dump(exclude=set(mixture)),
    )
    return train_epochs(
        module, batches, working, seed=config.seed, max_epochs=config.train.max_epochs,
        rule=StoppingRule(config.train.monitor, **config.train.early_stopping.model_dump()),
        ema_decay=config.train.ema_decay, gradient_clip_norm=config.train.gradient_clip_norm,
        accelerator=config.train.accelerator, precision=config.train.precision, on_row=on_row,
    )  # fmt: skip


def _lr_from_range_test(network: model.Network, batches: ImageBatches, config: Config, working: Path) -> float:
    """The learning rate that a range test suggests; a resumed training reads the test's result."""
    if not (working / LR_RANGE).exists():
        steps = lr_range.lr_range(
            network,
            batches.train,
            batch_size=config.train.batch_size,
            optimizer=config.optimizer,
            seed=derive_seed(config.seed, "learning rate range"),
        )
        atomic.write_text(working / LR_RANGE, tables.to_csv(lr_range.Step._fields, steps))
    with checksums.reading(working / LR_RANGE):
        steps = lr_range.read_csv(working / LR_RANGE)
    lr = lr_range.suggestion(steps)
    print(f"optimizer.lr=auto: {lr:g}, from a range test of {len(steps)} steps")
    return lr


def _weights_table(network: model.Network, state: dict[str, torch.Tensor]) -> str:
    """CSV with a line for each penalised layer: number of weights, number of kept ones that are exactly 0, and their norm."""
    penalized = {id(parameter) for parameter in model.penalized(network)}
    rows = []
    for name, parameter in network.named_parameters():
        if id(parameter) in penalized:
            weights = state[name]
            layer = name.removesuffix(".weight").split(".", 1)[1].replace(".", "_")  # as the table of layers names it
            rows.append((layer, weights.numel(), int((weights == 0).sum()), float(weights.norm())))
    return tables.to_csv(("layer", "weights", "zeros", "norm"), rows)


def _online(record: AugmentRecord, dataset: DatasetRecord) -> Augment:
    """The augmentation of `augment.mode=online`."""
    from pipeline.augmentation.veto import augmentation

    return augmentation(
        record.transforms, record.veto, size=dataset.size, channels=dataset.channels, classes=dataset.classes
    )
