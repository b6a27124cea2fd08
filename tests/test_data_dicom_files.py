"""DICOM files with the extra `dicom`: grey levels as the file means them, and one clear refusal for what is not read."""

import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.decoding import decode
from pipeline.data.image_headers import BOMB, NOT_AN_IMAGE, UNREADABLE, BadImageError
from pipeline.data.pixels import Decoded
from pipeline.data.wide_samples import White
from pipeline.errors import DataError
from tests.test_prepare import issues, made, write_packed
from tests.test_source_situations import labels

pydicom = pytest.importorskip("pydicom")

MAX_PIXELS = 1_000_000
RAMP = np.array([[0, 1000, 2000], [3000, 4000, 4095]], np.uint16)


def dicom(values: np.ndarray, meaning: str = "MONOCHROME2", bits: int = 12, **tags: Any) -> bytes:
    """A DICOM file of grey (height, width) or colour (height, width, 3)."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 3 if values.ndim == 3 else 1
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation, data.PixelRepresentation = meaning, int(values.dtype.kind == "i")
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * values.itemsize, bits, bits - 1
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    return saved(data)


def saved(data: Any) -> bytes:
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def compressed(values: np.ndarray, syntax: Any, **tags: Any) -> bytes:
    data = pydicom.dcmread(io.BytesIO(dicom(values, **tags)))
    data.compress(syntax, generate_instance_uid=False)
    return saved(data)


def grey(data: bytes, white: White = White(4095)) -> list[list[int]]:  # noqa: B008
    rows: list[list[int]] = decode(data, MAX_PIXELS, white).pixels[:, :, 0].tolist()
    return rows


STRAIGHT = [[0, 62, 125], [187, 249, 255]]
TURNED = [[255, 193, 130], [68, 6, 0]]


def test_12_bits_are_scaled_as_those_of_other_images() -> None:
    decoded = decode(dicom(RAMP), MAX_PIXELS, White(4095))
    assert decoded.pixels[:, :, 0].tolist() == STRAIGHT
    assert decoded[1:] == Decoded(decoded.pixels, peak=4095)[1:]


def test_white_as_0_is_turned_round_and_told() -> None:
    decoded = decode(dicom(RAMP, "MONOCHROME1"), MAX_PIXELS, White(4095))
    assert decoded.pixels[:, :, 0].tolist() == TURNED and decoded.inverted


def test_8_bits_need_no_level_and_take_none() -> None:
    values = np.array([[0, 100, 255]], np.uint8)
    for white in (White(), White(4095), White(4095, given=True)):
        assert grey(dicom(values, bits=8), white) == [[0, 100, 255]]
    assert grey(dicom(values, "MONOCHROME1", bits=8)) == [[255, 155, 0]]
    assert decode(dicom(values, bits=8), MAX_PIXELS).peak == 0


WINDOWS = [
    # Values after rescaling are 10 × stored − 1,000: −1,000, 0, 1,000.
    ({"WindowCenter": 0.5, "WindowWidth": 2001}, [[0, 128, 255]]),
    ({"WindowCenter": 500.5, "WindowWidth": 1001}, [[0, 0, 255]]),
    ({"WindowCenter": [0.5, 9], "WindowWidth": [2001, 9]}, [[0, 128, 255]]),
    ({"WindowCenter": 0, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}, [[0, 128, 255]]),
    ({"WindowCenter": 0, "WindowWidth": 2000, "VOILUTFunction": "SIGMOID"}, [[30, 128, 225]]),
]


@pytest.mark.parametrize(("window", "expected"), WINDOWS)
def test_rescaled_values_are_shown_in_the_window_of_the_file(window: dict[str, Any], expected: list[list[int]]) -> None:
    values = np.array([[0, 100, 200]], np.uint16)
    tags = {"RescaleSlope": 10, "RescaleIntercept": -1000, **window}
    assert grey(dicom(values, **tags)) == expected
    assert grey(dicom(values, "MONOCHROME1", **tags)) == [[255 - level for level in expected[0]]]
    assert grey(dicom((values - 100).astype(np.int16), **{**tags, "RescaleIntercept": 0})) == expected
    assert decode(dicom(values, **tags), MAX_PIXELS).peak == 0, "such a file tells what is white"


def test_a_given_level_comes_before_the_window_and_holds_after_rescaling() -> None:
    data = dicom(
        np.array([[0, 100, 200]], np.uint16), RescaleSlope=10, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=9
    )
    assert grey(data, White(2000, given=True)) == [[0, 0, 128]]


def test_a_window_without_width_is_none() -> None:
    assert grey(dicom(RAMP, WindowCenter=0, WindowWidth=0)) == STRAIGHT


@pytest.mark.parametrize(
    ("tags", "ends"),
    [
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, "-1,024 to 3,071"),
        ({"RescaleSlope": 0.001, "RescaleIntercept": 0}, "0 to 4.095"),
    ],
)
def test_values_without_a_range_need_a_level(tags: dict[str, Any], ends: str) -> None:
    error = refusal(dicom(RAMP, **tags))
    assert error.problem == UNREADABLE
    assert error.evidence == (
        f"its values go from {ends}, it has no window, and nothing tells which is white; prepare.white_level can"
    )


def test_whole_values_after_rescaling_count_as_those_of_other_images() -> None:
    assert grey(dicom(RAMP[:, :1], RescaleSlope=2, RescaleIntercept=5)) == [[0], [255]]
    assert decode(dicom(RAMP, RescaleSlope=2, RescaleIntercept=5), MAX_PIXELS).peak == 8195


def test_colour_is_red_green_and_blue() -> None:
    colours = np.array([[[255, 0, 0], [10, 200, 30]]], np.uint8)
    assert decode(dicom(colours, "RGB", bits=8), MAX_PIXELS).pixels.tolist() == colours.tolist()
    wide = colours.astype(np.uint16) * 16
    decoded = decode(dicom(wide, "RGB"), MAX_PIXELS, White(4080))
    assert decoded.pixels.tolist() == colours.tolist() and decoded.peak == 4080


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_becomes_colour(bits: int) -> None:
    table = np.array([0, 100, 255, 7], np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    tags: dict[str, Any] = {}
    for name, order in (("Red", [0, 1, 2, 3]), ("Green", [2, 1, 0, 3]), ("Blue", [1, 1, 1, 3])):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, bits]
        tags[f"{name}PaletteColorLookupTableData"] = table[order].tobytes()
    data = dicom(np.array([[0, 1, 2]], np.uint8), "PALETTE COLOR", bits=8, **tags)
    assert decode(data, MAX_PIXELS).pixels.tolist() == [[[0, 255, 100], [100, 100, 100], [255, 0, 100]]]


def test_lossless_compressions_give_the_same_levels() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (64, 70)).astype(np.uint16)
    plain = grey(dicom(values))
    assert grey(compressed(values, pydicom.uid.RLELossless)) == plain
    assert grey(compressed(values, pydicom.uid.JPEG2000Lossless)) == plain


def test_jpeg_inside_comes_out_nearly_as_it_was() -> None:
    path = pydicom.data.get_testdata_file("SC_rgb_jpeg_lossy_gdcm.dcm", download=False)
    plain = pydicom.data.get_testdata_file("SC_rgb_rle.dcm", download=False)
    pixels, expected = (decode(Path(name).read_bytes(), MAX_PIXELS).pixels for name in (path, plain))
    assert np.abs(pixels.astype(int) - expected).mean() < 3


def test_a_file_that_begins_as_tiff_too_is_read_as_dicom() -> None:
    data = b"II*\0" + bytes(124) + dicom(RAMP)[128:]
    assert grey(data) == STRAIGHT


# Refusals


def refusal(data: bytes, max_pixels: int = MAX_PIXELS) -> BadImageError:
    with pytest.raises(BadImageError) as caught:
        decode(data, max_pixels, White(4095))
    return caught.value


def test_several_frames_are_refused_in_one_row(tmp_path: Path) -> None:
    several = dicom(RAMP, NumberOfFrames=2, PixelData=RAMP.tobytes() * 2)
    values = np.random.default_rng(0).integers(0, 4096, (40, 8, 8)).astype(np.uint16)
    rows = [(f"{'ab'[place % 2]}/{place:02d}.dcm", "ab"[place % 2], dicom(image)) for place, image in enumerate(values)]
    folder = write_packed(tmp_path / "packed", [*rows, ("a/several.dcm", "a", several)])
    assert made(folder, tmp_path / "out", near_duplicates=False).white_level == 4095
    assert issues(tmp_path / "out") == [("a/several.dcm", "unreadable", "dropped")]
    assert refusal(several).evidence == "it holds 2 frames; save each as a file of its own"


def test_what_holds_no_picture_is_told() -> None:
    data = pydicom.dcmread(io.BytesIO(dicom(RAMP)))
    del data.PixelData
    error = refusal(saved(data))
    assert (error.problem, error.evidence) == (NOT_AN_IMAGE, "it is a DICOM file without a picture")


def test_compressions_that_are_not_read_are_told_by_name() -> None:
    for name, words in (
        ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LS Lossless Image Compression"),
        (
            "SC_rgb_jpeg_gdcm.dcm",
            "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        ),
        ("JPEG-lossy.dcm", "JPEG Extended (Process 2 and 4)"),
    ):
        data = Path(pydicom.data.get_testdata_file(name, download=False)).read_bytes()
        assert (
            refusal(data).evidence == f"its picture is compressed as {words}, which is not read; save it uncompressed"
        )
    deflated = Path(pydicom.data.get_testdata_file("image_dfl.dcm", download=False)).read_bytes()
    assert refusal(deflated).evidence == "its data set is deflated as a whole, which is not read"


def test_size_is_looked_at_before_any_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom(RAMP)
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", None)
    error = refusal(data, 5)
    assert (error.problem, error.evidence) == (BOMB, "its header promises 3×2 pixels, more than 5")


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_a_compressed_frame_that_is_larger_than_the_file_says_is_refused(kind: str) -> None:
    """Pillow would decode all of the frame, whatever the file says of its size."""
    from pydicom.encaps import encapsulate

    frame = io.BytesIO()
    Image.new("L", (900, 800)).save(frame, kind)
    data = pydicom.dcmread(io.BytesIO(dicom(np.zeros((2, 3), np.uint8), bits=8)))
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit if kind == "JPEG" else pydicom.uid.JPEG2000
    data.PixelData = encapsulate([frame.getvalue()])
    data["PixelData"].is_undefined_length = True
    assert refusal(saved(data), 700_000).evidence == "its header promises 900×800 pixels, more than 700,000"


def test_truncated_files_are_refused_wherever_they_end() -> None:
    data = dicom(np.random.default_rng(0).integers(0, 4096, (20, 30)).astype(np.uint16))
    for cut in range(1, len(data) - 140, len(data) // 60):
        assert refusal(data[:-cut]).problem in (UNREADABLE, NOT_AN_IMAGE), f"{cut} of {len(data)} bytes cut off"


def test_changed_bytes_end_in_words(recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for whole in (
        dicom(RAMP, WindowCenter=1, WindowWidth=9),
        compressed(np.tile(RAMP, (9, 9)), pydicom.uid.RLELossless),
    ):
        for _ in range(300):
            data = bytearray(whole)
            for place in generator.integers(132, len(data), 3):
                data[place] = generator.integers(256)
            with suppress(BadImageError):
                assert decode(bytes(data), MAX_PIXELS).pixels.shape[2] in (1, 3)
    assert not recwarn.list and capfd.readouterr().err == ""


# Names, and the extra


def test_dicom_files_are_fetched_whatever_their_name(tmp_path: Path) -> None:
    data = dicom(RAMP)
    files = {
        f"{label}/{number}{kind}": data
        for label in "ab"
        for number, kind in enumerate([".dcm", ".DICOM", "", ".1.2.840"])
    }
    assert len(labels(tmp_path, files)) == 4, "four names in two classes"


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)


WITHOUT = r"`pip install -e \.\[dicom\]`"


def test_without_the_extra_dicom_files_are_left_out_by_name(tmp_path: Path, without_extra: None) -> None:
    files = {f"{label}/{number}.dcm": b"x" for label in "ab" for number in range(9)}
    with pytest.raises(DataError, match=rf"none is left of 'a', 'b':\n  18 \.dcm: a \.dcm file, which needs {WITHOUT}"):
        labels(tmp_path, files)


def test_without_the_extra_dicom_files_of_other_names_are_left_out_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{label}/IM{number}": dicom(RAMP) for label in "ab" for number in range(9)} | {
        "a/9.png": b"",
        "b/9.png": b"",
    }
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=rf"(?s)18 of 20 would be:\n  18 without ending: its content needs {WITHOUT}"):
        labels(tmp_path, files)


def test_without_the_extra_preparing_stops_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"{'ab'[place % 2]}/{place:02d}.dcm", "ab"[place % 2], dicom(RAMP)) for place in range(20)]
    folder = write_packed(tmp_path / "packed", rows)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=rf"some need the extra dicom\. Run {WITHOUT}\."):
        made(folder, tmp_path / "out", channels=1)
