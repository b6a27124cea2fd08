"""Tests class names in figures: any script, any length, and signs that Matplotlib would read as formulas."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.plotting import captions, figures
from pipeline.plotting.captions import as_written, caption, without_font
from pipeline.plotting.overview import overview

NAMES = ["猫と犬の写真" * 10, "Żółć " * 40, r"$\frac{", "🐱", "x" * 255, "a_b^c"]


def test_a_name_is_cut_by_the_width_of_its_letters() -> None:
    assert caption("猫" * 5, 10) == "猫" * 5 and caption("猫" * 5, 9) == "猫" * 4 + "…"
    assert caption("x" * 255, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("picture", ["confusion", "mistakes", "overview"])
def test_pictures_take_any_names_without_a_warning(picture: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)
    labels, guesses = np.arange(6), np.roll(np.arange(6), 1)
    if picture == "confusion":
        assert figures.confusion(np.ones((6, 6), dtype=np.int64), NAMES)
    elif picture == "mistakes":
        assert figures.mistakes(images, labels, guesses, np.full(6, 0.5, dtype=np.float32), NAMES)
    else:
        with as_written():
            overview(images, labels, NAMES, "$x").savefig(tmp_path / "overview.png")


def test_names_in_chinese_japanese_and_arabic_have_their_letters() -> None:
    assert without_font(["猫と犬", "學校", "قطة صغيرة", "חתול", "Żółć"]) == []


def test_letters_without_a_font_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "_family", lambda: ["DejaVu Sans"])
    assert without_font(["猫 cat", "犬猫"]) == ["犬", "猫"]
