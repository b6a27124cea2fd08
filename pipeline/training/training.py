"""Trains the network that the configuration describes, from the folders of `prepare` and `augment` to a folder of its own."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from pipeline import model
from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.run import RunOutcome, Saving
from pipeline.artefacts.signals import SignalsRecord
from pipeline.artefacts.weights import WeightsRecord
from pipeline.config import validation
from pipeline.config.schema import Config
from pipeline.metrics import history
from pipeline.metrics.early_stopping import StoppingRule
from pipeline.model import start
from pipeline.seeds import derive_seed
from pipeline.stage import lineage
from pipeline.storage import atomic, checksums, tables
from pipeline.training import checkpoints, lr_range, mixing, processes
from pipeline.training.balance import balanced_weights
from pipeline.training.batches import Augment, ImageBatches
from pipeline.training.callbacks import OnRow
from pipeline.training.checks import measure_signals
from pipeline.training.features import LastLayer, training_features
from pipeline.training.kept import measure_kept
from pipeline.training.loop import Outcome, train_epochs
from pipeline.training.module import TrainingModule

LR_RANGE = "lr_range.csv"
MIXTURES = {"mixup", "cutmix", "erasing"}
"""Keys of `regularization` that change the images of a batch."""

FOLLOWER = ("-m", "pipeline.train")
"""Arguments of a Python that runs `follow`, started as a rank above 0."""


@dataclass(frozen=True)
class Inputs:
    """Output folders of earlier stages; `weights` is None where a training starts from random ones."""

    prepare: Path
    augment: Path
    weights: Path | None = None

    @classmethod
    def of(cls, paths: Mapping[str, str]) -> Self:
        """The folders that `paths` wrote as texts."""
        return cls(**{stage: Path(path) for stage, path in paths.items()})

    def folders(self) -> dict[str, Path]:
        """The folders, by stage."""
        return {stage: path for stage, path in vars(self).items() if path is not None}

    def paths(self) -> dict[str, str]:
        """The folders as texts, by stage."""
        return {stage: str(path) for stage, path in self.folders().items()}


def train(inputs: Inputs, cache: Path, working: Path, out: Path, config: Config, on_row: OnRow) -> RunOutcome:
    """Train one network and write what it learned.

    Args:
        inputs: Output folders of earlier stages.
        cache: The project's `build/cache`, for the features of a frozen network.
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
        plan = _build(inputs, cache, config)
        network, batches = plan.trained, plan.batches
        if not (working / SignalsRecord.FILE).exists():
            measure_signals(network, batches, plan.num_classes, config.seed).write(working)
        lr = config.optimizer.lr
        if lr == "auto":
            lr = _lr_from_range_test(network, batches, config, working)
        group.begin(inputs=inputs.paths(), cache=str(cache), working=str(working), config=config.model_dump(), lr=lr)
        outcome = _train_epochs(plan, working, config, lr, on_row)
    state = plan.network.state_dict() | outcome.state  # features leave all but the last layer as it was
    model.save(out / "model.ckpt", plan.description, state, DatasetRecord.read(inputs.prepare).classes)
    (out / "history.csv").write_text(history.to_csv(outcome.rows))
    for name in (SignalsRecord.FILE, LR_RANGE):
        if (working / name).exists():
            shutil.copy2(working / name, out)
    (out / "weights.csv").write_text(_weights_table(plan.network, state))
    kept = measure_kept(network, outcome.state, batches, seed=config.seed, accelerator=config.train.accelerator)
    return RunOutcome(
        best_epoch=outcome.best_epoch, epochs=len(outcome.rows), stop_reason=outcome.stop_reason,
        early_stopping=Saving(saved_epochs=outcome.saved_epochs, saved_seconds=outcome.saved_seconds), lr=lr,
        seconds=sum(row["seconds"] for row in outcome.rows), times_ms=outcome.times_ms,
        num_parameters=sum(parameter.numel() for parameter in plan.network.parameters()),
        weights_sha256=lineage.hash_file(out / "model.ckpt"), kept_training=kept,
    )  # fmt: skip


def follow(inputs: dict[str, str], cache: str, working: str, config: dict[str, Any], lr: float) -> None:
    """Compute a training together with its leader, which calls `train` and sends the arguments as JSON."""
    settings = validation.validate(config)
    _train_epochs(_build(Inputs.of(inputs), Path(cache), settings), Path(working), settings, lr)


