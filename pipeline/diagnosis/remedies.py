"""The changes that cures are made of: each function gives overrides in several strengths for a training's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

Configuration = Mapping[str, Any]
"""Configuration of a training as nested mappings; a missing key has its default."""


@dataclass(frozen=True)
class Prescription:
    """One change of a training.

    Attributes:
        remedy: Description in a few words.
        strengths: Overrides to choose from, one for each strength; the first is tried first. Several that belong together have
            spaces between them (`pipeline.config.grammar.words`).
    """

    remedy: str
    strengths: tuple[str, ...]

    @property
    def override(self) -> str:
        return self.strengths[0]


FEWEST_STEPS = 10
"""Number of steps of an epoch below which smaller batches are prescribed: twenty epochs of one step teach a network little."""

FEWEST_IMAGES = 4
"""Smallest batch that is prescribed."""

NUM_IMAGES, SOURCE_SIDE = "number of training images", "longer side of the source's images"
"""Keys of a configuration that hold them, where they are known: a number, and the median in pixels."""

PRETRAINED_SIZE = 128
"""Size of the images in pixels that `model=efficientnet` is given."""

_AUGMENTATIONS = ("none", "light", "standard", "strong")
"""Presets of augmentation, from the weakest to the strongest."""


def pretrained(settings: Configuration) -> Prescription | None:
    if not _has_own_pictures(settings) or _get(settings, "model.weights", None) is not None:
        return None
    change = ["model=efficientnet", *_enlarging(settings, PRETRAINED_SIZE), *_batches(settings)[:1]]
    return Prescription("begin with what ImageNet's photographs taught", (" ".join(change),))


def all_layers(settings: Configuration) -> Prescription | None:
    starts, layers = _get(settings, "model.weights", None) is not None, _get(settings, "model.train_layers", "all")
    if not _has_own_pictures(settings) or not starts or layers != "head":
        return None
    change = "model.train_layers=gradual optimizer.lr=0.0005 optimizer.layer_decay=0.8"
    return Prescription("let all layers learn, after the last one", (change,))


def convolutional(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.size", None)
    if not _has_own_pictures(settings) or _get(settings, "model.name", "lenet") != "lenet" or now is None:
        return None
    common = [f"prepare.size={2 * now}", *_enlarging(settings, 2 * now), *_batches(settings)[:1]]
    changes = (" ".join([f"model={name}", *common]) for name in ("convnet", "resnet"))
    return Prescription("a network with normalisation, and twice the pixels", tuple(changes))


def enlarged(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.size", None)
    changes = [] if now is None or not _has_own_pictures(settings) else _enlarging(settings, now)
    return Prescription("enlarge small images, where they are framed", tuple(changes)) if changes else None


def smaller_batches(settings: Configuration) -> Prescription | None:
    batches = _batches(settings)
    return Prescription("smaller batches: more steps", tuple(batches)) if batches else None


def more_pixels(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.size", None)
    if not _has_own_pictures(settings) or not _takes_any_size(settings) or now is None or now > 64:
        return None
    change = " ".join([f"prepare.size={2 * now}", *_enlarging(settings, 2 * now)])
    return Prescription("larger images", (change,))


FOR_OWN_PICTURES = (pretrained, all_layers, convolutional, enlarged, smaller_batches, more_pixels)


def _enlarging(settings: Configuration, size: int) -> list[str]:
    """The override that enlarges images to `size` pixels, where `prepare.fit=pad` would frame smaller ones; else none."""
    side = _get(settings, SOURCE_SIDE, None)
    is_framed = side is not None and side < size and _get(settings, "prepare.fit", "pad") == "pad"
    return ["prepare.fit=stretch"] if is_framed else []


def _batches(settings: Configuration) -> list[str]:
    """Sizes of batches that give an epoch enough steps, the larger first; none where it has enough."""
    num_images, now = _get(settings, NUM_IMAGES, None), _get(settings, "train.batch_size", 256)
    if num_images is None or num_images >= FEWEST_STEPS * now:
        return []
    most = max(FEWEST_IMAGES, 1 << max(0, (num_images // FEWEST_STEPS).bit_length() - 1))  # a power of two
    return [f"train.batch_size={size}" for size in (most, most // 2) if FEWEST_IMAGES <= size < now]


def _takes_any_size(settings: Configuration) -> bool:
    return bool(_get(settings, "model.name", "lenet") != "lenet")  # which is made for 32 pixels


def _has_own_pictures(settings: Configuration) -> bool:
    return bool(_get(settings, "data.name", None) == "folder")


def more_validated(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.val_fraction", 0.1)
    if now >= 0.2 or _get(settings, "prepare.folds", None) is not None:
        return None
    return Prescription("more images for validation", ("prepare.val_fraction=0.2",))


def augment_more(settings: Configuration) -> Prescription | None:
    name = _get(settings, "augment.name", "none")
    stronger = _AUGMENTATIONS[_AUGMENTATIONS.index(name) + 1 :] if name in _AUGMENTATIONS else ()
    if stronger:
        first = "standard" if "standard" in stronger else stronger[0]
        rest = tuple(preset for preset in stronger if preset != first)
        return Prescription("augment the images more", tuple(f"augment={preset}" for preset in (first, *rest)))
    strength = _get(settings, "augment.strength", 1.0)
    if strength >= 1.5:
        return None
    return Prescription("augment the images more", (f"augment.strength={strength * 1.5:g}",))


def augment_less(settings: Configuration) -> Prescription | None:
    name = _get(settings, "augment.name", "none")
    if name not in _AUGMENTATIONS or name == "none":
        return None
    weaker = _AUGMENTATIONS[: _AUGMENTATIONS.index(name)][::-1]
    return Prescription("augment the images less", tuple(f"augment={preset}" for preset in weaker))


def more_decay(settings: Configuration) -> Prescription:
    now = _get(settings, "regularization.l2", 0.0)
    values = (0.1, 1.0, 0.01) if now == 0 else (10 * now, 30 * now, 3 * now)
    if _get(settings, "optimizer.name", "adamw") == "sgd" and now == 0:
        values = (5e-4, 5e-3, 5e-5)
    return Prescription("decay the weights more (L2)", tuple(f"regularization.l2={value:g}" for value in values))


def less_decay(settings: Configuration) -> Prescription | None:
    now = _get(settings, "regularization.l2", 0.0)
    strengths = (f"regularization.l2={now / 10:g}", "regularization.l2=0")
    return Prescription("decay the weights less (L2)", strengths) if now else None


def more_l1(settings: Configuration) -> Prescription:
    now = _get(settings, "regularization.l1", 0.0)
    values = (10 * now, 3 * now, 30 * now) if now else (1e-4, 1e-3, 1e-5)
    return Prescription("thin the weights out (L1)", tuple(f"regularization.l1={value:g}" for value in values))


def less_l1(settings: Configuration) -> Prescription | None:
    now = _get(settings, "regularization.l1", 0.0)
    strengths = ("regularization.l1=0", f"regularization.l1={now / 10:g}")
    return Prescription("weaken L1", strengths) if now else None


def more_dropout(settings: Configuration) -> Prescription | None:
    for key, layers in (("model.dropout", "head"), ("model.conv_dropout", "convolutions")):
        now = _get(settings, key, 0.0)
        values = [value for value in (0.5, 0.3, 0.7) if value > now + 0.05]
        if values and layers == "head":
            return Prescription("drop out more in the head", tuple(f"{key}={value}" for value in values))
        if now < 0.3:
            values = [value for value in (0.1, 0.2, 0.3) if value > now]
            return Prescription("drop out channels", tuple(f"{key}={value}" for value in values))
    return None


def less_dropout(settings: Configuration) -> Prescription | None:
    head, channels = (_get(settings, key, 0.0) for key in ("model.dropout", "model.conv_dropout"))
    if not head and not channels:
        return None
    key, now = ("model.conv_dropout", channels) if channels >= head else ("model.dropout", head)
    return Prescription("drop out less", (f"{key}=0", f"{key}={now / 2:g}"))


def smooth_labels(settings: Configuration) -> Prescription | None:
    now = _get(settings, "regularization.label_smoothing", 0.0)
    values = tuple(f"regularization.label_smoothing={value}" for value in (0.1, 0.05, 0.2) if value > now)
    return Prescription("smooth the labels", values) if values else None


def deeper(settings: Configuration) -> Prescription | None:
    now = _get(settings, "model.depth", None)
    return None if now is None else Prescription("a larger model: deeper", (f"model.depth={now + 1}",))


def larger_images(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.size", None)
    if _get(settings, "prepare.fit", "stretch") == "pad":
        return None  # padding to a larger size adds no detail
    return (
        None
        if now is None or not _takes_any_size(settings)
        else Prescription("larger images", (f"prepare.size={round(now * 1.5)}",))
    )


def early_stopping(settings: Configuration) -> Prescription | None:
    stops = _get(settings, "train.early_stopping.patience", None) is not None
    if stops and _get(settings, "train.early_stopping.restore_best", True):
        return None
    epochs = _get(settings, "train.max_epochs", 20)
    patiences = dict.fromkeys(max(3, round(share * epochs)) for share in (0.1, 0.2, 0.05))
    strengths = (f"train.early_stopping={{patience: {patience}, restore_best: true}}" for patience in patiences)
    return Prescription("stop early, and keep the best weights", tuple(strengths))


def more_epochs(settings: Configuration) -> Prescription:
    epochs = _get(settings, "train.max_epochs", 20)
    return Prescription("train longer", tuple(f"train.max_epochs={times * epochs}" for times in (2, 3, 4)))


def range_test_lr(settings: Configuration) -> Prescription | None:
    if _get(settings, "optimizer.lr", 0.0) == "auto":
        return None
    return Prescription("a learning rate from a range test", ("optimizer.lr=auto",))


def warm_up(settings: Configuration) -> Prescription | None:
    if _get(settings, "scheduler.warmup_fraction", 0.0) >= 0.1:
        return None
    return Prescription("warm the learning rate up", ("scheduler.warmup_fraction=0.1", "scheduler.warmup_fraction=0.2"))


def larger_batches(settings: Configuration) -> Prescription:
    now = _get(settings, "train.batch_size", 256)
    return Prescription("larger batches", (f"train.batch_size={4 * now}", f"train.batch_size={2 * now}"))


def _scaled(remedy: str, key: str, factors: tuple[float, ...], settings: Configuration) -> Prescription | None:
    now = _get(settings, key, None)
    if now is None:
        return None
    values = [now * factor if isinstance(now, float) else max(1, round(now * factor)) for factor in factors]
    different = tuple(f"{key}={value}" for value in dict.fromkeys(values) if value != now)
    return Prescription(remedy, different) if different else None


def _scaled_rates(remedy: str, factors: tuple[float, ...], settings: Configuration) -> Prescription | None:
    now = _get(settings, "optimizer.lr", 0.003)
    if now == "auto":
        return None
    return Prescription(remedy, tuple(f"optimizer.lr={now * factor:g}" for factor in factors))


def _replaced(
    remedy: str, key: str, default: Any, values: tuple[object, ...], settings: Configuration
) -> Prescription | None:
    """Other values of a key that has its default."""
    if _get(settings, key, default) != default:
        return None
    return Prescription(remedy, tuple(f"{key}={value}" for value in values))


narrower = partial(_scaled, "a simpler model: fewer channels", "model.width", (0.5, 0.75, 0.25))
wider = partial(_scaled, "a larger model: more channels", "model.width", (2, 4, 1.5))
higher_lr = partial(_scaled_rates, "a higher learning rate", (3, 10, 2))
much_higher_lr = partial(_scaled_rates, "a much higher learning rate", (100, 10, 1000))
lower_lr = partial(_scaled_rates, "a lower learning rate", (0.1, 0.3, 0.03))
clip = partial(_replaced, "clip the gradients", "train.gradient_clip_norm", None, (1, 0.1))
average_weights = partial(_replaced, "average the weights", "train.ema_decay", 0.0, (0.99, 0.999))
other_activation = partial(
    _replaced, "an activation that cannot die", "model.activation", "relu", ("leaky_relu", "gelu")
)
group_norm = partial(
    _replaced, "normalise by groups, which knows no running statistics", "model.normalization", "batch", ("group",)
)


def _get(settings: Configuration, key: str, default: Any) -> Any:
    """The value of a dotted key; `default` if it is missing."""
    value: Any = settings
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value
