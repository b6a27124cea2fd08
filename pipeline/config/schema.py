"""The type and the range of every configuration key. Defaults live in `conf/`, never here.

A group that has options (`data`, `augment`, `model`, `optimizer`, `scheduler`) is a mapping whose `name` chooses
the dataclass that checks the rest of it (`OPTIONS`). All other groups have exactly one form.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


def _checked(expected: str, accepts: Callable[[Any], bool]) -> Any:
    """A required field whose value must satisfy `accepts`; `expected` says so in words."""
    return field(default=MISSING, metadata={"expected": expected, "accepts": accepts})


def _above(bound: float) -> Any:
    return _checked(f"a number > {bound}", lambda value: bound < value < math.inf)


def _at_least(bound: float) -> Any:
    return _checked(f"a number >= {bound}", lambda value: bound <= value < math.inf)


def _positive(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < math.inf


def _fraction() -> Any:
    return _checked("a number in [0, 1)", lambda value: 0 <= value < 1)


def _one_of(*choices: str) -> Any:
    return _checked("one of " + ", ".join(choices), lambda value: value in choices)


@dataclass
class Published:
    """Images as their authors published them: files that are known by their SHA-256, and where they can be had."""

    name: str = MISSING
    layout: str = _one_of("idx", "cifar")
    source: str | None = MISSING
    mirrors: list[str] = MISSING
    files: dict[str, str] = MISSING
    classes: list[str] = MISSING
    licence: str = MISSING
    origin: str = MISSING


@dataclass
class Digits:
    """scikit-learn's 1,797 images of digits, 8×8 grey, 10 classes; needs no network."""

    name: str = MISSING


@dataclass
class Prepare:
    size: int = _at_least(4)
    fit: str = _one_of("pad", "resize")
    val_fraction: float = _checked("a number in (0, 0.5]", lambda value: 0 < value <= 0.5)
    confirm_fraction: float = _fraction()
    test_fraction: float = _fraction()
    limit: int | None = _at_least(1)
    random_labels: float = _checked("a number in [0, 1]", lambda value: 0 <= value <= 1)
    seed: int = _at_least(0)


@dataclass
class Augment:
    name: str = MISSING
    mode: str = _one_of("auto", "materialized", "online")
    max_gigabytes: float = _above(0)
    copies: int = _at_least(1)
    strength: float = _checked("a number in [0, 10]", lambda value: 0 <= value <= 10)
    transforms: list[Any] = MISSING
    veto: dict[str, list[Any]] = MISSING
    seed: int = _at_least(0)
    workers: int | None = _at_least(1)
    backend: str = _one_of("loky", "ray", "dask")


ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh")


@dataclass
class LeNet:
    name: str = MISSING
    width: float = _above(0)
    depth: int = _at_least(0)
    activation: str = _one_of(*ACTIVATIONS)
    pooling: str = _one_of("max", "average")
    conv_dropout: float = _fraction()
    dropout: float = _fraction()


@dataclass
class ConvNet:
    name: str = MISSING
    width: int = _at_least(1)
    depth: int = _at_least(1)
    kernel_size: int = _at_least(1)
    stride: int = _at_least(1)
    padding: int | None = _at_least(0)
    dilation: int = _at_least(1)
    pooling: str = _one_of("max", "average")
    pool_size: int = _at_least(1)
    normalization: str = _one_of("batch", "group", "none")
    activation: str = _one_of(*ACTIVATIONS)
    head: str = _one_of("average", "flatten")
    hidden: int = _at_least(0)
    conv_dropout: float = _fraction()
    dropout: float = _fraction()


@dataclass
class ResNet:
    name: str = MISSING
    width: int = _at_least(1)
    depth: int = _at_least(1)
    stages: int = _at_least(1)
    normalization: str = _one_of("batch", "group")
    activation: str = _one_of(*ACTIVATIONS)
    conv_dropout: float = _fraction()
    dropout: float = _fraction()


@dataclass
class Timm:
    name: str = MISSING
    architecture: str = MISSING
    pretrained: bool = MISSING
    conv_dropout: float = _fraction()
    dropout: float = _fraction()


