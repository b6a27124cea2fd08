"""Builds augmentation pipelines from plain lists, checks them before any image is touched, and applies them reproducibly."""

import inspect
import os
import random
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.config.section import nearest
from pipeline.errors import ConfigError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the package index for a newer version
import albumentations as A
from albumentations.core.transforms_interface import Transform3D

cv2.setNumThreads(0)  # for one small image a second thread doubles the processor time and gains nothing

Transforms: TypeAlias = Sequence[Mapping[str, Any] | str]
"""albumentations' own transforms in order, each a name or `{name: {argument: value}}`.

The text `size` stands for the size of the images in pixels, `size/16` for a sixteenth of it, rounded up.
"""

_TRIALS = 4
"""Number of images for each way of skipping transforms: a random crop or scale may keep the shape of one by chance."""


def build(transforms: Transforms, size: int, channels: int) -> A.Compose:
    """The pipeline that `augment.transforms` describes, after a trial on `size`×`size` images of noise.

    Raises:
        ConfigError: A transform or an argument does not exist or is not valid, a transform does not work on such images,
            or what comes out has another shape or type.
    """
    built = [_build_one(f"augment.transforms[{index}]", entry, size) for index, entry in enumerate(transforms)]
    pipeline = A.Compose(built)
    _try_out(pipeline, size, channels)
    return pipeline


def with_fill(transforms: Transforms, fill: int | str) -> list[Any]:
    """The transforms, so that they repeat an image's border where a shift or a rotation uncovers it.

    So they continue the frame that `prepare.fill` made. Where it made black ones, `fill` is 0 and all stay as they are, since
    the library's own default is black; so does a transform with a `fill` or a `border_mode` of its own.
    """
    filled: list[Any] = []
    for index, entry in enumerate(transforms):
        name, arguments = name_and_arguments(f"augment.transforms[{index}]", entry)
        known = inspect.signature(_transforms()[name].__init__).parameters if name in _transforms() else {}
        uncovers = fill != 0 and "border_mode" in known and not {"fill", "border_mode"} & set(arguments)
        filled.append({name: {**arguments, "border_mode": cv2.BORDER_REPLICATE}} if uncovers else entry)
    return filled


