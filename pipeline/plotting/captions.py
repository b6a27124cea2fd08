"""Writes class names into figures: cut to a width, and in any script."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.cells import cell_len, chop_cells

FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans",
    "PingFang SC", "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Noto Sans Devanagari", "Noto Sans Thai",
    "Arial Unicode MS",
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

    A letter that no font has becomes a box, without a warning. Also works as a decorator.
    """
    import matplotlib
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    family = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        yield
