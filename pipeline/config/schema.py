"""The type and the range of every configuration key. Defaults live in `conf/`, never here.

Each class is one section. A group with options (`data`, `model`, `optimizer`, `scheduler`) is a union of classes, from which
its key `name` chooses.
"""

import warnings
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.schema_data import Data, Prepare
from pipeline.config.schema_model import Model
from pipeline.config.section import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    Probability,
    Section,
    options,
    refused,
)
from pipeline.errors import ConfigError
from pipeline.metrics.history import METRICS


class Augment(Section):
    name: str
    mode: Literal["auto", "materialized", "online"]
    max_gigabytes: Positive
    copies: Count
    strength: float = Field(ge=0, le=10)
    transforms: list[Any]
    veto: dict[str, list[Any]]
    seed: Natural
    workers: Count | None
    backend: Literal["loky", "ray", "dask"]


class Regularization(Section):
    l1: NonNegative
    l1_as: Literal["proximal", "subgradient"]
    l2: NonNegative
    l2_as: Literal["decay", "penalty", "towards_start"]
    label_smoothing: Fraction
    mixup: NonNegative
    cutmix: NonNegative
    erasing: Probability


LearningRate = Positive | Literal["auto"]
Decay = Annotated[float, Field(gt=0, le=1)]


class SGD(Section):
    name: Literal["sgd"]
    lr: LearningRate
    momentum: Fraction
    nesterov: bool
    layer_decay: Decay


class AdamW(Section):
    name: Literal["adamw"]
    lr: LearningRate
    beta1: Fraction
    beta2: Fraction
    layer_decay: Decay


class WarmupScheduler(Section):
    name: Literal["constant", "one_cycle"]
    warmup_fraction: Fraction


class Cosine(Section):
    name: Literal["cosine"]
    warmup_fraction: Fraction
    final_fraction: Fraction


class EarlyStopping(Section):
    patience: Count | None
    min_delta: NonNegative
    warmup_epochs: Natural
    restore_best: bool


class Train(Section):
    max_epochs: Count
    batch_size: Count
    class_weights: Literal["none", "balanced"]
    sampling: Literal["shuffled", "balanced"]
    monitor: Literal[METRICS]  # type: ignore[valid-type]
    early_stopping: EarlyStopping
    ema_decay: Fraction
    gradient_clip_norm: Positive | None
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Count
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    channels_last: bool
    threads: Count | None
    loader_workers: Natural

    @model_validator(mode="after")
    def _check_balance(self) -> Self:
        if self.sampling == self.class_weights == "balanced":
            raise ConfigError(
                "train.class_weights must be none with train.sampling=balanced, which shows each class equally often "
                "already; got 'balanced'. Set one of them back in params.yaml or on the command line."
            )
        return self


class Evaluate(Section):
    batch_size: Count
    tta: Literal["none", "flip", "flip_shift"]
    training: str | None


class Diagnose(Section):
    training: str | None
    reference: Annotated[float, Field(gt=0, lt=1)] | None
    thresholds: dict[str, float]


class Package(Section):
    training: str | None
    evaluation: str | None
    diagnosis: str | None
    coverage: float = Field(gt=0, lt=1)
    operating_point: dict[str, Any]
    confirm_chose: bool

    @model_validator(mode="after")
    def _check_point(self) -> Self:
        point = self.operating_point
        recall = point.get("recall")
        is_share = isinstance(recall, int | float) and not isinstance(recall, bool) and 0 < recall < 1
        if point and not (point.keys() == {"class", "recall"} and isinstance(point["class"], str) and is_share):
            raise refused("package.operating_point", "{} or {class: <name>, recall: <number in (0, 1)>}", point)
        return self


class Register(Section):
    enabled: bool
    package: str | None
    name: str | None = Field(
        pattern=r'^[^/:?"]*[^/:?".\s][^/:?"]*$', description='null or a name without /, :, ? and "'
    )
    margin: Fraction | None
    refused_verdicts: list[str]
    min_accuracy: Probability | None
    max_size_mb: Positive | None
    max_latency_ms: Positive | None


class Report(Section):
    training: str | None
    evaluation: str | None
    diagnosis: str | None
    package: str | None


class Ablate(Section):
    seeds: int = Field(ge=2)
    budget_minutes: Positive | None
    only: list[str] | None
    arms: dict[str, list[str]]
    tune: bool
    tune_seeds: Count
    doses: dict[str, list[str]]
    tuned: str | None


class Cure(Section):
    seeds: Count
    confirm_seeds: int = Field(ge=3)
    folds: Annotated[int, Field(ge=2)] | None
    max_runs: Count
    max_minutes: Positive | None
    apply: bool


class Starts(Section):
    folds: int = Field(ge=2)
    repeats: Count
    per_class: list[Count]
    only: list[str] | None
    ways: dict[str, list[str]]


class LearningCurve(Section):
    fractions: list[float]
    seeds: int = Field(ge=2)
    same_steps: bool


class Tracking(Section):
    enabled: bool
    uri: str | None
    experiment: str = Field(pattern=r"\S", description="the name of an experiment")
    tags: dict[str, str]


with warnings.catch_warnings():  # `register` is a method of Python's abstract classes too, which nothing calls here
    warnings.simplefilter("ignore", UserWarning)

    class Config(Section):
        """The whole configuration."""

        seed: Natural
        fail_fast: bool
        data: Data
        prepare: Prepare
        augment: Augment
        model: Model
        regularization: Regularization
        optimizer: Annotated[SGD | AdamW, Field(discriminator="name")]
        scheduler: Annotated[WarmupScheduler | Cosine, Field(discriminator="name")]
        train: Train
        evaluate: Evaluate
        diagnose: Diagnose
        package: Package
        register: Register
        report: Report
        ablate: Ablate
        cure: Cure
        starts: Starts
        learning_curve: LearningCurve
        tracking: Tracking

        @model_validator(mode="after")
        def _check_start(self) -> Self:
            if self.train.devices > 1 and self.model.train_layers == "gradual":
                raise ConfigError(
                    f"model.train_layers must be head or all with train.devices={self.train.devices}, as the processes agree "
                    "once on the layers that learn; got 'gradual'. Change one of them."
                )
            if self.model.weights is None and self.regularization.l2_as == "towards_start":
                raise ConfigError(
                    "regularization.l2_as must be decay or penalty with model.weights=null; got 'towards_start', and there is "
                    "no start to decay towards. Set model.weights."
                )
            return self


OPTIONS = {group: options(field) for group, field in Config.model_fields.items() if field.discriminator}
"""The sections of each group with options, by name."""

FREE_MAPS = (
    "tracking.tags", "data.files", "data.columns", "data.storage_options", "augment.veto", "ablate.arms", "ablate.doses",
    "diagnose.thresholds", "package.operating_point", "starts.ways",
)  # fmt: skip
"""Mappings with keys of the user's choice."""
