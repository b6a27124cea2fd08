"""Renders the labels that look wrong, as a page and as a summary on the terminal."""

from dataclasses import dataclass

from rich.text import Text

from pipeline import terminal
from pipeline.evaluation.audited import Audited, Seen
from pipeline.evaluation.label_audit import Audit, Suspects
from pipeline.page import tiles
from pipeline.page.templates import fill

MOST_PICTURES = 200


@dataclass(frozen=True)
class Picture:
    """A suspect: its path, its given label, the class that it looks like with its probability, and a data URI."""

    path: str
    given: str
    likely: str
    confidence: float
    split: str
    source: str


def render(images: Audited, seen: Seen, found: Audit, suspects: Suspects) -> str:
    """The page as one HTML file that needs no other file."""
    return fill(
        "audit.html", dataset=images.dataset.name, headline=suspects.headline(len(images.labels)), method=found.method(),
        pictures=_pictures(images, seen, suspects), num_suspects=len(suspects.images), pairs=_pairs(images, suspects),
    )  # fmt: skip


def print_summary(images: Audited, found: Audit, suspects: Suspects, most: int) -> None:
    """Print how many labels look wrong and the first of them."""
    console = terminal.console()
    print(f"{terminal.printable(images.dataset.name)}: {suspects.headline(len(images.labels))}, by {found.method()}")
    if not len(suspects.images):
        return
    table = terminal.table(texts=("path", "label", "looks like"), numbers=("wrong with",))
    names = images.dataset.classes
    for place in range(min(most, len(suspects.images))):
        texts = [
            images.paths[suspects.images[place]],
            names[suspects.labels[place]],
            names[suspects.likely[place]],
        ]
        table.add_row(*(Text(terminal.printable(text)) for text in texts), f"{suspects.confidence[place]:.2f}")
    console.print(table)


def _pairs(images: Audited, suspects: Suspects) -> list[tuple[str, str, int]]:
    """Given label, likely label and number of suspects, the commonest first."""
    counts: dict[tuple[str, str], int] = {}
    names = images.dataset.classes
    for old, new in zip(suspects.labels.tolist(), suspects.likely.tolist(), strict=True):
        counts[names[old], names[new]] = counts.get((names[old], names[new]), 0) + 1
    return [(old, new, number) for (old, new), number in sorted(counts.items(), key=lambda each: -each[1])]


def _pictures(images: Audited, seen: Seen, suspects: Suspects) -> list[Picture]:
    shown = suspects.images[:MOST_PICTURES].tolist()
    names = images.dataset.classes
    return [
        Picture(
            images.paths[image], names[suspects.labels[place]], names[suspects.likely[place]],
            float(suspects.confidence[place]), str(images.splits[image]), tiles.data_uri(tiles.photo(pixels)),
        )
        for place, (image, pixels) in enumerate(zip(shown, seen.pictures(images, shown), strict=True))
    ]  # fmt: skip
