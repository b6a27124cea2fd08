"""Layout of images beside a table that names each file and its label."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.artefacts.source import SPLIT_NAMES
from pipeline.errors import DataError
from pipeline.source import layout
from pipeline.source.files import DamagedError, Entry, Skipped, Tree
from pipeline.source.label_columns import Find, LabelColumns, check_one_label, find_columns, settled
from pipeline.source.layout import LabelledFile, Layout, UnfitError, class_name, extension, may_be_image
from pipeline.source.tables import FORMATS, read_table


@dataclass(frozen=True)
class TableKeys:
    """The keys of `data` that concern tables."""

    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    classes: Sequence[str] = ()
    drop_unlabelled: bool = False


def listed_in_table(tree: Tree, keys: TableKeys, by_folder: Mapping[str, LabelledFile]) -> Layout | None:
    """The images that a table lists with labels; None where no table lists most of the images, or the folders say the same.

    `by_folder` holds the images by path, where folders tell their classes.

    Raises:
        DataError: The table that the user named cannot be used, or one that lists most images does not tell their labels.
    """
    entries = tree.listing.entries
    if not layout.has_image_names(entries):
        return None
    files = _Files(entries, tree.root)
    layouts: dict[str, Layout] = {}
    problem = None
    for entry in entries:
        if extension(entry.path) not in FORMATS or keys.table not in (None, entry.path):
            continue
        try:
            found = _read(tree, entry, keys, files, by_folder)
        except UnfitError as error:
            problem = problem or error
            continue
        if found is not None:
            layouts[entry.path] = found
    if len(layouts) > 1:
        raise DataError(f"data.table must name one of the tables that list images: {', '.join(sorted(layouts))}.")
    if not layouts and problem is not None:
        raise problem
    if not layouts and keys.table is not None:
        raise DataError(
            f"data.table must be a table of the source that names images and their labels ({', '.join(FORMATS)}); "
            f"{keys.table} is not."
        )
    return next(iter(layouts.values()), None)


def _read(
    tree: Tree, entry: Entry, keys: TableKeys, files: "_Files", by_folder: Mapping[str, LabelledFile]
) -> Layout | None:
    try:
        table = read_table(tree, entry)
    except DamagedError as error:
        if keys.table is None and extension(entry.path) == "txt":
            return None  # a text for people
        raise DataError(
            f"{entry.path} must be readable as a table; it is not: {str(error).rstrip('.')}. It may hold the labels: mend it, "
            "move it out of data.source, or set data.layout, such as data.layout=folders."
        ) from error
    find = files.finder(entry.path)
    columns = find_columns(table, find, files.num_images, keys.columns, by_folder, keys.table is not None)
    if columns is None:
        return None
    images, skipped = _listed(table.path, columns, files, by_folder, keys)
    if len({image.label for image in images}) < 2:
        raise UnfitError(f"{table.path} must list at least two classes; its images are all of {images[0].label!r}.")
    counts = Counter(image.split for image in images if image.split)
    splits = f" ({', '.join(f'{name} {number:,}' for name, number in sorted(counts.items()))})" if counts else ""
    title = f"images listed in {table.path} ({columns}), {layout.counted(images)}{splits or ', no test split'}"
    return Layout("table", title, images, skipped, folders_tell=columns.folders_tell)


def _listed(
    name: str, columns: LabelColumns, files: "_Files", by_folder: Mapping[str, LabelledFile], keys: TableKeys
) -> tuple[list[LabelledFile], list[Skipped]]:
    """The images that the table `name` lists; and the lines without a file, and files without a line."""
    images: dict[str, LabelledFile] = {}
    skipped: dict[str, Skipped] = {}
    unlabelled: dict[str, int] = {}
    labels = settled([columns.label(row) for row in columns.rows], keys.classes)
    for row, number, path, text in zip(columns.rows, columns.lines, columns.files, labels, strict=True):
        if path is None:
            missing = columns.text(row, "path") or f"{name}, line {number}"
            skipped[missing] = Skipped(missing, "missing", f"{name} lists it; there is no such file")
            continue
        label = by_folder[path].label if columns.folders_tell and path in by_folder else class_name(text)
        if not label:
            unlabelled.setdefault(path, number)
            continue
        split = columns.split(row)
        if split and split not in SPLIT_NAMES:
            raise DataError(f"{name} must have train, val or test as its splits; line {number} has {split!r}.")
        image = LabelledFile(files.by_path[path], label, SPLIT_NAMES.get(split, ""), columns.text(row, "group"))
        first = images.setdefault(path, image)
        if first.label != label:
            raise DataError(f"{name} must give each image one label; {path} has {first.label!r} and {label!r}.")
        if first != image:
            raise DataError(
                f"{name} must give each image one split and group; line {number} gives {path} others than before."
            )
    check_one_label(name, {image.label for image in images.values()})
    unlabelled = {path: number for path, number in unlabelled.items() if path not in images}
    if unlabelled and not keys.drop_unlabelled:
        lines = ", ".join(f"{number:,}" for number in sorted(unlabelled.values())[:5])
        raise DataError(
            f"{name} must give each image a label; got {len(unlabelled):,} without one (in line {lines}"
            f"{', …' if len(unlabelled) > 5 else ''}). Set data.drop_unlabelled=true to leave these images out; if NA, NaN or "
            "null is a class, name it in data.classes."
        )
    for path, number in unlabelled.items():
        skipped[path] = Skipped(path, "unlabelled", f"line {number} of {name} gives it no label")
    for path in files.by_path:
        if path in images or path in skipped or path == name or not may_be_image(path):
            continue
        if columns.folders_tell and path in by_folder:
            images[path] = by_folder[path]
        else:
            skipped[path] = Skipped(path, "unlisted", f"{name} does not list it")
    in_order = [images[path] for path in files.by_path if path in images]  # as the source is best read
    return in_order, list(skipped.values())


class _Files:
    """Finds the files of a source by the names that a table gives them."""

    def __init__(self, entries: Iterable[Entry], root: str) -> None:
        self.by_path = {entry.path: entry for entry in entries}
        self.num_images = sum(extension(path) in layout.PICTURES for path in self.by_path)
        self._roots = tuple(f"{folder}/" for folder in {root, os.path.realpath(root)} if root)

    def finder(self, table: str) -> Find:
        """A function that finds the path of the file that a cell of `table` names.

        The name is relative to the folder of the table or to the source, or a path on this machine; in any case, and with any
        extension of an image or none. Where only one file of the source has it, it may be a name alone, or a path of another
        machine.
        """
        folder = table.rpartition("/")[0]
        return lambda written: self._find(written.replace("\\", "/").removeprefix("./"), folder)

    def _find(self, written: str, folder: str) -> str | None:
        if not written:
            return None
        root = next((root for root in self._roots if written.startswith(root)), "")
        written = written.removeprefix(root)
        for path in (f"{folder}/{written}".lstrip("/"), written):
            if path in self.by_path:
                return path
        parts = written.lower().split("/")
        ends = [written.lower()]
        if parts[0] == "" or parts[0].endswith(":"):  # a path of another machine: its longest end that is one file here
            ends = ["/".join(parts[start:]) for start in range(1, len(parts))]
        for end in ends:
            paths = [f"/{folder.lower()}/{end}".replace("//", "/"), f"/{end}"] if "/" in end else [end]
            for path in (*paths, *map(_without_extension, paths)):
                if (file := self._by_short_name.get(path)) is not None:
                    return file
        return None

    @cached_property
    def _by_short_name(self) -> dict[str, str | None]:
        """Files by "/" and their path with and without its extension, and by their name likewise; lower case; None: several."""
        files: dict[str, str | None] = {}
        for path in self.by_path:
            if may_be_image(path):
                lower = path.lower()
                name = lower.rpartition("/")[2]
                for short in {f"/{lower}", f"/{_without_extension(lower)}", name, _without_extension(name)}:
                    files[short] = None if short in files else path
        return files


def _without_extension(path: str) -> str:
    """
    >>> _without_extension("a/1.png"), _without_extension("a/IMG_1.5"), _without_extension("a.b/1")
    ('a/1', 'a/IMG_1.5', 'a.b/1')
    """
    kind = extension(path)
    return path[: -len(kind) - 1] if kind in layout.PICTURES else path
