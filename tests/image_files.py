"""Image files of every format that `prepare` reads, small ones, by their names."""

import io

import numpy as np
from PIL import Image

from tests.test_data_decoding import stored
from tests.test_data_dicom_files import dicom
from tests.test_data_wide_samples import written


def image_files(num_images: int = 200) -> dict[str, bytes]:
    """So many files in 18 formats and modes: noise around a shape, upright and wide."""
    generator = np.random.default_rng(0)
    makers = list(_MAKERS)
    return {
        f"{place:03d}.{makers[place % len(makers)]}": _MAKERS[makers[place % len(makers)]](_pixels(generator, place))
        for place in range(num_images)
    }


def _pixels(generator: np.random.Generator, place: int) -> np.ndarray:
    height, width = 14 + place % 9, 14 + place % 7
    pixels = generator.integers(0, 120, (height, width, 3), np.uint8)
    pixels[4 : 8 + 2 * (place % 3), 4 : 8 + 2 * (place % 3)] += np.uint8(110)
    return pixels


def _pillow(format_: str, mode: str = "RGB", **options: object):
    return lambda pixels: stored(Image.fromarray(pixels).convert(mode), format_, **options)


def _transparent(pixels: np.ndarray) -> bytes:
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:3] = 0
    return stored(Image.fromarray(np.dstack([pixels, alpha])), "PNG")


def _turned(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)


def _heic(pixels: np.ndarray) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels).resize((64, 64))).save(file)
    return file.getvalue()


_MAKERS = {
    "jpg": _pillow("JPEG", quality=95), "grey.jpg": _pillow("JPEG", "L"), "cmyk.jpg": _pillow("JPEG", "CMYK"),
    "turned.jpg": _turned, "png": _pillow("PNG"), "grey.png": _pillow("PNG", "L"), "palette.png": _pillow("PNG", "P"),
    "rgba.png": _transparent, "16bit.png": lambda pixels: written(pixels[:, :, 0].astype(np.uint16) * 257),
    "webp": _pillow("WEBP"), "gif": _pillow("GIF", "P"), "bmp": _pillow("BMP"), "tif": _pillow("TIFF"),
    "16bit.tiff": lambda pixels: written(pixels[:, :, 0].astype(np.uint16) * 257, ".tiff"), "ppm": _pillow("PPM"),
    "jp2": _pillow("JPEG2000"), "heic": _heic,
    "dcm": lambda pixels: dicom(pixels[:, :, 0].astype(np.uint16) * 16 + 15, bits=12),
}  # fmt: skip