@dataclass(frozen=True)
class Plan:
    """What a training works on, the same in every process.

    Attributes:
        description: Arguments of `pipeline.model.build` for the network.
        network: Network with the weights that it starts from.
        trained: The part of it that is trained: the network itself, or its last layer alone, on features.
        batches: Batches of images, or of features.
        start: Weights that layers decay towards, by the parameter that decays; empty without `towards_start`.
    """

    description: Mapping[str, Any]
    network: model.Network
    trained: nn.Module
    batches: ImageBatches
    start: dict[nn.Parameter, torch.Tensor]

    @property
    def num_classes(self) -> int:
        return int(self.description["num_classes"])


def _build(inputs: Inputs, cache: Path, config: Config) -> Plan:
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    dataset, augmentation = DatasetRecord.read(inputs.prepare), AugmentRecord.read(inputs.augment)
    weights = None if inputs.weights is None else WeightsRecord.read(inputs.weights)
    options = config.model.model_dump(exclude=set(config.model.START))
    description = start.description(options, weights, dataset, channels_last=config.train.channels_last)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    network = model.build(**description)
    if weights is not None and inputs.weights is not None:
        start.load_into(network, inputs.weights, with_last_layer=weights.classes == dataset.classes)
    mixes = any(config.regularization.model_dump(include=MIXTURES).values())
    on_features = config.model.train_layers == "head" and augmentation.mode != "online" and not mixes
    features = training_features(network, description, inputs.folders(), cache) if on_features else None
    trained = LastLayer(network) if on_features else network
    batches = ImageBatches(
        inputs.prepare, inputs.augment, batch_size=config.train.batch_size, seed=config.seed,
        loader_workers=config.train.loader_workers,
        augment=_online(augmentation, dataset) if augmentation.mode == "online" else None,
        balanced=config.train.sampling == "balanced", features=features,
    )  # fmt: skip
    anchored = config.regularization.l2_as == "towards_start"
    anchors = {
        parameter: parameter.detach().clone() for name, parameter in network.named_parameters()
        if anchored and not name.startswith(start.LAST_LAYER)
    }  # fmt: skip
    return Plan(description, network, trained, batches, anchors)


def _train_epochs(
    plan: Plan, working: Path, config: Config, lr: float, on_row: OnRow = lambda row, time_ms: None
) -> Outcome:
    weighted = config.train.class_weights == "balanced"
    mixture = config.regularization.model_dump(include=MIXTURES)
    batches, num_classes, started = plan.batches, plan.num_classes, config.model
    module = TrainingModule(
        plan.trained,
        frozen_epochs={"all": 0, "gradual": started.head_epochs, "head": config.train.max_epochs}[started.train_layers],
        keep_statistics=started.normalization_statistics == "kept" and started.weights is not None,
        start=plan.start,
        optimizer=config.optimizer,
        scheduler=config.scheduler,
        lr=lr,
        class_weights=balanced_weights(batches.train.labels, num_classes) if weighted else None,
        mix=partial(mixing.mix, num_classes=num_classes, **mixture) if any(mixture.values()) else None,
        **config.regularization.model_dump(exclude=MIXTURES),
    )
    return train_epochs(
        module, batches, working, seed=config.seed, max_epochs=config.train.max_epochs,
        rule=StoppingRule(config.train.monitor, **config.train.early_stopping.model_dump()),
        ema_decay=config.train.ema_decay, gradient_clip_norm=config.train.gradient_clip_norm,
        accelerator=config.train.accelerator, precision=config.train.precision, on_row=on_row,
    )  # fmt: skip


def _lr_from_range_test(network: nn.Module, batches: ImageBatches, config: Config, working: Path) -> float:
    """The learning rate that a range test suggests; a resumed training reads the test's result."""
    few = len(batches.train.labels) < lr_range.FEW_IMAGES
    if not (working / LR_RANGE).exists():
        tests = [
            lr_range.lr_range(
                network,
                batches.train,
                batch_size=config.train.batch_size,
                optimizer=config.optimizer,
                seed=derive_seed(config.seed, f"learning rate range {repeat}" if repeat else "learning rate range"),
            )
            for repeat in range(lr_range.REPEATS if few else 1)
        ]
        steps = min(tests, key=lambda steps: lr_range.suggestion(steps, config.optimizer.name, few=few).lr)
        atomic.write_text(working / LR_RANGE, tables.to_csv(lr_range.Step._fields, steps))
    with checksums.reading(working / LR_RANGE):
        steps = lr_range.read_csv(working / LR_RANGE)
    lr, reason = lr_range.suggestion(steps, config.optimizer.name, few=few)
    of_test = f"a range test of {len(steps)} steps"
    print(f"optimizer.lr=auto: {lr:g}, " + (f"a safe one, as in {of_test} {reason}" if reason else f"from {of_test}"))
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
