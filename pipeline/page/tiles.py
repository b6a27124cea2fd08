"""Draws the small pictures of the page: filters, feature maps, images and heat maps."""

import base64
import math

import numpy as np
from numpy.typing import NDArray

from pipeline.plotting.thumbnails import thumbnails

_COOL, _WHITE, _WARM = np.array([31, 104, 176]), np.array([247, 247, 245]), np.array([201, 84, 16])
_DARK, _MIDDLE, _LIGHT = np.array([13, 27, 62]), np.array([47, 128, 200]), np.array([255, 233, 184])
_GAP_PIXELS = 6
MOST_MAPS = 128

PHOTO_PIXELS = 200
"""Largest length of the longer side of an image in its own resolution."""

SMALL_PIXELS = 64
"""Longer side up to which an image is stored without loss, as its pixels are seen one by one."""

_HEAT_PIXELS, _QUALITY = 128, 80
_LEAST_HEAT = 0.02
"""Change of a probability that gets the strongest colour at least, so that an image without any stays pale."""


def filters(weights: NDArray[np.float32]) -> bytes:
    """The filters (filters, input channels, height, width) of the first convolution as a PNG, each scaled to its largest
    weight. With three input channels a filter is shown in colour (grey is 0); otherwise blue is negative, orange positive.
    """
    largest = np.maximum(np.abs(weights).max(axis=(1, 2, 3), keepdims=True), 1e-12)
    signed = weights / largest
    if weights.shape[1] == 3:
        pictures = np.rint(127.5 + 127.5 * signed.transpose(0, 2, 3, 1))
    else:
        pictures = _signed_colours(signed.mean(axis=1))
    return _sheet(pictures.astype(np.uint8), tile_pixels=56)


def feature_maps(maps: NDArray[np.float32]) -> bytes:
    """The feature maps of one layer as a PNG: a tile for each channel, at most `MOST_MAPS`, on one common scale.

    Dark is 0 and light is the largest value; with negative values, these are blue and positive ones orange. `maps` has the
    shape (channels, height, width).
    """
    shown = maps[:MOST_MAPS]
    largest = max(float(np.abs(maps).max()), 1e-12)
    pictures = _signed_colours(shown / largest) if maps.min() < 0 else _positive_colours(shown / largest)
    return _sheet(pictures.astype(np.uint8), tile_pixels=72 if len(shown) <= 16 else 36 if len(shown) <= 64 else 24)


def image(pixels: NDArray[np.uint8]) -> bytes:
    """One image of shape (height, width, channels) as a PNG."""
    colour = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return _sheet(colour[None], tile_pixels=112)


def photo(pixels: NDArray[np.uint8]) -> bytes:
    """An image of shape (height, width, 1 or 3) in its own resolution, or smaller: PNG for a small one, else WebP."""
    (small,) = thumbnails(pixels[None], PHOTO_PIXELS)
    return _encoded(np.repeat(small, 3, axis=2) if small.shape[2] == 1 else small)


def heat_map(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> bytes:
    """An image in grey under its heat map, of shape (cells, cells): orange where it is positive, blue where negative."""
    import cv2

    scale = max(1, round(_HEAT_PIXELS / max(pixels.shape[:2])))
    (small,) = thumbnails(pixels[None], _HEAT_PIXELS).repeat(scale, axis=1).repeat(scale, axis=2)
    grey = 40 + 0.8 * small.mean(axis=2, keepdims=True)  # neither black nor white, so that both colours show
    smooth = cv2.resize(heat, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_CUBIC)
    share = np.clip(smooth / max(float(np.abs(heat).max()), _LEAST_HEAT), -1, 1)[..., None]
    colour = np.where(share < 0, _COOL, _WARM)
    return _encoded(np.rint(grey + (colour - grey) * 0.75 * np.abs(share)).astype(np.uint8), always_lossy=True)


def _encoded(pixels: NDArray[np.uint8], *, always_lossy: bool = False) -> bytes:
    import cv2

    blue_first = np.ascontiguousarray(pixels[..., ::-1])  # as OpenCV has it
    if max(pixels.shape[:2]) <= SMALL_PIXELS and not always_lossy:
        return bytes(cv2.imencode(".png", blue_first, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])
    return bytes(cv2.imencode(".webp", blue_first, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1])


def data_uri(picture: bytes) -> str:
    """A PNG or WebP file as a data URI, which holds the picture itself."""
    kind = "png" if picture.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


def _signed_colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blue for -1, white for 0, orange for 1; the last axis of the result is the colour."""
    strength = np.abs(values)[..., None]
    return np.where(values[..., None] < 0, _mix(_WHITE, _COOL, strength), _mix(_WHITE, _WARM, strength))


def _positive_colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dark blue for 0, blue for a half, pale yellow for 1; the last axis of the result is the colour."""
    position = values[..., None] * 2
    return np.where(position < 1, _mix(_DARK, _MIDDLE, position), _mix(_MIDDLE, _LIGHT, position - 1))


def _mix(first: NDArray[np.int64], second: NDArray[np.int64], share: NDArray[np.float32]) -> NDArray[np.float32]:
    return first + (second - first) * np.clip(share, 0, 1)


def _sheet(pictures: NDArray[np.uint8], tile_pixels: int) -> bytes:
    """Pictures of shape (n, height, width, 3) side by side, with transparent gaps; small ones enlarged without smoothing,
    those more than twice as large as a tile made smaller."""
    import cv2

    if max(pictures.shape[1:3]) > 2 * tile_pixels:
        pictures = thumbnails(pictures, tile_pixels)
    count, height, width, _ = pictures.shape
    factor = max(1, round(tile_pixels / max(height, width)))
    tiles = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    columns = min(count, math.ceil(math.sqrt(2 * count)))
    rows = math.ceil(count / columns)
    step_down, step_right = height * factor + _GAP_PIXELS, width * factor + _GAP_PIXELS
    sheet = np.zeros((rows * step_down - _GAP_PIXELS, columns * step_right - _GAP_PIXELS, 4), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * step_down, index % columns * step_right
        blue_first = tile[..., ::-1]  # as OpenCV has it
        sheet[top : top + height * factor, left : left + width * factor, :3] = blue_first
        sheet[top : top + height * factor, left : left + width * factor, 3] = 255
    return bytes(cv2.imencode(".png", sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])
