"""The small pictures of filters and feature maps."""

import base64

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.page import tiles


def decode(png: bytes) -> NDArray[np.uint8]:
    """Red, green, blue, alpha."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return np.asarray(picture[..., [2, 1, 0, 3]], np.uint8)


def test_negative_weights_are_blue_and_positive_ones_orange() -> None:
    picture = decode(tiles.filters(np.array([[[[-1.0, 1.0], [0.0, 0.5]]]], np.float32)))
    size = picture.shape[0]
    negative, positive, zero = picture[5, 5], picture[5, size - 5], picture[size - 5, 5]
    assert negative[2] > negative[0] and positive[0] > positive[2]
    assert zero[:3].min() > 240


def test_filters_of_colour_images_are_in_colour() -> None:
    red = np.zeros((1, 3, 2, 2), np.float32)
    red[0, 0] = 1.0
    assert decode(tiles.filters(red))[5, 5].tolist() == [255, 128, 128, 255]


def test_a_filter_of_zeros_is_drawn() -> None:
    assert decode(tiles.filters(np.zeros((2, 1, 3, 3), np.float32)))[5, 5, :3].min() > 240


def test_dead_map_is_dark_beside_a_live_one() -> None:
    maps = np.zeros((2, 4, 4), np.float32)
    maps[1] = 2.0
    picture = decode(tiles.feature_maps(maps))
    assert picture[5, 5, :3].sum() < 150 < 500 < picture[5, -5, :3].sum()


def test_maps_with_negative_answers_use_two_colours() -> None:
    picture = decode(tiles.feature_maps(np.array([[[-1.0]], [[1.0]]], np.float32)))
    assert picture[5, 5, 2] > picture[5, 5, 0] and picture[5, -5, 0] > picture[5, -5, 2]


@pytest.mark.parametrize("num_maps", [1, 8, 120, 500])
def test_sheet_has_a_tile_for_each_map_up_to_the_limit(num_maps: int) -> None:
    picture = decode(tiles.feature_maps(np.ones((num_maps, 1, 1), np.float32)))
    num_tiles = cv2.connectedComponents((picture[..., 3] > 0).astype(np.uint8))[0] - 1
    assert num_tiles == min(num_maps, tiles.MOST_MAPS)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_keeps_its_pixels(channels: int) -> None:
    pixels = np.zeros((8, 8, channels), np.uint8)
    pixels[..., 0] = 200
    picture = decode(tiles.image(pixels))
    assert picture[20, 20].tolist() == ([200, 200, 200, 255] if channels == 1 else [200, 0, 0, 255])


def test_data_uri_holds_the_picture() -> None:
    png = tiles.image(np.zeros((2, 2, 1), np.uint8))
    assert base64.b64decode(tiles.data_uri(png).removeprefix("data:image/png;base64,")) == png


def test_maps_of_large_images_are_made_smaller_and_few_pixels_are_not() -> None:
    large, small = np.random.default_rng(0).random((32, 224, 224), np.float32), np.ones((32, 40, 40), np.float32)
    assert max(decode(tiles.feature_maps(large)).shape) < 700
    assert decode(tiles.feature_maps(small)).shape[0] > 4 * 40
    assert len(tiles.image(np.zeros((512, 512, 3), np.uint8))) < 100_000
