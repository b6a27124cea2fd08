"""Renders the changes between two versions of the data, as a page and as a table on the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from pipeline import terminal
from pipeline.data.versions import Changes, Counts, Image, Pair, Version, pixels
from pipeline.page import tiles
from pipeline.page.templates import fill

NUM_PICTURES = 10
NUM_NAMES = 3
MOST_CLASSES = 40
MOST_CHARACTERS = 40
"""Largest width of a class name in the table on the terminal."""


@dataclass(frozen=True)
class Picture:
    """An image that changed, as a data URI; `change` names its label and its split, before and after where they differ."""

    name: str
    change: str
    source: str


@dataclass(frozen=True)
class Kind:
    """One kind of change, such as `added`; `pictures` shows the first of its `count` images."""

    name: str
    meaning: str
    count: int
    pictures: list[Picture]


def render(old: Version, new: Version, counts: Counts, changes: Changes) -> str:
    """The page as one HTML file that needs no other file."""
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
    """Print the classes whose numbers differ, and the number of images of each kind of change, with the first names."""
    console = terminal.console()
    console.print(Text(terminal.printable(f"{new.dataset}: images in {old.title} → images in {new.title}")))
    table = terminal.table(texts=("class",), numbers=(*counts.splits, "all"))
    table.columns[0].max_width = MOST_CHARACTERS
    changed = [(name, pairs) for name, pairs in counts.classes.items() if _differs(pairs)]
    for name, pairs in changed[:MOST_CLASSES]:
        table.add_row(Text(terminal.printable(name)), *map(_written, pairs))
    if len(changed) > MOST_CLASSES:
        table.add_row(f"… {len(changed) - MOST_CLASSES} more")
    table.add_row("all classes", *map(_written, counts.total))
    console.print(table)
    for kind, images in vars(changes).items():
        examples = "; ".join(f"{_name(image)}: {_change(image)}" for image in images[:NUM_NAMES])
        examples = f": {examples}{'; …' if len(images) > NUM_NAMES else ''}" if images else ""
        console.print(Text(terminal.printable(f"{kind} {len(images):,}{examples}")))


def _kind(name: str, meaning: str, version: Version, changed: Sequence[Image] | Sequence[tuple[Image, Image]]) -> Kind:
    """A kind of change, with pictures from `version`."""
    shown: list[Image | tuple[Image, Image]] = list(changed[:NUM_PICTURES])
    images = pixels(version, [image[1] if isinstance(image, tuple) else image for image in shown])
    pictures = [
        Picture(_name(image), _change(image), tiles.data_uri(tiles.image(array)))
        for image, array in zip(shown, images, strict=True)
    ]
    return Kind(name, meaning, len(changed), pictures)


def _name(image: Image | tuple[Image, Image]) -> str:
    return image[1].name if isinstance(image, tuple) else image.name


def _change(image: Image | tuple[Image, Image]) -> str:
    if isinstance(image, Image):
        return f"{image.label}, {image.split}"
    old, new = image
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
