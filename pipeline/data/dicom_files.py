"""Decodes DICOM files with one picture each, by pydicom (the extra `dicom`).

Stored values are rescaled as the file says. Its window, where it has one, tells which values are black and white; without one
they count as those of other images of more than 8 bits. `docs/decisions/0002-dependencies.md` says which compressions are read.
"""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.data.image_headers import NOT_AN_IMAGE, UNREADABLE, BadImageError, check_scans, check_size
from pipeline.data.pixels import FULL_RANGE, Decoded, eight_bits
from pipeline.data.wide_samples import White, scaled

if TYPE_CHECKING:
    from pydicom import FileDataset

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax of a data set that is compressed as a whole. pydicom would unpack it whatever its size."""

_FRAME_FORMATS = ("JPEG", "JPEG2000")
_ENDS = np.array([-1e12, 1e12])


def decode_dicom(data: bytes, max_pixels: int, white: White) -> Decoded:
    """Decode a DICOM file; a picture that stores white as 0 (MONOCHROME1) is turned round.

    Args:
        data: Content of the file.
        max_pixels: Limit for height × width, checked before decoding.
        white: Value that is white, after rescaling, in grey of more than 8 bits without a window; a given one comes before the
            window.

    Raises:
        BadImageError: The file holds no picture, or several, or is compressed in a way that is not read, or nothing tells
            which value is white.
    """
    from pydicom import dcmread

    if DEFLATED in data:
        raise BadImageError(UNREADABLE, "its data set is deflated as a whole, which is not read")
    file = dcmread(BytesIO(data))
    if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(file.dir()):
        raise BadImageError(NOT_AN_IMAGE, "it is a DICOM file without a picture")
    num_frames = int(file.get("NumberOfFrames") or 1)
    if num_frames != 1:
        raise BadImageError(UNREADABLE, f"it holds {num_frames:,} frames; save each as a file of its own")
    check_size(file.Columns, file.Rows, max_pixels)
    _check_compression(file, max_pixels)
    return _shown(file, file.pixel_array, white)


def _check_compression(file: "FileDataset", max_pixels: int) -> None:
    """Refuse a compression that is not read, and a compressed frame that is larger than the file says."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder
    from pydicom.uid import RLELossless

    syntax = file.file_meta.TransferSyntaxUID
    try:
        is_read = get_decoder(syntax).is_available
    except NotImplementedError:
        is_read = False
    refusal = BadImageError(
        UNREADABLE, f"its picture is compressed as {syntax.name}, which is not read; save it uncompressed"
    )
    if not is_read:
        raise refusal
    if syntax.is_encapsulated and syntax != RLELossless:
        frame = get_frame(file.PixelData, 0, number_of_frames=1)
        try:
            with Image.open(BytesIO(frame), formats=_FRAME_FORMATS) as image:
                check_size(*image.size, max_pixels)
                check_scans(frame, image.width * image.height, max_pixels)
        except UnidentifiedImageError:  # JPEG of 12 bits, among others
            raise refusal from None


def _shown(file: "FileDataset", values: NDArray[Any], white: White) -> Decoded:
    from pydicom.pixels import apply_color_lut

    meaning = file.PhotometricInterpretation
    if meaning == "PALETTE COLOR":
        colours = apply_color_lut(values, file)
        return Decoded(colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8))
    if not meaning.startswith("MONOCHROME"):
        return Decoded(values) if values.dtype == np.uint8 else scaled(values, white)
    values = values[:, :, None]
    if values.dtype.kind == "f" or np.ptp(values.astype(np.int64)) > FULL_RANGE:
        return _grey(file, values, white)
    low = int(values.min())  # a table of the values is faster than the picture, and takes less memory
    table = _grey(file, np.arange(low, int(values.max()) + 1, dtype=values.dtype), white)
    return table._replace(pixels=table.pixels[values.astype(np.int32) - low])


def _grey(file: "FileDataset", values: NDArray[Any], white: White) -> Decoded:
    """Grey levels of stored values, in any shape."""
    from pydicom.pixels import apply_modality_lut

    inverted = file.PhotometricInterpretation == "MONOCHROME1"
    stays = "ModalityLUTSequence" not in file and (file.get("RescaleSlope", 1), file.get("RescaleIntercept", 0)) == (
        1,
        0,
    )
    rescaled = values if stays else apply_modality_lut(values, file)
    if not white.given and _has_window(file):
        pixels = _windowed(rescaled, file)
    elif rescaled.dtype == np.uint8:
        pixels = eight_bits(rescaled, 2**file.BitsStored - 1)
    else:
        whole = _whole(rescaled)
        if not white.given and whole.dtype != np.uint16:
            evidence = (
                f"its values go from {rescaled.min():,g} to {rescaled.max():,g}, it has no window, and nothing tells which is "
                "white; prepare.white_level can"
            )
            raise BadImageError(UNREADABLE, evidence)
        return scaled(whole, white, inverted=inverted)
    return Decoded(255 - pixels if inverted else pixels, inverted=inverted)


def _has_window(file: "FileDataset") -> bool:
    """Whether the file has a window, its first one of a width that is possible: some write 0."""
    center, width = file.get("WindowCenter"), file.get("WindowWidth")
    first = width[0] if width and not isinstance(width, int | float) else width
    return center is not None and bool(first) and first >= 1


def _windowed(values: NDArray[Any], file: "FileDataset") -> NDArray[np.uint8]:
    """Grey levels of rescaled values in the file's first window."""
    from pydicom.pixels import apply_windowing

    black, white = apply_windowing(_ENDS, file)  # pydicom's own range of the result
    return eight_bits(apply_windowing(values, file) - black, white - black)


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Rescaled values as 16 bits where they are whole numbers of that range, as in other images."""
    if values.min() < 0 or values.max() > FULL_RANGE:
        return values
    whole = values.astype(np.uint16)
    return whole if (whole == values).all() else values
