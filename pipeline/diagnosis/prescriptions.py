"""Prescribes changes for a verdict: overrides in several strengths, the most promising first."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from pipeline.diagnosis import rules
from pipeline.diagnosis.verdict import OVERCONFIDENT, Diagnosis

MOST = 3
"""Largest number of prescriptions of a diagnosis."""

Configuration = Mapping[str, Any]
"""Configuration of a training as nested mappings; a missing key has its default."""


@dataclass(frozen=True)
class Prescription:
    """One change of a training.

    Attributes:
        remedy: Description in a few words.
        strengths: Overrides to choose from, one for each strength; the first is tried first.
    """

    remedy: str
    strengths: tuple[str, ...]

    @property
    def override(self) -> str:
        return self.strengths[0]


def prescribe(
    diagnosis: Diagnosis, settings: Configuration | None = None, *, most: int | None = MOST
) -> tuple[Prescription, ...]:
    """Prescribe changes, the most promising first; none for a good fit, nor for a verdict on the data.

    On people's own pictures the network, what it begins with, and the number of pixels come first: they are most often what is
    wrong there.

    Args:
        diagnosis: Diagnosis of the training.
        settings: Configuration of the training; None: that of another tool, for which the defaults are assumed.
        most: Largest number of prescriptions; None: all.
    """
    known = settings or {}
    prescriptions = (prescription for remedy in _remedies(diagnosis) if (prescription := remedy(known)) is not None)
    return tuple(islice(prescriptions, most))


_AUGMENTATIONS = ("none", "light", "standard", "strong")
"""Presets of augmentation, from the weakest to the strongest."""

_Remedy = Callable[[Configuration], Prescription | None]


def _remedies(diagnosis: Diagnosis) -> Iterator[_Remedy]:
    verdict, causes = diagnosis.verdict, diagnosis.causes
    if verdict in (rules.OVERFITTING, rules.UNDERFITTING, rules.INCONCLUSIVE):
        yield from FOR_OWN_PICTURES
    if verdict == rules.INCONCLUSIVE:
        if "epochs" not in diagnosis.settled_by:
            yield _more_validated
    elif verdict == rules.OVERFITTING and causes == ("overtrained",):
        yield from (_early_stopping, _more_decay)
    elif verdict == rules.OVERFITTING:
        yield from (_augment_more, _more_decay, _more_dropout, _smooth_labels, _narrower, _more_l1, _early_stopping)
    elif verdict == rules.UNDERFITTING:
        if "regularised" in causes:
            yield from (_less_l1, _less_decay, _less_dropout, _augment_less)
        yield from (_wider, _deeper, _larger_images, _range_test_lr)
    elif verdict == rules.STILL_LEARNING:
        yield from (_more_epochs, _higher_lr)
    elif verdict in (rules.UNSTABLE, rules.DIVERGED):
        yield _lower_lr
        if verdict == rules.DIVERGED:
            yield _range_test_lr
        yield from (_clip, _warm_up, _larger_batches, _average_weights)
    elif verdict == rules.NOT_LEARNING:
        yield from _when_not_learning(causes)
    elif verdict == rules.EVAL_MISMATCH:
        yield from (_group_norm, _larger_batches)
    elif OVERCONFIDENT in diagnosis.flags:
        yield from (_smooth_labels, _more_decay)


def _when_not_learning(causes: tuple[str, ...]) -> Iterator[_Remedy]:
    if "penalty" in causes:
        yield from (_less_l1, _less_decay)
    if "dead_relu" in causes or "initialisation" in causes:
        yield from (_other_activation, _lower_lr)
    if "no_updates" in causes:
        yield _much_higher_lr
    yield from (_range_test_lr, _much_higher_lr, _lower_lr)


def _pretrained(settings: Configuration) -> Prescription | None:
    if not _has_own_pictures(settings) or _get(settings, "model.weights", None) is not None:
        return None
    return Prescription("begin with what ImageNet's photographs taught", ("model=efficientnet",))


def _convolutional(settings: Configuration) -> Prescription | None:
    if not _has_own_pictures(settings) or _get(settings, "model.name", "lenet") != "lenet":
        return None
    return Prescription("a network with normalisation", ("model=convnet", "model=resnet"))


def _more_pixels(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.size", None)
    if not _has_own_pictures(settings) or now is None or now > 64:
        return None
    return Prescription("larger images", (f"prepare.size={2 * now}",))


FOR_OWN_PICTURES = (_pretrained, _convolutional, _more_pixels)


def _has_own_pictures(settings: Configuration) -> bool:
    return bool(_get(settings, "data.name", None) == "folder")


def _more_validated(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.val_fraction", 0.1)
    if now >= 0.2 or _get(settings, "prepare.folds", None) is not None:
        return None
    return Prescription("more images for validation", ("prepare.val_fraction=0.2",))


def _augment_more(settings: Configuration) -> Prescription | None:
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


def _augment_less(settings: Configuration) -> Prescription | None:
    name = _get(settings, "augment.name", "none")
    if name not in _AUGMENTATIONS or name == "none":
        return None
    weaker = _AUGMENTATIONS[: _AUGMENTATIONS.index(name)][::-1]
    return Prescription("augment the images less", tuple(f"augment={preset}" for preset in weaker))


def _more_decay(settings: Configuration) -> Prescription:
    now = _get(settings, "regularization.l2", 0.0)
    values = (0.1, 1.0, 0.01) if now == 0 else (10 * now, 30 * now, 3 * now)
    if _get(settings, "optimizer.name", "adamw") == "sgd" and now == 0:
        values = (5e-4, 5e-3, 5e-5)
    return Prescription("decay the weights more (L2)", tuple(f"regularization.l2={value:g}" for value in values))


def _less_decay(settings: Configuration) -> Prescription | None:
    now = _get(settings, "regularization.l2", 0.0)
    strengths = (f"regularization.l2={now / 10:g}", "regularization.l2=0")
    return Prescription("decay the weights less (L2)", strengths) if now else None


def _more_l1(settings: Configuration) -> Prescription:
    now = _get(settings, "regularization.l1", 0.0)
    values = (10 * now, 3 * now, 30 * now) if now else (1e-4, 1e-3, 1e-5)
    return Prescription("thin the weights out (L1)", tuple(f"regularization.l1={value:g}" for value in values))


def _less_l1(settings: Configuration) -> Prescription | None:
    now = _get(settings, "regularization.l1", 0.0)
    strengths = ("regularization.l1=0", f"regularization.l1={now / 10:g}")
    return Prescription("weaken L1", strengths) if now else None


def _more_dropout(settings: Configuration) -> Prescription | None:
    for key, layers in (("model.dropout", "head"), ("model.conv_dropout", "convolutions")):
        now = _get(settings, key, 0.0)
        values = [value for value in (0.5, 0.3, 0.7) if value > now + 0.05]
        if values and layers == "head":
            return Prescription("drop out more in the head", tuple(f"{key}={value}" for value in values))
        if now < 0.3:
            values = [value for value in (0.1, 0.2, 0.3) if value > now]
            return Prescription("drop out channels", tuple(f"{key}={value}" for value in values))
    return None


def _less_dropout(settings: Configuration) -> Prescription | None:
    head, channels = (_get(settings, key, 0.0) for key in ("model.dropout", "model.conv_dropout"))
    if not head and not channels:
        return None
    key, now = ("model.conv_dropout", channels) if channels >= head else ("model.dropout", head)
    return Prescription("drop out less", (f"{key}=0", f"{key}={now / 2:g}"))


def _smooth_labels(settings: Configuration) -> Prescription | None:
    now = _get(settings, "regularization.label_smoothing", 0.0)
    values = tuple(f"regularization.label_smoothing={value}" for value in (0.1, 0.05, 0.2) if value > now)
    return Prescription("smooth the labels", values) if values else None


def _deeper(settings: Configuration) -> Prescription | None:
    now = _get(settings, "model.depth", None)
    return None if now is None else Prescription("a larger model: deeper", (f"model.depth={now + 1}",))


def _larger_images(settings: Configuration) -> Prescription | None:
    now = _get(settings, "prepare.size", None)
    if _get(settings, "prepare.fit", "stretch") == "pad":
        return None  # padding to a larger size adds no detail
    return None if now is None else Prescription("larger images", (f"prepare.size={round(now * 1.5)}",))


def _early_stopping(settings: Configuration) -> Prescription | None:
    stops = _get(settings, "train.early_stopping.patience", None) is not None
    if stops and _get(settings, "train.early_stopping.restore_best", True):
        return None
    epochs = _get(settings, "train.max_epochs", 20)
    patiences = dict.fromkeys(max(3, round(share * epochs)) for share in (0.1, 0.2, 0.05))
    strengths = (f"train.early_stopping={{patience: {patience}, restore_best: true}}" for patience in patiences)
    return Prescription("stop early, and keep the best weights", tuple(strengths))


def _more_epochs(settings: Configuration) -> Prescription:
    epochs = _get(settings, "train.max_epochs", 20)
    return Prescription("train longer", tuple(f"train.max_epochs={times * epochs}" for times in (2, 3, 4)))


def _range_test_lr(settings: Configuration) -> Prescription | None:
    if _get(settings, "optimizer.lr", 0.0) == "auto":
        return None
    return Prescription("a learning rate from a range test", ("optimizer.lr=auto",))


def _warm_up(settings: Configuration) -> Prescription | None:
    if _get(settings, "scheduler.warmup_fraction", 0.0) >= 0.1:
        return None
    return Prescription("warm the learning rate up", ("scheduler.warmup_fraction=0.1", "scheduler.warmup_fraction=0.2"))


def _larger_batches(settings: Configuration) -> Prescription:
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


_narrower = partial(_scaled, "a simpler model: fewer channels", "model.width", (0.5, 0.75, 0.25))
_wider = partial(_scaled, "a larger model: more channels", "model.width", (2, 4, 1.5))
_higher_lr = partial(_scaled_rates, "a higher learning rate", (3, 10, 2))
_much_higher_lr = partial(_scaled_rates, "a much higher learning rate", (100, 10, 1000))
_lower_lr = partial(_scaled_rates, "a lower learning rate", (0.1, 0.3, 0.03))
_clip = partial(_replaced, "clip the gradients", "train.gradient_clip_norm", None, (1, 0.1))
_average_weights = partial(_replaced, "average the weights", "train.ema_decay", 0.0, (0.99, 0.999))
_other_activation = partial(
    _replaced, "an activation that cannot die", "model.activation", "relu", ("leaky_relu", "gelu")
)
_group_norm = partial(
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
