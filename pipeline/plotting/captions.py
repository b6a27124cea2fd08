"""Names of classes as they are written into pictures: short, and as they are, whatever letters they have."""

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans",
    "PingFang SC", "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Noto Sans Devanagari", "Noto Sans Thai",
    "Arial Unicode MS",
)  # fmt: skip
"""Those that have what Matplotlib's own font lacks; it has Latin, Greek, Cyrillic, Arabic and Hebrew letters."""


def caption(name: str, columns: int) -> str:
    """A name cut to so many columns, of which a Chinese, Japanese or Korean letter takes two.

    >>> caption("a long name", 7), caption("長い名前", 5), caption("short", 5)
    ('a long…', '長い…', 'short')
    """
    widths = [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name]
    if sum(widths) <= columns:
        return name
    number, left = 0, columns - 1
    while widths[number] <= left:
        left -= widths[number]
        number += 1
    return name[:number] + "…"


@contextmanager
def as_written() -> Iterator[None]:
    """Draw texts with the fonts of this machine that have their letters, and none as a formula for its dollar signs.

    A letter that no font has is drawn as a box, without a warning. It is a decorator too.
    """
    import matplotlib
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    family = ["DejaVu Sans", *(name for name in FONTS if name in there)]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        yield