@dataclass
class Regularization:
    l1: float = _at_least(0)
    l1_as: str = _one_of("proximal", "subgradient")
    l2: float = _at_least(0)
    l2_as: str = _one_of("decay", "penalty")
    label_smoothing: float = _fraction()
    mixup: float = _at_least(0)
    cutmix: float = _at_least(0)
    erasing: float = _checked("a number in [0, 1]", lambda value: 0 <= value <= 1)


@dataclass
class SGD:
    name: str = MISSING
    lr: float | str = _checked("a number > 0 or auto", lambda value: value == "auto" or _positive(value))
    momentum: float = _fraction()
    nesterov: bool = MISSING


@dataclass
class AdamW:
    name: str = MISSING
    lr: float | str = _checked("a number > 0 or auto", lambda value: value == "auto" or _positive(value))
    beta1: float = _fraction()
    beta2: float = _fraction()


@dataclass
class Constant:
    name: str = MISSING
    warmup_fraction: float = _fraction()


@dataclass
class OneCycle:
    name: str = MISSING
    warmup_fraction: float = _fraction()


@dataclass
class Cosine:
    name: str = MISSING
    warmup_fraction: float = _fraction()
    final_fraction: float = _fraction()


@dataclass
class EarlyStopping:
    patience: int | None = _at_least(1)
    min_delta: float = _at_least(0)
    warmup_epochs: int = _at_least(0)
    restore_best: bool = MISSING


@dataclass
class Train:
    max_epochs: int = _at_least(1)
    batch_size: int = _at_least(1)
    class_weights: str = _one_of("none", "balanced")
    sampling: str = _one_of("shuffled", "balanced")
    monitor: str = MISSING
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    ema_decay: float = _fraction()
    gradient_clip_norm: float | None = _above(0)
    accelerator: str = _one_of("auto", "cpu", "gpu", "mps")
    devices: int = _at_least(1)
    precision: str = _one_of("32-true", "bf16-mixed", "16-mixed")
    channels_last: bool = MISSING
    threads: int | None = _at_least(1)
    loader_workers: int = _at_least(0)


@dataclass
class Evaluate:
    batch_size: int = _at_least(1)
    tta: str = _one_of("none", "flip", "flip_shift")
    training: str | None = MISSING


@dataclass
class Diagnose:
    training: str | None = MISSING
    reference: float | None = _checked("a number in (0, 1)", lambda value: 0 < value < 1)
    thresholds: dict[str, float] = MISSING


@dataclass
class Report:
    training: str | None = MISSING
    evaluation: str | None = MISSING
    diagnosis: str | None = MISSING


@dataclass
class Ablate:
    seeds: int = _at_least(2)
    budget_minutes: float | None = _above(0)
    only: list[str] | None = MISSING
    arms: dict[str, list[str]] = MISSING
    tune: bool = MISSING
    tune_seeds: int = _at_least(1)
    doses: dict[str, list[str]] = MISSING
    tuned: str | None = MISSING


@dataclass
class Cure:
    seeds: int = _at_least(1)
    confirm_seeds: int = _at_least(3)
    max_runs: int = _at_least(1)
    max_minutes: float | None = _above(0)
    apply: bool = MISSING


@dataclass
class LearningCurve:
    fractions: list[float] = MISSING
    seeds: int = _at_least(2)
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

    seed: int = _at_least(0)
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
    "data": {"fashion_mnist": Published, "cifar10": Published, "digits": Digits},
    "model": {"lenet": LeNet, "convnet": ConvNet, "resnet": ResNet, "timm": Timm},
    "optimizer": {"sgd": SGD, "adamw": AdamW},
    "scheduler": {"constant": Constant, "one_cycle": OneCycle, "cosine": Cosine},
}

FREE_MAPS = ("tracking.tags", "data.files", "augment.veto", "ablate.arms", "ablate.doses", "diagnose.thresholds")
"""Mappings whose keys are the user's own."""