def augment_batch(pipeline: A.Compose, images: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Each image augmented once, as a function of the pipeline, the batch as a whole and the seed alone.

    Seeding costs as much as a flip of five images: a batch that is drawn at once is much faster than its images one by
    one. The images, uint8 of shape (n, height, width, channels), stay as they are.
    """
    # Not set_random_seed: it gives every transform a generator of its own with the same seed, so that, for example, a
    # horizontal and a vertical flip of p 0.5 always come together.
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    augmented = np.empty(images.shape, np.uint8)
    for index, image in enumerate(np.array(images)):
        augmented[index] = pipeline(image=image)["image"]
    return augmented


def _build_one(key: str, entry: Mapping[str, Any] | str, size: int) -> A.BasicTransform:
    name, arguments = name_and_arguments(key, entry)
    known = _transforms()
    if name not in known:
        raise ConfigError(
            f"{key} must be a transform of albumentations for images; got {name!r}.{nearest(name, known)} "
            "They are listed at https://albumentations.ai/docs/."
        )
    names = [argument for argument in inspect.signature(known[name].__init__).parameters if argument != "self"]
    for argument, value in arguments.items():
        if argument not in names:
            raise ConfigError(
                f"{key}.{name}.{argument} must be an argument of {name}; got {argument}={value!r}."
                f"{nearest(argument, names)} {name} takes {', '.join(names)}."
            )
    try:
        # strict: albumentations would otherwise only warn of some values, and take its defaults instead
        return known[name](**_with_pixels(arguments, size), strict=True)
    except (ValueError, TypeError) as error:
        raise ConfigError(_refusal(f"{key}.{name}", arguments, error, names)) from None


def name_and_arguments(key: str, entry: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        [(name, arguments)] = entry.items()
        if isinstance(name, str) and (arguments is None or isinstance(arguments, Mapping)):
            return name, arguments or {}
    raise ConfigError(
        f"{key} must be a transform's name, or one name with its arguments; got {entry!r}. "
        "Write it as `- HorizontalFlip` or `- HorizontalFlip: {p: 0.5}`."
    )


def _transforms() -> dict[str, type[A.BasicTransform]]:
    """albumentations' transforms of single images, by name; those of volumes and of the user's own code left out."""
    left_out = {"ImageOnlyTransform", "DualTransform", "Lambda"}
    return {
        name: value
        for name, value in vars(A).items()
        if inspect.isclass(value)
        and issubclass(value, A.ImageOnlyTransform | A.DualTransform)
        and not issubclass(value, Transform3D)
        and name not in left_out
    }


def _with_pixels(value: Any, size: int) -> Any:
    """`value` with every `size` and `size/N` in it as a number of pixels.

    >>> _with_pixels({"height": "size", "padding": ["size/16", 1]}, 40)
    {'height': 40, 'padding': [3, 1]}
    """
    if isinstance(value, Mapping):
        return {key: _with_pixels(item, size) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_pixels(item, size) for item in value]
    if isinstance(value, str) and (match := re.fullmatch(r"size(?:\s*/\s*([1-9]\d*))?", value)):
        return -(-size // int(match[1] or 1))
    return value


def _refusal(key: str, arguments: Mapping[str, Any], error: Exception, names: list[str]) -> str:
    takes = f"{key.rpartition('.')[2]} takes {', '.join(names)}."
    if not isinstance(error.__cause__, ValidationError):
        return f"{key} must have fitting arguments; got {dict(arguments)!r}: {_one_line(error)}. {takes}"
    first = error.__cause__.errors()[0]
    argument = next((part for part in first["loc"] if part in names), None)
    if first["type"] == "missing":
        return f"{key}.{argument} is missing. {takes}"
    subject, value = (f"{key}.{argument}", first["input"]) if argument else (key, dict(arguments))
    return f"{subject} must be valid; got {value!r}: {first['msg'].removeprefix('Value error, ').rstrip('.')}. {takes}"


def _try_out(pipeline: A.Compose, size: int, channels: int) -> None:
    """Apply the pipeline to noise: all transforms at once, and each time without one that may be skipped by chance."""
    steps = list(enumerate(pipeline.transforms))
    noise = np.random.default_rng(0).integers(0, 256, (_TRIALS, size, size, channels), np.uint8)
    pipeline.set_random_state(np.random.default_rng(0), random.Random(0))
    for skipped in [None, *(index for index, transform in steps if transform.p < 1)]:
        for image in noise:
            _try_steps([(index, transform) for index, transform in steps if index != skipped], image, skipped)


def _try_steps(steps: list[tuple[int, A.BasicTransform]], image: NDArray[np.uint8], skipped: int | None) -> None:
    result: NDArray[Any] = image.copy()
    changed = ""
    for index, transform in steps:
        key = f"augment.transforms[{index}] ({type(transform).__name__})"
        before = _shape_and_type(result)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                result = transform(image=result, force_apply=True)["image"]
        except Exception as error:  # the library passes on any error of its helpers
            raise ConfigError(
                f"{key} must work on {before}; it says: {_one_line(error)}. Take it out, or use another transform."
            ) from None
        if _shape_and_type(result) != before:
            changed = f"{key} makes {_shape_and_type(result)} of {before}"
    if _shape_and_type(result) == _shape_and_type(image):
        return
    without = "" if skipped is None else f" when augment.transforms[{skipped}], whose p is below 1, is skipped"
    remedy = "Take it out."
    if result.dtype != image.dtype:
        remedy = "Take it out: pixels stay whole numbers here, training scales them."
    elif result.shape[2:] == image.shape[2:]:
        remedy = "Put `- RandomCrop: {height: size, width: size, pad_if_needed: true}` behind it, or take it out."
    raise ConfigError(f"augment.transforms must give back {_shape_and_type(image)}; {changed}{without}. {remedy}")


def _shape_and_type(image: NDArray[Any]) -> str:
    return f"{'×'.join(str(length) for length in image.shape)} {image.dtype}"


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
