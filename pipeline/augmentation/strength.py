"""Scales the strength of a list of transforms by one number: 1 as it is written, 2 twice as strongly, 0 not at all.

`RANGES`, `FACTORS` and `PIXELS` name the arguments that tell how far a transform goes. Strength changes these, and leaves its
`p`, or twice the strength would act four times. A transform without such an argument acts more often instead: its `p` grows,
to 1 at most, that of a mirror image to 0.5.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.augmentation.transforms import Transforms, build, name_and_arguments
from pipeline.errors import ConfigError

RANGES: Mapping[str, Mapping[str, float]] = {
    "Affine": {"rotate": 180, "shear": 60, "translate_percent": 1},
    "Rotate": {"limit": 180},
    "ElasticTransform": {"alpha": math.inf},
    "ThinPlateSpline": {"scale_range": 1},
    "RandomBrightnessContrast": {"brightness_limit": 1, "contrast_limit": 1},
    "ColorJitter": {"hue": 0.5},
    "HueSaturationValue": {"hue_shift_limit": 180, "sat_shift_limit": 255, "val_shift_limit": 255},
    "GaussNoise": {"std_range": 1, "mean_range": 1},
    "ISONoise": {"color_shift": 1, "intensity": math.inf},
    "SaltAndPepper": {"amount": 1},
    "PixelDropout": {"dropout_prob": 1},
    "Erasing": {"scale": 0.5},
}
"""Arguments that change nothing at 0, and their limits: they are multiplied by the strength.

GridDistortion, OpticalDistortion, Perspective and SafeRotate are not among them: at nearly 0 they still move images by
half a pixel or more, so that no strength would lead them to 0.
"""

FACTORS: Mapping[str, Sequence[str]] = {
    "Affine": ["scale"],
    "RandomResizedCrop": ["scale", "ratio"],
    "ColorJitter": ["brightness", "contrast", "saturation"],
    "MultiplicativeNoise": ["multiplier"],
}
"""Arguments that change nothing at 1: they are raised to the power of the strength."""

PIXELS: Mapping[str, Sequence[str]] = {"Affine": ["translate_px"], "Pad": ["padding"]}
"""Arguments that change nothing at 0 and are whole numbers: they are multiplied by the strength and rounded."""

_SIZED = {*RANGES, *FACTORS, *PIXELS}

MIRRORS = ("HorizontalFlip", "VerticalFlip", "Transpose")
"""Mirror images, which vary most at p 0.5, where both versions are equally frequent."""

FITTING = ("RandomCrop", "CenterCrop", "PadIfNeeded", "Resize")
"""Transforms that bring images to their size; strength leaves them as they are."""


def scaled(transforms: Transforms, strength: float, size: int, channels: int) -> list[Any]:
    """The list of transforms that acts `strength` times as strongly, as `build` takes it; an empty one for 0.

    Raises:
        ConfigError: The transforms are not valid as they are written, or at that strength.
    """
    if strength == 1:
        return list(transforms)
    written = build(transforms, size, channels).transforms
    if strength == 0:
        return []
    result = []
    for index, (entry, transform) in enumerate(zip(transforms, written, strict=True)):
        key = f"augment.transforms[{index}]"
        name, arguments = name_and_arguments(key, entry)
        values = transform.to_dict()["transform"]  # as the library fills them in: defaults, ranges, pixels
        changes = _changes(f"{key}.{name}", name, values, strength)
        result.append({name: {**arguments, **changes}} if changes else entry)
    try:
        build(result, size, channels)
    except ConfigError as error:
        raise ConfigError(f"augment.strength must fit the transforms; got {strength:g}, at which {error}") from None
    _report_probabilities(result, strength)
    return result


def _changes(key: str, name: str, values: Mapping[str, Any], strength: float) -> Mapping[str, Any]:
    """The arguments of one transform that `strength` changes."""
    if name in FITTING:
        return {}
    if name not in _SIZED:
        most = max(values["p"], 0.5) if name in MIRRORS else 1.0
        return {"p": min(values["p"] * strength, most)}
    for argument, limit in RANGES.get(name, {}).items():
        _check_limit(f"{key}.{argument}", values[argument], limit, strength)
    rules: dict[str, Callable[[float], float]] = {
        **dict.fromkeys(RANGES.get(name, {}), lambda value: value * strength),
        **dict.fromkeys(FACTORS.get(name, []), lambda value: value**strength),
        **dict.fromkeys(PIXELS.get(name, []), lambda value: round(value * strength)),
    }
    changes = {argument: _map_numbers(values[argument], rule) for argument, rule in rules.items()}
    return {argument: value for argument, value in changes.items() if _numbers(value) != _numbers(values[argument])}


def _map_numbers(value: Any, change: Callable[[float], float]) -> Any:
    """`value` with `change` applied to every number in it.

    >>> _map_numbers({"x": (-1, 2), "y": None}, lambda value: value * 2)
    {'x': [-2, 4], 'y': None}
    """
    if isinstance(value, Mapping):
        return {key: _map_numbers(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_numbers(item, change) for item in value]
    return value if value is None else change(value)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return _numbers(list(value.values()))
    if isinstance(value, list | tuple):
        return [number for item in value for number in _numbers(item)]
    return [] if value is None else [value]


def _check_limit(key: str, value: Any, limit: float, strength: float) -> None:
    reach = max(map(abs, _numbers(value)), default=0.0)
    if strength > 1 and reach * strength > limit:
        most = max(1.0, math.floor(100 * limit / reach) / 100)
        raise ConfigError(
            f"augment.strength must be at most {most:g}, or {key} goes beyond {limit:g}; got {strength:g}. "
            "Lower one of them."
        )


def _report_probabilities(transforms: Transforms, strength: float) -> None:
    names = [name_and_arguments("", entry)[0] for entry in transforms]
    by_chance = [name for name in names if name not in {*_SIZED, *FITTING, *MIRRORS}]
    if by_chance:
        print(f"augment.strength={strength:g} changes how often, not how far: {', '.join(by_chance)}")
