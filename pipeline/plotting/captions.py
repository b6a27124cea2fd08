"""Writes class names into figures: cut to a width, and in any script."""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from rich.cells import cell_len, chop_cells

FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans",
    "PingFang SC", "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Noto Sans Devanagari", "Noto Sans Thai",
    "Arial Unicode MS", "IPAexGothic",
)  # fmt: skip
"""Fonts with the scripts that Matplotlib's own font lacks; it has Latin, Greek, Cyrillic, Arabic and Hebrew letters."""


def caption(name: str, columns: int) -> str:
    """Cut a name to a width in columns; a Chinese, Japanese or Korean letter takes two.

    >>> caption("a long name", 7), caption("長い名前", 5), caption("short", 5)
    ('a long…', '長い…', 'short')
    """
    return name if cell_len(name) <= columns else chop_cells(name, columns - 1)[0] + "…"


@contextmanager
def as_written() -> Iterator[None]:
    """Draw text as it is written: with any installed font that has its letters, and without formulas between dollar signs.

    A letter that no font has becomes a box, which `without_font` tells beforehand. Also works as a decorator.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False, "font.family": _family()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        yield


def without_font(names: Iterable[str]) -> list[str]:
    """The letters of `names` that no installed font has, sorted.

    >>> without_font(["cat", "Żółć", "قطة"])
    []
    """
    from matplotlib import font_manager

    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in _family()]
    letters = sorted({letter for name in names for letter in name if not letter.isspace()})
    return [letter for letter in letters if not any(font.get_char_index(ord(letter)) for font in fonts)]


@cache
def _family() -> list[str]:
    """Names of the installed fonts to draw with; the one of the extra `fonts` is made known to Matplotlib first."""
    from matplotlib import font_manager

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # else it tells of weights that a font lacks
    package = find_spec("matplotlib_fontja")  # found, not imported: it would change all of Matplotlib's settings
    for file in Path(package.origin or "").parent.glob("fonts/*.ttf") if package else ():
        font_manager.fontManager.addfont(file)
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in FONTS if name in installed)]
