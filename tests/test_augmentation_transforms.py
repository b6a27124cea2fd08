import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.augmentation.transforms import augment_batch, build, with_fill
from pipeline.config import validation
from pipeline.errors import ConfigError

PRESETS = sorted((Path(__file__).resolve().parents[1] / "conf" / "augment").glob("*.yaml"))


def preset(path: Path) -> list[Any]:
    transforms: list[Any] = validation.read_yaml(path)["transforms"]
    return transforms


def noise(count: int = 6, size: int = 16, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def test_there_are_the_four_presets() -> None:
    assert [path.stem for path in PRESETS] == ["light", "none", "standard", "strong"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_keeps_images_of_any_size_what_they_are(path: Path, size: int, channels: int) -> None:
    images = noise(size=size, channels=channels)
    augmented = augment_batch(build(preset(path), size, channels), images, seed=3)
    assert augmented.dtype == np.uint8 and augmented.shape == images.shape
    assert np.array_equal(augmented, images) == (path.stem == "none")


def test_the_same_seed_gives_the_same_images_and_another_seed_others() -> None:
    images, pipeline = noise(), build(preset(PRESETS[-1]), 16, 1)
    first, other, again = (augment_batch(pipeline, images, seed) for seed in (5, 6, 5))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_each_image_of_a_batch_is_drawn_apart() -> None:
    same = np.repeat(noise(count=1), 20, axis=0)
    augmented = augment_batch(
        build([{"Pad": {"padding": 2}}, {"RandomCrop": {"height": 16, "width": 16}}], 16, 1), same, 0
    )
    assert len(np.unique(augmented.reshape(20, -1), axis=0)) > 5


def test_two_transforms_of_one_probability_do_not_always_come_together() -> None:
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[0, 0, 0] = 1
    pipeline = build([{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}], 8, 1)
    corners = augment_batch(pipeline, np.repeat(image, 400, axis=0), seed=0)[:, [0, 0, 7, 7], [0, 7, 0, 7], 0]
    assert (corners.mean(axis=0) > 0.15).all(), "each of the four combinations must turn up in about a quarter"


def test_images_given_stay_as_they_are_even_read_only_ones() -> None:
    images = noise()
    before = images.copy()
    images.setflags(write=False)
    augment_batch(build(preset(PRESETS[-1]), 16, 1), images, seed=0)
    assert np.array_equal(images, before)


def test_a_batch_of_no_images_is_fine() -> None:
    assert augment_batch(build(["HorizontalFlip"], 8, 1), noise(count=0, size=8), 0).shape == (0, 8, 8, 1)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_pipeline_read_back_from_json_or_pickle_draws_the_same(path: Path) -> None:
    import albumentations as A

    images, pipeline = noise(), build(preset(path), 16, 1)
    expected = augment_batch(pipeline, images, seed=9)
    assert np.array_equal(augment_batch(A.from_dict(json.loads(json.dumps(pipeline.to_dict()))), images, 9), expected)
    assert np.array_equal(augment_batch(pickle.loads(pickle.dumps(pipeline)), images, 9), expected)


def test_size_in_an_argument_stands_for_pixels() -> None:
    padded, cropped = build(
        [{"Pad": {"padding": "size/16"}}, {"RandomCrop": {"height": "size", "width": "size"}}], 40, 1
    )
    assert (padded.padding, cropped.height, cropped.width) == (3, 40, 40)
    assert build([{"RandomResizedCrop": {"size": ["size", "size"]}}], 24, 1)[0].size == (24, 24)


def refused(*transforms: Any, channels: int = 1) -> str:
    with pytest.raises(ConfigError) as caught:
        build(transforms, 16, channels)
    return str(caught.value)


def test_an_unknown_transform_is_named_with_its_place_and_the_nearest_one() -> None:
    message = refused("HorizontalFlip", "Transpose", {"HorizontalFlpi": {"p": 0.5}})
    assert message.startswith(
        "augment.transforms[2] must be a transform of albumentations for images; got 'HorizontalFlpi'"
    )
    assert "Did you mean 'HorizontalFlip'?" in message


@pytest.mark.parametrize(
    "name",
    ["Compose", "Lambda", "DualTransform", "CenterCrop3D", "core.utils", "A.HorizontalFlip", "__builtins__", "cv2"],
)
def test_what_is_no_transform_of_an_image_is_refused(name: str) -> None:
    assert f"must be a transform of albumentations for images; got '{name}'" in refused(name)


def test_an_unknown_argument_is_named_with_the_nearest_one_and_all_valid_ones() -> None:
    message = refused({"CoarseDropout": {"num_holes_rang": [1, 2]}})
    assert message.startswith("augment.transforms[0].CoarseDropout.num_holes_rang must be an argument of CoarseDropout")
    assert "got num_holes_rang=[1, 2]. Did you mean 'num_holes_range'?" in message
    assert "CoarseDropout takes num_holes_range, hole_height_range, hole_width_range, fill, fill_mask, p." in message


def test_strict_is_no_argument_of_a_transform() -> None:
    assert "HorizontalFlip.strict must be an argument of HorizontalFlip; got strict=False" in refused(
        {"HorizontalFlip": {"strict": False}}
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {"HorizontalFlip": {"p": 2}},
            "[0].HorizontalFlip.p must be valid; got 2: Input should be less than or equal to 1.",
        ),
        (
            {"GaussNoise": {"std_range": [0.5, 0.1]}},
            "[0].GaussNoise.std_range must be valid; got [0.5, 0.1]: First value",
        ),
        ({"RandomCrop": {"height": "siz", "width": 16}}, "[0].RandomCrop.height must be valid; got 'siz': "),
        ("RandomCrop", "[0].RandomCrop.height is missing. RandomCrop takes height, width, "),
        (
            {"Affine": {"translate_px": 2, "translate_percent": 0.1}},
            "[0].Affine must be valid; got {'translate_px': 2, 'translate_percent': 0.1}: Expected either ",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_the_reason(entry: Any, expected: str) -> None:
    assert refused(entry).startswith(f"augment.transforms{expected}")


@pytest.mark.parametrize(
    "entry", [3, None, {}, {"HorizontalFlip": 0.5}, {"HorizontalFlip": None, "p": 0.5}, ["HorizontalFlip"]]
)
def test_an_entry_of_another_form_is_shown_the_right_one(entry: Any) -> None:
    message = refused(entry)
    assert "augment.transforms[0] must be a transform's name, or one name with its arguments; got " in message
    assert repr(entry) in message and "`- HorizontalFlip: {p: 0.5}`" in message


def test_a_transform_without_arguments_may_be_a_text_or_a_key() -> None:
    assert len(build(["HorizontalFlip", {"VerticalFlip": None}], 16, 1)) == 2


def test_a_change_of_shape_is_refused_with_the_transform_that_makes_it() -> None:
    message = refused("HorizontalFlip", {"Pad": {"padding": 2}})
    assert "must give back 16×16×1 uint8; augment.transforms[1] (Pad) makes 20×20×1 uint8 of 16×16×1 uint8." in message
    assert "Put `- RandomCrop: {height: size, width: size, pad_if_needed: true}` behind it" in message


def test_a_shape_that_is_mended_only_by_chance_is_refused() -> None:
    message = refused({"Pad": {"padding": 2}}, {"RandomCrop": {"height": "size", "width": "size", "p": 0.9}})
    assert (
        "(Pad) makes 20×20×1 uint8 of 16×16×1 uint8 when augment.transforms[1], whose p is below 1, is skipped"
        in message
    )


def test_a_random_change_of_shape_is_refused() -> None:
    assert "augment.transforms[0] (RandomScale) makes" in refused({"RandomScale": {"scale_limit": 0.2, "p": 0.01}})


def test_a_transform_with_p_0_is_never_tried() -> None:
    assert len(build([{"Pad": {"padding": 2, "p": 0}}], 16, 1)) == 1


def test_another_number_of_channels_is_refused() -> None:
    assert refused("ToRGB").endswith("(ToRGB) makes 16×16×3 uint8 of 16×16×1 uint8. Take it out.")


def test_another_type_of_pixel_is_refused() -> None:
    assert refused("Normalize").endswith("Take it out: pixels stay whole numbers here, training scales them.")


def test_a_transform_of_colours_is_refused_on_grey_images_only() -> None:
    message = refused("ISONoise")
    assert (
        "augment.transforms[0] (ISONoise) must work on 16×16×1 uint8; it says: This transformation expects 3-chan"
        in message
    )
    assert len(build(["ISONoise"], 16, 3)) == 1


def test_a_transform_that_says_it_does_nothing_is_refused() -> None:
    assert "(ToGray) must work on 16×16×1 uint8; it says: The image is already gray." in refused("ToGray")


def test_a_transform_that_needs_more_than_an_image_is_refused() -> None:
    assert "augment.transforms[0] (MaskDropout) must work on 16×16×3 uint8; it says: " in refused(
        "MaskDropout", channels=3
    )


def test_what_albumentations_merely_advises_is_no_error() -> None:
    with warnings.catch_warnings(record=True, action="always"):
        assert len(build(["ShiftScaleRotate"], 16, 1)) == 1


UNCOVERING: list[Any] = [
    {"Affine": {"rotate": [20, 30], "translate_percent": {"x": [0.2, 0.3], "y": [0.2, 0.3]}, "p": 1}},
    {"Rotate": {"limit": [20, 30], "p": 1}}, {"SafeRotate": {"limit": [20, 30], "p": 1}},
    {"Perspective": {"fit_output": True, "p": 1}},
    {"ThinPlateSpline": {"scale_range": [0.2, 0.3], "p": 1}}, {"ElasticTransform": {"alpha": 40, "sigma": 4, "p": 1}},
    {"GridDistortion": {"distort_limit": 0.4, "p": 1}}, {"OpticalDistortion": {"distort_limit": [-0.9, -0.7], "p": 1}},
    {"CropAndPad": {"percent": 0.3, "p": 1}},
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("entry", UNCOVERING, ids=lambda entry: next(iter(entry)))
def test_what_a_shift_uncovers_continues_the_frame(entry: Any, channels: int) -> None:
    images = np.full((8, 32, 32, channels), 200, np.uint8)
    for fill in ("auto", "edge", 200):
        changed = augment_batch(build(with_fill([entry], fill), 32, channels), images, 0)
        assert changed.min() == changed.max() == 200
    assert with_fill([entry], 0) == [entry]


def test_a_transform_that_is_told_how_to_fill_stays_as_it_is() -> None:
    told: list[Any] = [
        {"Affine": {"rotate": 20, "fill": 9}},
        {"Pad": {"padding": 2, "border_mode": 4}},
        "HorizontalFlip",
    ]
    assert with_fill(told, "auto") == told
    assert with_fill(["Rotate", {"Pad": None}], "edge") == [{"Rotate": {"border_mode": 1}}, {"Pad": {"border_mode": 1}}]
    assert with_fill(["NoTransform"], "auto") == ["NoTransform"], "`build` refuses it in words"
