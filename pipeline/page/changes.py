"""What changed between two versions of the data, as a page and as a table on the terminal."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.data.versions import Changes, Counts, Image, Pair, Version, pixels
from pipeline.page import tiles
from pipeline.page.templates import fill

NUM_PICTURES = 10
NUM_NAMES = 3
MOST_CLASSES = 40


@dataclass(frozen=True)
class Picture:
    """An image with what is said of it."""

    name: str
    said: str
    source: str


@dataclass(frozen=True)
class Kind:
    """One kind of change.

    Attributes:
        name: Such as `added`.
        meaning: A sentence.
        count: Images.
        pictures: Of the first ones.
    """

    name: str
    meaning: str
    count: int
    pictures: list[Picture]


def render(old: Version, new: Version, counts: Counts, changes: Changes) -> str:
    """The whole page as one HTML file that needs nothing else."""
    rows = [(name, pairs) for name, pairs in counts.classes.items() if _differs(pairs)]
    return fill(
        "changes.html",
        old=old,
        new=new,
        splits=counts.splits,
        rows=[(name, list(map(_written, pairs))) for name, pairs in rows[:MOST_CLASSES]],
        total=list(map(_written, counts.total)),
        num_changed=len(rows),
        num_classes=len(counts.classes),
        kinds=[
            _kind("added", f"Only in {new.title}.", new, changes.added),
            _kind("removed", f"Only in {old.title}.", old, changes.removed),
            _kind("relabelled", "The same file, byte for byte, with another label.", new, changes.relabelled),
            _kind("moved", "The same file, byte for byte, in another split.", new, changes.moved),
        ],
    )


def print_table(old: Version, new: Version, counts: Counts, changes: Changes) -> None:
    """Print the classes whose numbers differ, and how many images changed in which way, with the first names."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(Text(_printable(f"{new.dataset}: images in {old.title} → images in {new.title}")))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", max_width=40, overflow="ellipsis", no_wrap=True)
    for split in (*counts.splits, "all"):
        table.add_column(split, justify="right", no_wrap=True)
    changed = [(name, pairs) for name, pairs in counts.classes.items() if _differs(pairs)]
    for name, pairs in changed[:MOST_CLASSES]:
        table.add_row(Text(_printable(name)), *map(_written, pairs))
    if len(changed) > MOST_CLASSES:
        table.add_row(f"… {len(changed) - MOST_CLASSES} more")
    table.add_row("all classes", *map(_written, counts.total))
    console.print(table)
    for kind, images in vars(changes).items():
        told = "; ".join(f"{_name(each)}: {_said(each)}" for each in images[:NUM_NAMES])
        told = f": {told}{'; …' if len(images) > NUM_NAMES else ''}" if images else ""
        console.print(Text(_printable(f"{kind} {len(images):,}{told}")))


def _kind(name: str, meaning: str, version: Version, found: Sequence[Image] | Sequence[tuple[Image, Image]]) -> Kind:
    """With pictures from `version`, the one that has them."""
    shown: list[Any] = list(found[:NUM_PICTURES])
    images = pixels(version, [each[1] if isinstance(each, tuple) else each for each in shown])
    pictures = [
        Picture(_name(each), _said(each), tiles.data_uri(tiles.image(image)))
        for each, image in zip(shown, images, strict=True)
    ]
    return Kind(name, meaning, len(found), pictures)


def _name(change: Image | tuple[Image, Image]) -> str:
    return change[1].name if isinstance(change, tuple) else change.name


def _said(change: Image | tuple[Image, Image]) -> str:
    if isinstance(change, Image):
        return f"{change.label}, {change.split}"
    old, new = change
    return ", ".join(before if before == after else f"{before} → {after}"
                     for before, after in ((old.label, new.label), (old.split, new.split)))  # fmt: skip


def _differs(pairs: Sequence[Pair]) -> bool:
    return any(before != after for before, after in pairs)


def _written(pair: Pair) -> str:
    """
    >>> _written((1200, 1200)), _written((1200, 1234))
    ('1,200', '1,200 → 1,234')
    """
    before, after = pair
    return f"{after:,}" if before == after else f"{before:,} → {after:,}"


def _printable(text: str) -> str:
    """A name of a file may hold what a terminal obeys.

    >>> _printable("a" + chr(27) + "[2Jb")
    'a�[2Jb'
    """
    return "".join(letter if letter.isprintable() else "�" for letter in text)
