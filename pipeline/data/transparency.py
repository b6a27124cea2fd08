"""Puts images with transparent pixels on a background."""

import cv2
import numpy as np
from PIL import Image

from pipeline.data.pixels import Decoded, Images

FAINT = 8.0
"""Standard deviation, in grey levels of 255, below which a drawing on white may be one that white erases."""

CLEARER = 4
"""Multiple of it that the drawing must have on black: black shows it, and white does not."""


def on_background(layer: Image.Image, background: int | None) -> Decoded:
    """The pixels of an image with an alpha channel as its last one, mode LA or RGBA.

    `background` is the grey level to put it on; None: white, or black for a white drawing, which white would erase.
    """
    alpha = layer.getchannel("A")
    mode = layer.mode[:-1]
    colour = layer.convert(mode)
    if alpha.getextrema()[0] == 255:
        return Decoded(_pixels(colour))

    def blended(level: int) -> Images:
        image = Image.new(mode, layer.size, (level,) * len(mode))
        image.paste(colour, mask=alpha)
        return _pixels(image)

    if background is not None:
        return Decoded(blended(background), background=background)
    on_white = blended(255)
    faintness = _spread(on_white)
    if faintness < FAINT:
        on_black = blended(0)
        if _spread(on_black) > CLEARER * max(faintness, 1.0):
            return Decoded(on_black, background=0, white_drawing=True)
    return Decoded(on_white, background=255)


def _spread(pixels: Images) -> float:
    return float(cv2.meanStdDev(pixels.reshape(-1, 1))[1][0, 0])


def _pixels(image: Image.Image) -> Images:
    pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
