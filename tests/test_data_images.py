"""Images brought to one size, and what is measured on them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import images as module
from pipeline.data.images import Images, PixelCounts, chunks, fit_images, hash_pixels, overview


def noise(*shape: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width", "top", "left"), [(28, 28, 2, 2), (27, 20, 2, 6), (32, 32, 0, 0)])
def test_pad_centres_each_image_in_zeros(height: int, width: int, top: int, left: int, channels: int) -> None:
    images = noise(3, height, width, channels)
    padded = fit_images(images, 32, "pad")
    assert padded.shape == (3, 32, 32, channels) and padded.dtype == np.uint8
    assert np.array_equal(padded[:, top : top + height, left : left + width], images)
    assert padded.sum(dtype=np.int64) == images.sum(dtype=np.int64)


def test_pad_makes_a_larger_image_smaller_and_keeps_its_proportions() -> None:
    padded = fit_images(np.full((2, 64, 32, 1), 200, np.uint8), 32, "pad")
    assert (padded[:, :, 8:24] == 200).all()
    assert padded[:, :, :8].max() == padded[:, :, 24:].max() == 0


def test_resize_takes_the_mean_of_the_area_it_shrinks() -> None:
    images = noise(4, 16, 16, 3)
    means = images.reshape(4, 8, 2, 8, 2, 3).mean(axis=(2, 4))
    assert np.abs(fit_images(images, 8, "resize") - means).max() <= 0.5


def test_resize_interpolates_between_pixels_that_it_parts() -> None:
    ramp = np.array([0, 100], np.uint8).reshape(1, 1, 2, 1).repeat(2, axis=1)
    assert fit_images(ramp, 4, "resize")[0, :, :, 0].tolist() == [[0, 25, 75, 100]] * 4


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.sampled_from(["pad", "resize"]))
def test_every_size_fits(height: int, width: int, channels: int, fit: str) -> None:
    fitted = fit_images(np.full((2, height, width, channels), 77, np.uint8), 16, fit)
    assert fitted.shape == (2, 16, 16, channels)
    assert fitted.max() == 77 and fitted.min() in ({77} if fit == "resize" else {0, 77})


def test_chunks_give_all_images_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    images, chosen = noise(10, 2, 2, 1), np.array([9, 1, 4, 4, 0, 7, 2])
    pieces = list(chunks(images, chosen))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert np.array_equal(np.concatenate(pieces), images[chosen])


def test_hash_is_that_of_the_pixels() -> None:
    images = noise(2, 4, 4, 3)
    assert hash_pixels(images[:, :, ::-1])[1] == hashlib.sha256(images[1, :, ::-1].tobytes()).hexdigest()


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
