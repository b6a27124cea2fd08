"""Images brought to one size, and what is measured on them."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.pixels import Images, PixelCounts, fit_image
from pipeline.plotting.overview import overview


def noise(*shape: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width", "top", "left"), [(28, 28, 2, 2), (27, 20, 2, 6), (32, 32, 0, 0)])
def test_pad_centres_an_image_in_zeros(height: int, width: int, top: int, left: int, channels: int) -> None:
    image = noise(height, width, channels)
    padded = fit_image(image, 32, "pad")
    assert padded.shape == (32, 32, channels) and padded.dtype == np.uint8
    assert np.array_equal(padded[top : top + height, left : left + width], image)
    assert padded.sum(dtype=np.int64) == image.sum(dtype=np.int64)


def test_pad_makes_a_larger_image_smaller_and_keeps_its_proportions() -> None:
    padded = fit_image(np.full((64, 32, 1), 200, np.uint8), 32, "pad")
    assert (padded[:, 8:24] == 200).all()
    assert padded[:, :8].max() == padded[:, 24:].max() == 0


@pytest.mark.parametrize(("height", "width"), [(8, 20), (20, 8)])
def test_crop_cuts_out_the_middle_square(height: int, width: int) -> None:
    image = noise(height, width, 3)
    top, left = (height - 8) // 2, (width - 8) // 2
    assert np.array_equal(fit_image(image, 8, "crop"), image[top : top + 8, left : left + 8])


def test_crop_brings_the_shorter_side_to_the_size() -> None:
    left, middle, right = (np.full((16, 16, 1), value, np.uint8) for value in (10, 20, 30))
    wide = np.concatenate([left, middle, right], axis=1)
    assert (fit_image(wide, 8, "crop") == 20).all()
    assert (fit_image(wide, 64, "crop") == 20).all()


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_each_pixel_of_a_smaller_image_is_the_mean_of_its_area(fit: str) -> None:
    image = noise(16, 16, 3)
    means = image.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    assert np.abs(fit_image(image, 8, fit) - means).max() <= 0.5


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_fine_stripes_become_an_even_grey(fit: str) -> None:
    """Were pixels left out instead of averaged, the stripes would turn into coarse ones."""
    stripes = np.zeros((301, 301, 1), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(fit_image(stripes, 32, fit).astype(int) - 100).max() <= 12


def test_stretch_takes_means_one_way_while_it_grows_the_other_way() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), 2500).reshape(1, 5000, 1)
    assert np.abs(fit_image(stripes, 32, "stretch").astype(int) - 100).max() <= 2


def test_stretch_interpolates_between_pixels_that_it_parts() -> None:
    ramp = np.array([0, 100], np.uint8).reshape(1, 2, 1).repeat(2, axis=0)
    assert fit_image(ramp, 4, "stretch")[:, :, 0].tolist() == [[0, 25, 75, 100]] * 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (1, 1_000_000), (3, 2), (700, 16), (17, 16)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_extreme_shapes_fit(shape: tuple[int, int], channels: int, fit: str) -> None:
    fitted = fit_image(np.full((*shape, channels), 77, np.uint8), 16, fit)
    assert fitted.shape == (16, 16, channels) and fitted.dtype == np.uint8
    assert set(np.unique(fitted)) == ({0, 77} if fit == "pad" else {77})


def test_mean_and_std_are_those_of_numpy_whatever_the_pieces() -> None:
    images = noise(50, 5, 4, 3)
    counts = PixelCounts(3)
    for piece in (images[:7], images[7:8], images[8:]):
        counts.add(piece)
    values = images / 255
    assert counts.mean() == pytest.approx(values.mean(axis=(0, 1, 2)), abs=1e-12)
    assert counts.std() == pytest.approx(values.std(axis=(0, 1, 2)), abs=1e-12)


def test_channel_that_never_changes_has_std_1() -> None:
    counts = PixelCounts(1)
    counts.add(np.full((3, 2, 2, 1), 100, np.uint8))
    assert counts.std() == [1.0] and counts.mean() == pytest.approx([100 / 255])


@pytest.mark.parametrize("channels", [1, 3])
def test_overview_names_every_class_as_it_is_spelled(tmp_path: Path, channels: int) -> None:
    classes = ["T-shirt/top", "a $x_1$ & <b>", "none of it"]
    figure = overview(noise(6, 8, 8, channels), np.array([0, 1, 0, 1, 0, 0]), classes, "a title", columns=4)
    figure.savefig(tmp_path / "overview.png")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == classes
    assert (tmp_path / "overview.png").stat().st_size > 1000


def test_overview_shows_the_images_of_each_class_in_its_row() -> None:
    images = noise(6, 8, 8, 3)
    figure = overview(images, np.array([1, 0, 1, 1, 0, 1]), ["a", "b"], "", columns=3)
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert shown.shape == (18, 27, 3)
    assert np.array_equal(shown[:8, :8], images[1]) and np.array_equal(shown[:8, 9:17], images[4])
    assert np.array_equal(shown[9:17, :8], images[0]) and np.array_equal(shown[9:17, 18:26], images[3])
    assert (shown[:8, 18:] == 255).all()


def test_overview_shows_large_images_small_and_the_first_of_many_classes() -> None:
    classes = [f"class {index}" for index in range(200)]
    figure = overview(noise(200, 224, 100, 3), np.arange(200), classes, "a title", columns=3)
    axes = figure.axes[0]
    shown = np.asarray(axes.get_images()[0].get_array())
    assert shown.shape == (40 * 65, 3 * 30, 3)
    assert [label.get_text() for label in axes.get_yticklabels()] == classes[:40]
    assert axes.get_title(loc="left") == "a title; 40 of 200 classes"
