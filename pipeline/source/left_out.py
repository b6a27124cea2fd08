"""Tells what is left out of a source, and stops where that is more than the user expects."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from pipeline.artefacts.source import LEFT_OUT
from pipeline.errors import DataError
from pipeline.image_formats import is_installed
from pipeline.source.files import LEADS_OUT, Skipped, Tree
from pipeline.source.layout import PICTURES, UNREAD, WITH_EXTRA, LabelledFile, extension

MIN_FILES = 5
"""Number of pictures below which leaving them out stops nothing."""

_ALLOWED = ("damaged", "unlabelled")
"""Problems that the user is asked about with other keys, `prepare.on_issue` and `data.drop_unlabelled`."""


def check_links(tree: Tree, most: float) -> None:
    """Refuse a source with a link to a folder outside of it, or with more links to files outside than the share `most`.

    Raises:
        DataError: It has such links.
    """
    links = [file for file in tree.listing.skipped if file.evidence.startswith(LEADS_OUT)]
    folders = [file for file in links if file.problem == "linked_folder"]
    if folders or len(links) > most * (len(links) + len(tree.listing.entries)):
        first = (folders or links)[0]
        lead = "1 link leads" if len(links) == 1 else f"{len(links):,} links lead"
        raise DataError(
            f"data.source must hold its images itself; {lead} out of it, such as {first.path}: {first.evidence}. Set "
            "data.follow_links=true to follow them."
        )


def without_unread(images: Sequence[LabelledFile]) -> tuple[list[LabelledFile], list[Skipped]]:
    """The images in formats that are read, and the others."""
    read, unread = [], []
    for image in images:
        reason = _unread(extension(image.entry.path))
        if reason is None:
            read.append(image)
        else:
            unread.append(Skipped(image.entry.path, "unread_format", reason))
    return read, unread


def _unread(kind: str) -> str | None:
    """Why pictures with a name extension are not read; None for those that are."""
    extra = WITH_EXTRA.get(kind)
    if extra is None:
        return UNREAD.get(kind)
    return None if is_installed(extra) else f"a .{kind} file, which needs `pip install -e .[{extra}]`"


def check_left_out(
    images: Sequence[LabelledFile], classes: Iterable[str], skipped: Sequence[Skipped], most: float
) -> None:
    """Refuse a source of which a class, or more pictures than the share `most` and than a few, would be left out.

    Args:
        images: Images that are kept.
        classes: Classes that the source has.
        skipped: Files that are left out.
        most: Value of `data.max_left_out`.

    Raises:
        DataError: Too much is left out.
    """
    lost = sorted(set(classes) - {image.label for image in images})
    pictures = [
        file
        for file in skipped
        if file.problem == "unread_format" or (file.problem not in _ALLOWED and extension(file.path) in PICTURES)
    ]
    share = len(pictures) / max(1, len(pictures) + len(images))
    if lost:
        raise DataError(
            f"each class must keep images; none is left of {', '.join(map(repr, lost[:5]))}{', …' if len(lost) > 5 else ''}:\n"
            f"{summary(skipped)}"
        )
    if len(pictures) >= MIN_FILES and share > most:
        raise DataError(
            f"at most {most:.2%} of the pictures may be left out (data.max_left_out={most:g}); {len(pictures):,} of "
            f"{len(pictures) + len(images):,} would be:\n{summary(pictures)}\nMend the source, or set "
            f"data.max_left_out={math.ceil(share * 100) / 100:g} if that is meant."
        )


def summary(skipped: Sequence[Skipped]) -> str:
    """A line for each reason and name ending: how many files, why, and the first of them.

    >>> print(summary([Skipped("a/notes.txt", "not_an_image", ""), Skipped("b.png", "missing", "it is not there")]))
      1 .png: it is not there (b.png)
      1 .txt: something else than an image (a/notes.txt)
    """
    kinds = Counter((file.problem, extension(file.path)) for file in skipped)
    lines = []
    for (problem, kind), number in sorted(kinds.items(), key=lambda item: (-item[1], item[0][1])):
        alike = [file for file in skipped if (file.problem, extension(file.path)) == (problem, kind)]
        same = len({file.evidence for file in alike}) == 1 and alike[0].evidence and problem != "not_an_image"
        names = ", ".join(file.path for file in alike[:3]) + (", …" if number > 3 else "")
        lines.append(
            f"  {number:,} {f'.{kind}' if kind else 'without ending'}: "
            f"{alike[0].evidence if same else LEFT_OUT[problem]} ({names})"
        )
    return "\n".join(lines)
