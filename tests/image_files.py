"""Image files of every format that `prepare` reads, small ones, by their names."""

import io

import numpy as np
from PIL import Image

from tests.test_data_decoding import stored
from tests.test_data_dicom_files import compressed, dicom
from tests.test_data_wide_samples import written


def image_files(num_images: int = 200, seed: int = 0) -> dict[str, bytes]:
    """So many files in every format and mode in turn: noise around a square of one of three sizes, upright and wide."""
    generator = np.random.default_rng(seed)
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


def _turned(format_: str, orientation: int, **options: object):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _pillow(format_, exif=exif, **options)


def _with_alpha(format_: str, mode: str = "RGBA", **options: object):
    def make(pixels: np.ndarray) -> bytes:
        alpha = np.repeat(np.linspace(0, 255, pixels.shape[0]).astype(np.uint8)[:, None], pixels.shape[1], 1)
        return stored(Image.fromarray(np.dstack([pixels, alpha])).convert(mode), format_, **options)

    return make


def _animated(format_: str):
    return lambda pixels: _pillow(format_, "P", save_all=True, append_images=[Image.new("P", (9, 9))])(pixels)


def _wide(kind: str, bits: int = 16):
    """Colours of so many bits."""
    return lambda pixels: written(pixels.astype(np.uint16) * (2**bits // 256), kind)


def _heic(pixels: np.ndarray, mode: str = "RGB") -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels).resize((64, 64)).convert(mode)).save(file)
    return file.getvalue()


_MAKERS = {
    "jpg": _pillow("JPEG", quality=95), "grey.jpg": _pillow("JPEG", "L"), "cmyk.jpg": _pillow("JPEG", "CMYK"),
    "turned.jpg": _turned("JPEG", 6, quality=95), "png": _pillow("PNG"), "grey.png": _pillow("PNG", "L"),
    "palette.png": _pillow("PNG", "P"),
    "rgba.png": _transparent, "16bit.png": lambda pixels: written(pixels[:, :, 0].astype(np.uint16) * 257),
    "webp": _pillow("WEBP"), "gif": _pillow("GIF", "P"), "bmp": _pillow("BMP"), "tif": _pillow("TIFF"),
    "16bit.tiff": lambda pixels: written(pixels[:, :, 0].astype(np.uint16) * 257, ".tiff"), "ppm": _pillow("PPM"),
    "jp2": _pillow("JPEG2000"), "heic": _heic,
    "dcm": lambda pixels: dicom(pixels[:, :, 0].astype(np.uint16) * 16 + 15, bits=12),
    "avif": _pillow("AVIF", quality=90), "progressive.jpg": _pillow("JPEG", progressive=True),
    "alpha.avif": _with_alpha("AVIF"), "alpha.webp": _with_alpha("WEBP"), "lossless.webp": _pillow("WEBP", lossless=True),
    "grey_alpha.png": _with_alpha("PNG", "LA"), "1bit.png": _pillow("PNG", "1"), "key.png": _pillow("PNG", "P", transparency=3),
    "16bit_colour.png": _wide(".png"), "12bit_colour.png": _wide(".png", 12), "16bit_colour.tiff": _wide(".tiff"),
    "turned.png": _turned("PNG", 8), "turned.webp": _turned("WEBP", 3), "turned.tif": _turned("TIFF", 5),
    "mirrored.jpg": _turned("JPEG", 2), "cmyk.tif": _pillow("TIFF", "CMYK"), "lzw.tif": _pillow("TIFF", compression="tiff_lzw"),
    "fax.tif": _pillow("TIFF", "1", compression="group4"), "big.tif": _pillow("TIFF", big_tiff=True),
    "alpha.tif": _with_alpha("TIFF"), "key.gif": _pillow("GIF", "P", transparency=3), "animated.gif": _animated("GIF"),
    "grey.bmp": _pillow("BMP", "L"), "palette.bmp": _pillow("BMP", "P"), "pgm": _pillow("PPM", "L"), "pbm": _pillow("PPM", "1"),
    "grey.jp2": _pillow("JPEG2000", "L"), "alpha.jp2": _with_alpha("JPEG2000"), "grey.heic": lambda pixels: _heic(pixels, "L"),
    "inverted.dcm": lambda pixels: dicom(pixels[:, :, 0].copy(), "MONOCHROME1", bits=8),
    "colour.dcm": lambda pixels: dicom(pixels, "RGB", bits=8),
    "window.dcm": lambda pixels: dicom(pixels[:, :, 0].astype(np.uint16), WindowCenter=128, WindowWidth=256),
    "rle.dcm": lambda pixels: compressed(pixels[:, :, 0].astype(np.uint16) * 16, "1.2.840.10008.1.2.5"),
    "jp2.dcm": lambda pixels: compressed(
        pixels[:, :, 0].repeat(4, 0).repeat(4, 1).astype(np.uint16) * 16, "1.2.840.10008.1.2.4.90"
    ),
}  # fmt: skip
