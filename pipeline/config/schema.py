"""The type and the range of every configuration key. Defaults live in `conf/`, never here.

A group that has options (`data`, `augment`, `model`, `optimizer`, `scheduler`) is a mapping whose `name` chooses
the dataclass that checks the rest of it (`OPTIONS`). All other groups have exactly one form.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline.config.ranges import above, at_least, checked, fraction, one_of, positive
from pipeline.config.schema_data import Digits, Folder, Prepare, Published


@dataclass
class Augment:
    name: str = MISSING
    mode: str = one_of("auto", "materialized", "online")
    max_gigabytes: float = above(0)
    copies: int = at_least(1)
    strength: float = checked("a number in [0, 10]", lambda value: 0 <= value <= 10)
    transforms: list[Any] = MISSING
    veto: dict[str, list[Any]] = MISSING
    seed: int = at_least(0)
    workers: int | None = at_least(1)
    backend: str = one_of("loky", "ray", "dask")


ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh")


@dataclass
class LeNet:
    name: str = MISSING
    width: float = above(0)
    depth: int = at_least(0)
    activation: str = one_of(*ACTIVATIONS)
    pooling: str = one_of("max", "average")
    conv_dropout: float = fraction()
    dropout: float = fraction()


@dataclass
class ConvNet:
    name: str = MISSING
    width: int = at_least(1)
    depth: int = at_least(1)
    kernel_size: int = at_least(1)
    stride: int = at_least(1)
    padding: int | None = at_least(0)
    dilation: int = at_least(1)
    pooling: str = one_of("max", "average")
    pool_size: int = at_least(1)
    normalization: str = one_of("batch", "group", "none")
    activation: str = one_of(*ACTIVATIONS)
    head: str = one_of("average", "flatten")
    hidden: int = at_least(0)
    conv_dropout: float = fraction()
    dropout: float = fraction()


@dataclass
class ResNet:
    name: str = MISSING
    width: int = at_least(1)
    depth: int = at_least(1)
    stages: int = at_least(1)
    normalization: str = one_of("batch", "group")
    activation: str = one_of(*ACTIVATIONS)
    conv_dropout: float = fraction()
    dropout: float = fraction()


@dataclass
class Timm:
    name: str = MISSING
    architecture: str = MISSING
    pretrained: bool = MISSING
    conv_dropout: float = fraction()
    dropout: float = fraction()


@dataclass
class Regularization:
    l1: float = at_least(0)
    l1_as: str = one_of("proximal", "subgradient")
    l2: float = at_least(0)
    l2_as: str = one_of("decay", "penalty")
    label_smoothing: float = fraction()
    mixup: float = at_least(0)
    cutmix: float = at_least(0)
    erasing: float = checked("a number in [0, 1]", lambda value: 0 <= value <= 1)


@dataclass
class SGD:
    name: str = MISSING
    lr: float | str = checked("a number > 0 or auto", lambda value: value == "auto" or positive(value))
    momentum: float = fraction()
    nesterov: bool = MISSING


@dataclass
class AdamW:
    name: str = MISSING
    lr: float | str = checked("a number > 0 or auto", lambda value: value == "auto" or positive(value))
    beta1: float = fraction()
    beta2: float = fraction()


@dataclass
class Constant:
    name: str = MISSING
    warmup_fraction: float = fraction()


@dataclass
class OneCycle:
    name: str = MISSING
    warmup_fraction: float = fraction()


@dataclass
class Cosine:
    name: str = MISSING
    warmup_fraction: float = fraction()
    final_fraction: float = fraction()


@dataclass
class EarlyStopping:
    patience: int | None = at_least(1)
    min_delta: float = at_least(0)
    warmup_epochs: int = at_least(0)
    restore_best: bool = MISSING


@dataclass
class Train:
    max_epochs: int = at_least(1)
    batch_size: int = at_least(1)
    class_weights: str = one_of("none", "balanced")
    sampling: str = one_of("shuffled", "balanced")
    monitor: str = MISSING
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    ema_decay: float = fraction()
    gradient_clip_norm: float | None = above(0)
    accelerator: str = one_of("auto", "cpu", "gpu", "mps")
    devices: int = at_least(1)
    precision: str = one_of("32-true", "bf16-mixed", "16-mixed")
    channels_last: bool = MISSING
    threads: int | None = at_least(1)
    loader_workers: int = at_least(0)


@dataclass
class Evaluate:
    batch_size: int = at_least(1)
    tta: str = one_of("none", "flip", "flip_shift")
    training: str | None = MISSING


@dataclass
class Diagnose:
    training: str | None = MISSING
    reference: float | None = checked("a number in (0, 1)", lambda value: 0 < value < 1)
    thresholds: dict[str, float] = MISSING


@dataclass
class Report:
    training: str | None = MISSING
    evaluation: str | None = MISSING
    diagnosis: str | None = MISSING


@dataclass
class Ablate:
    seeds: int = at_least(2)
    budget_minutes: float | None = above(0)
    only: list[str] | None = MISSING
    arms: dict[str, list[str]] = MISSING
    tune: bool = MISSING
    tune_seeds: int = at_least(1)
    doses: dict[str, list[str]] = MISSING
    tuned: str | None = MISSING


@dataclass
class Cure:
    seeds: int = at_least(1)
    confirm_seeds: int = at_least(3)
    max_runs: int = at_least(1)
    max_minutes: float | None = above(0)
    apply: bool = MISSING


@dataclass
class LearningCurve:
    fractions: list[float] = MISSING
    seeds: int = at_least(2)
    same_steps: bool = MISSING


@dataclass
class Tracking:
    enabled: bool = MISSING
    uri: str | None = MISSING
    experiment: str = MISSING
    tags: dict[str, str] = MISSING


@dataclass
class Config:
    """The whole configuration; groups with options hold one of the dataclasses of `OPTIONS`."""

    seed: int = at_least(0)
    fail_fast: bool = MISSING
    data: Any = MISSING
    prepare: Prepare = field(default_factory=Prepare)
    augment: Augment = field(default_factory=Augment)
    model: Any = MISSING
    regularization: Regularization = field(default_factory=Regularization)
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    train: Train = field(default_factory=Train)
    evaluate: Evaluate = field(default_factory=Evaluate)
    diagnose: Diagnose = field(default_factory=Diagnose)
    report: Report = field(default_factory=Report)
    ablate: Ablate = field(default_factory=Ablate)
    cure: Cure = field(default_factory=Cure)
    learning_curve: LearningCurve = field(default_factory=LearningCurve)
    tracking: Tracking = field(default_factory=Tracking)


OPTIONS: dict[str, dict[str, type]] = {
    "data": {"fashion_mnist": Published, "cifar10": Published, "digits": Digits, "folder": Folder},
    "model": {"lenet": LeNet, "convnet": ConvNet, "resnet": ResNet, "timm": Timm},
    "optimizer": {"sgd": SGD, "adamw": AdamW},
    "scheduler": {"constant": Constant, "one_cycle": OneCycle, "cosine": Cosine},
}

FREE_MAPS = (
    "tracking.tags", "data.files", "data.columns", "data.storage_options", "augment.veto", "ablate.arms", "ablate.doses",
    "diagnose.thresholds",
)  # fmt: skip
"""Mappings whose keys are the user's own."""
