"""Proposes a configuration for what a survey tells; each value with its reason.

Measured by `benchmarks/suggest.py`; docs/few-images.md shows the numbers.
"""

import re
from dataclasses import dataclass
from typing import Any

from pipeline.suggestion.survey import Survey

SMALL_SIDE = 48
"""Longer side in pixels up to which an image is too small for a network that was trained on photographs to be at its best."""

UNEQUAL = 3.0
"""Images of the largest class over those of the smallest, from which each class weighs the same."""

MANY_ALIKE = 0.2
"""Share of images that are alike, from which they are probably shots of the same objects or frames of films."""

ENOUGH_FOR_ALL = 50
"""Images a class from which all layers learn; below, as in `experiment=few_images`, the last layer alone. Of clip art, that was
better with 10 a class (0.47 against 0.39) and all layers with 50 (0.68 against 0.63)."""

FEW = 300
"""Number of images below which one validation split says too little, so that folds take its place."""

NUM_FOLDS = 10
"""So many that each fold trains on no fewer images than a split of its own for validation would leave."""

FEWEST_FOR_FOLDS = 15
"""Number of images that the smallest class needs to be in each fold, in the confirm split and in the test split."""

_WITHOUT_MIRROR = re.compile(r"[0-9]|[A-Za-z]|(.*\W|.*_)?(left|right)((\W|_).*)?", re.IGNORECASE)
"""Names of classes whose mirror image is none of them: digits, letters, left and right."""


@dataclass(frozen=True)
class Line:
    """A key of `params.yaml`, its value, and why."""

    key: str
    value: Any
    reason: str = ""


def suggest(survey: Survey, source: str, options: dict[str, Any]) -> list[Line]:
    """The keys to begin with, in the order of `params.yaml`.

    Args:
        survey: What is known of the images.
        source: Value of `data.source`.
        options: Further keys of `data` that were needed to read them.
    """
    return [
        Line("seed", 0),
        Line("experiment", None),
        Line("data.name", "folder"),
        Line("data.source", source, survey.title),
        *(Line(f"data.{key}", value) for key, value in options.items()),
        *_prepare(survey),
        *_augment(survey),
        *_model(survey),
        Line("regularization.l1", 0.0),
        Line("regularization.l2", 0.0),
        Line("regularization.label_smoothing", 0.0),
        Line("regularization.mixup", 0.0),
        *_fit(survey),
        Line("evaluate.tta", "none"),
    ]


def pretrained(survey: Survey) -> bool:
    """Whether to begin with the network that was trained on photographs."""
    return survey.sides[1] > SMALL_SIDE or not survey.looks_grey


def _size(survey: Survey) -> tuple[int, str]:
    side = survey.sides[1]
    if pretrained(survey):
        return 128, f"what EfficientNet-Lite0 is made for here; the longer sides are {_sides(survey)}"
    size = 28 if side <= 28 else 32 if side <= 40 else 48
    return size, f"near that of the images, whose longer sides are {_sides(survey)}"


def _prepare(survey: Survey) -> list[Line]:
    size, why = _size(survey)
    lines = [Line("prepare.size", size, why)]
    if survey.looks_grey and not survey.is_grey:
        lines.append(Line("prepare.channels", 1, "the files are in colour, and what they show is grey"))
    if survey.sides[1] < size:
        fit = "stretch" if survey.aspect <= 1.1 else "crop"
        lines.append(Line("prepare.fit", fit, "enlarges smaller images, where pad would frame them"))
    lines.append(Line("prepare.limit", None, "all images"))
    return lines + _alike(survey) + _folds(survey)


def _alike(survey: Survey) -> list[Line]:
    if not survey.num_alike:
        return []
    why = f"{survey.num_alike:,} of {survey.num_seen:,} are alike: these stay in one split"
    if survey.num_alike > MANY_ALIKE * survey.num_seen and not survey.has_groups:
        why += "; name films or objects with prepare.group"
    return [Line("prepare.near_duplicates", True, why)]


def _folds(survey: Survey) -> list[Line]:
    fewest = min(survey.counts.values())
    if survey.num_images >= FEW or fewest < FEWEST_FOR_FOLDS or "val" in survey.splits:
        return []
    each = ",".join(map(str, range(NUM_FOLDS)))
    return [
        Line("prepare.folds", NUM_FOLDS, f"{survey.num_images:,} images: one validation split would say little"),
        Line("prepare.fold", 0, f"all in turn: python -m pipeline.train prepare.fold={each} -m"),
    ]


def _augment(survey: Survey) -> list[Line]:
    per_class = survey.num_images / len(survey.counts)
    name = "standard" if per_class < 1000 else "light"
    lines = [Line("augment.name", name, f"{per_class:,.0f} images a class")]
    without = [label for label in survey.counts if _WITHOUT_MIRROR.fullmatch(label)]
    if without:
        why = "the mirror image of a digit, a letter, or of left and right is another one"
        lines.append(Line("augment.veto", {"HorizontalFlip": without}, why))
    return lines


def _all_layers_learn(survey: Survey) -> bool:
    return survey.num_images >= ENOUGH_FOR_ALL * len(survey.counts)


def _model(survey: Survey) -> list[Line]:
    number = survey.num_images
    if not pretrained(survey):
        why = f"{number:,} small grey images, of which photographs teach little"
        return [Line("model.name", "convnet" if number < 5000 else "resnet", why)]
    if _all_layers_learn(survey):
        layers, how = "gradual", "the last layer first, then all, in minutes; head: the last one alone, in seconds"
    else:
        layers, how = "head", "the last layer alone: too few images of a class to change the others"
    return [
        Line("model.name", "efficientnet", f"{number:,} images: begins with what ImageNet's photographs taught"),
        Line("model.weights", "imagenet", "come with the installation"),
        Line("model.train_layers", layers, how),
    ]


def _fit(survey: Survey) -> list[Line]:
    batch = 32 if survey.num_images < 1000 else 64 if survey.num_images < 5000 else 256
    lines = [Line("optimizer.name", "adamw")]
    epochs = 40 if survey.num_images < 20_000 else 20
    if pretrained(survey) and _all_layers_learn(survey):
        lines += [
            Line("optimizer.lr", 5e-4, "low, as all layers learn and have learned before; head: 0.003"),
            Line("optimizer.layer_decay", 0.8, "the early layers, which know edges and textures, change least"),
        ]
        epochs = 16 if survey.num_images < 5000 else 8
    lines += [
        Line("scheduler.name", "one_cycle"),
        Line("train.max_epochs", epochs, "early stopping may end it before"),
        Line("train.batch_size", batch, f"{max(1, round(0.7 * survey.num_images / batch)):,} steps an epoch"),
        Line("train.early_stopping.patience", 10 if survey.num_images < 5000 else 5, "epochs without a gain"),
    ]
    largest, smallest = max(survey.counts.values()), min(survey.counts.values())
    if largest >= UNEQUAL * smallest:
        why = f"{largest:,} images in the largest class, {smallest:,} in the smallest: each class weighs the same"
        lines.append(Line("train.class_weights", "balanced", why))
    return lines


def _sides(survey: Survey) -> str:
    low, middle, high = survey.sides
    return f"{low:,} pixels" if low == high else f"{low:,} to {high:,} pixels, median {middle:,}"
