"""Tests that figures show what was measured."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.plotting import figures, style
from tests.page_artefacts import rows

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
DARK_CARD = "#181e25"


def decode(png: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture[..., ::-1], np.uint8)


def rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in (rgb(first), rgb(second))]
    low, high = sorted(float(LUMINANCE @ colour) for colour in linear)
    return (high + 0.05) / (low + 0.05)


def num_pixels(picture: NDArray[np.uint8], colour: str) -> int:
    return int((np.abs(picture - 255 * rgb(colour)).max(axis=2) < 3).sum())


@pytest.mark.parametrize("colour", [style.TRAINING, style.VALIDATION, style.TRAIN_MODE])
@pytest.mark.parametrize("paper", ["#ffffff", DARK_CARD])
def test_curves_stand_out_on_light_and_dark(colour: str, paper: str) -> None:
    assert contrast(colour, paper) >= 3


def test_page_and_pictures_share_their_colours() -> None:
    css = (Path(style.__file__).parents[1] / "page" / "report.css").read_text()
    for name, colour in [("clean", style.TRAINING), ("val", style.VALIDATION), ("train", style.TRAIN_MODE)]:
        assert f"--{name}: {colour};" in css
    assert f"--card: {DARK_CARD};" in css


def test_curves_show_both_series_of_both_charts() -> None:
    picture = decode(figures.curves(rows(), best_epoch=4))
    half = picture.shape[1] // 2
    for side in (picture[:, :half], picture[:, half:]):
        assert num_pixels(side, style.TRAINING) > 100 and num_pixels(side, style.VALIDATION) > 100


def test_curves_move_the_mark_with_the_best_epoch() -> None:
    first, second = (decode(figures.curves(rows(), best_epoch=best)) for best in (2, 5))
    columns = [int((np.abs(picture - 255 * rgb(style.MUTED)).max(axis=2) < 60)[40:330, 60:600].sum(axis=0).argmax())
               for picture in (first, second)]  # fmt: skip
    assert columns[0] + 100 < columns[1]


def test_curves_of_a_single_epoch_show_points() -> None:
    picture = decode(figures.curves(rows(1), best_epoch=1))
    assert num_pixels(picture, style.TRAINING) > 20


def test_confusion_colours_the_diagonal_and_the_mistakes() -> None:
    right = decode(figures.confusion(np.array([[9, 0], [0, 9]]), ["a", "b"]))
    wrong = decode(figures.confusion(np.array([[0, 9], [9, 0]]), ["a", "b"]))
    blue, orange = (0.15 + 0.85 * rgb(colour) for colour in (style.TRAINING, style.VALIDATION))
    for picture, there, absent in [(right, blue, orange), (wrong, orange, blue)]:
        near = [int((np.abs(picture / 255 - colour).max(axis=2) < 0.02).sum()) for colour in (there, absent)]
        assert near[0] > 10_000 and near[1] == 0


def test_confusion_of_many_classes_stays_a_picture() -> None:
    picture = decode(figures.confusion(np.eye(100, dtype=np.int64), [f"class {index}" for index in range(100)]))
    assert max(picture.shape) < 2500


def test_of_many_classes_the_confusion_shows_those_with_the_lowest_recall() -> None:
    matrix = 10 * np.eye(200, dtype=np.int64)
    matrix[[5, 120]], matrix[[5, 120], 120] = 0, 10
    matrix[7] = 0
    shown = figures.hardest(matrix)
    assert len(shown) == 40 and 5 in shown and 7 not in shown and (np.diff(shown) > 0).all()
    assert figures.hardest(matrix, limit=200).tolist() == list(range(200))
    picture = decode(figures.confusion(matrix, [f"class {index}" for index in range(200)]))
    assert num_pixels(picture, style.INK) > 1000, "names and counts are written"


@pytest.mark.parametrize("channels", [1, 3])
def test_mistakes_show_the_images_in_order(channels: int) -> None:
    images = np.stack([np.full((4, 4, channels), value, np.uint8) for value in (40, 120)])
    label, guess, sure = np.array([0, 1]), np.array([1, 0]), np.array([0.9, 0.8], np.float32)
    picture = decode(figures.mistakes(images, label, guess, sure, ["a", "b" * 40]))
    middle = int(picture.shape[0] * 0.6)
    assert picture[middle, picture.shape[1] // 4].tolist() == [40] * 3
    assert picture[middle, 3 * picture.shape[1] // 4].tolist() == [120] * 3


def test_mistakes_say_when_there_are_none() -> None:
    nothing = np.empty(0, np.int64)
    picture = decode(
        figures.mistakes(np.empty((0, 4, 4, 1), np.uint8), nothing, nothing, nothing.astype(np.float32), [])
    )
    assert picture.min() < 100
