import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augmentation.strength import FACTORS, PIXELS, RANGES, scaled
from pipeline.augmentation.transforms import augment_batch, build
from pipeline.config import validation
from pipeline.errors import ConfigError

PRESETS = {
    path.stem: validation.read_yaml(path)["transforms"]
    for path in sorted((Path(__file__).resolve().parents[1] / "conf" / "augment").glob("*.yaml"))
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Affine": {"translate_percent": {"x": [-0.05, 0.05]}, "rotate": [-5, 5], "shear": [-3, 3], "scale": [0.9, 1.1]},
    "Rotate": {"limit": 10}, "ElasticTransform": {"alpha": 20, "sigma": 4},
    "RandomResizedCrop": {"size": ["size", "size"], "scale": [0.7, 1]}, "Pad": {"padding": 1},
    "Erasing": {"scale": [0.02, 0.2]}, "ColorJitter": {"hue": 0.1},
}  # fmt: skip
"""Arguments for transforms whose defaults leave no room to grow, or that need some."""


def blobs(count: int, channels: int = 3) -> np.ndarray:
    """Smooth images of one soft spot each, for which a longer way means a larger difference."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    centres, heights = generator.uniform(11, 21, (count, 2, 1, 1)), generator.uniform(100, 200, (count, channels))
    distances = (rows - centres[:, 0]) ** 2 + (columns - centres[:, 1] * 0.9) ** 2
    return (np.exp(-distances / 40)[..., None] * heights[:, None, None]).astype(np.uint8)


def change(transforms: list[Any], strength: float, images: np.ndarray) -> float:
    """The mean absolute change of a pixel."""
    size, channels = images.shape[1], images.shape[3]
    augmented = augment_batch(build(scaled(transforms, strength, size, channels), size, channels), images, seed=0)
    return float(np.abs(augmented.astype(int) - images).mean())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_pixels_change_more_with_every_strength_and_not_at_all_at_0(name: str, channels: int) -> None:
    images = blobs(300, channels)
    changes = [change(PRESETS[name], strength, images) for strength in (0, 0.25, 0.5, 1, 1.5, 2, 2.5)]
    assert changes[0] == 0
    assert name == "none" or (np.diff(changes) > 0).all(), changes


@pytest.mark.parametrize("name", sorted({*RANGES, *FACTORS, *PIXELS}))
def test_every_transform_that_has_a_size_goes_further_and_no_more_often(name: str) -> None:
    rest = [{"RandomCrop": {"height": "size", "width": "size"}}] if name == "Pad" else []
    transforms = [{name: {**ARGUMENTS.get(name, {}), "p": 1}}, *rest]
    changes = [change(transforms, strength, blobs(100)) for strength in (0, 0.2, 0.6, 1, 1.6)]
    assert changes[0] == 0 and (np.diff(changes) >= 0).all() and changes[-1] > changes[-2], changes
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    assert change(transforms, 0.001, noise) < 3, "nearly nothing, but for the rounding of colours"
    assert all(entry[name].get("p") == 1 for entry in scaled(transforms, 0.5, 32, 3)[:1])


@pytest.mark.parametrize("name", PRESETS)
def test_strength_1_is_the_list_as_it_is_written(name: str) -> None:
    assert scaled(PRESETS[name], 1, 32, 1) == PRESETS[name]


@settings(max_examples=20, deadline=None)
@given(strength=st.floats(0.01, 2.8))
def test_every_strength_gives_a_list_that_stands_for_itself(strength: float) -> None:
    for transforms in PRESETS.values():
        once = scaled(transforms, strength, 32, 1)
        assert scaled(once, 1, 32, 1) == once and len(build(once, 32, 1)) == len(transforms)


@pytest.mark.parametrize(
    ("entry", "strength", "expected"),
    [
        ({"Rotate": {"limit": 10}}, 1.5, {"Rotate": {"limit": [-15, 15]}}),
        ("Rotate", 0.1, {"Rotate": {"limit": [-9, 9]}}),
        ({"Affine": {"scale": [0.5, 2], "p": 1}}, 2, {"Affine": {"scale": {"x": [0.25, 4], "y": [0.25, 4]}, "p": 1}}),
        ({"Affine": {"translate_px": {"x": [-3, 3]}}}, 0.5, {"Affine": {"translate_px": {"x": [-2, 2], "y": [0, 0]}}}),
        ({"GaussNoise": {"std_range": [0.1, 0.2]}}, 2, {"GaussNoise": {"std_range": [0.2, 0.4]}}),
        ("HorizontalFlip", 0.5, {"HorizontalFlip": {"p": 0.25}}),
        ({"HorizontalFlip": {"p": 0.3}}, 9, {"HorizontalFlip": {"p": 0.5}}),
        ({"HorizontalFlip": {"p": 0.9}}, 9, {"HorizontalFlip": {"p": 0.9}}),
        ({"Posterize": {"num_bits": 4, "p": 0.4}}, 2, {"Posterize": {"num_bits": 4, "p": 0.8}}),
        ({"Posterize": {"p": 0.4}}, 3, {"Posterize": {"p": 1.0}}),
        ({"RandomCrop": {"height": "size", "width": "size"}}, 0.5, {"RandomCrop": {"height": "size", "width": "size"}}),
    ],
)  # fmt: skip
def test_each_kind_of_argument_has_its_rule(entry: Any, strength: float, expected: Any) -> None:
    assert scaled([entry], strength, 32, 3) == [expected]


def test_pixels_written_as_a_part_of_the_size_are_scaled_and_rounded() -> None:
    pad_and_crop = [{"Pad": {"padding": "size/16"}}, {"RandomCrop": {"height": "size", "width": "size"}}]
    assert [scaled(pad_and_crop, strength, 48, 1)[0]["Pad"]["padding"] for strength in (0.1, 0.5, 1.5, 2)] == [
        0,
        2,
        4,
        6,
    ]


def test_a_strength_at_which_an_argument_goes_too_far_is_refused_with_the_greatest_that_does_not() -> None:
    noise = [{"GaussNoise": {"std_range": [0.2, 0.44]}}]
    message = (
        "augment.strength must be at most 2.27, or augment.transforms[0].GaussNoise.std_range goes beyond 1; got 2.3. "
        "Lower one of them."
    )
    assert scaled(noise, 2.27, 16, 1) != noise
    with pytest.raises(ConfigError, match=re.escape(message)):
        scaled(noise, 2.3, 16, 1)
    with pytest.raises(ConfigError, match=r"at most 1, or .*translate_percent goes beyond 1; got 1\.1"):
        scaled([{"Affine": {"translate_percent": 1.5}}], 1.1, 16, 1)


def test_a_strength_that_breaks_the_shape_of_images_is_refused() -> None:
    cut_and_pad = [{"Crop": {"x_min": 2, "y_min": 2, "x_max": 14, "y_max": 14, "p": 1}}, {"Pad": {"padding": 2}}]
    assert scaled(cut_and_pad, 1, 16, 1) == cut_and_pad
    with pytest.raises(
        ConfigError, match=r"augment\.strength must fit the transforms; got 2, at which augment\.transforms"
    ):
        scaled(cut_and_pad, 2, 16, 1)


@pytest.mark.parametrize("strength", [0, 0.5])
def test_a_list_that_is_wrong_as_it_is_written_is_refused_as_such(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"^augment\.transforms\[0\] must be a transform .*; got 'Rotat'"):
        scaled(["Rotat"], strength, 16, 1)


def test_transforms_that_come_more_often_and_go_no_further_are_told(capsys: Any) -> None:
    scaled(["HorizontalFlip", "Posterize", "Rotate", "CLAHE"], 1.5, 16, 1)
    scaled(PRESETS["strong"], 2, 32, 1)
    assert capsys.readouterr().out == "augment.strength=1.5 changes how often, not how far: Posterize, CLAHE\n"
