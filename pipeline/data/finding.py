"""Which layout files have: found by looking at their names, and into those that could be a table."""

import csv
import io
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipeline.config.errors import DataError
from pipeline.data.trees import Entry, Skipped, Tree

IMAGES = frozenset("jpg jpeg jpe jfif png webp gif bmp dib tif tiff avif jp2 j2k ppm pgm pbm pnm".split())
TABLES = ("csv", "tsv", "jsonl", "parquet")
OTHERS = frozenset("txt md rst json yaml yml xml html htm pdf log py ipynb mat h5 hdf5 npz npy zip tar gz rar 7z db ini doc docx "
                   "xls xlsx pkl pickle pt pth mp4 avi mov".split()) | frozenset(TABLES)  # fmt: skip
"""Endings of files that nobody takes for an image."""

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
"""Names of folders and values of columns, in lower case, and what they are called here."""

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img", "filepath"),
    "label": ("label", "class", "category", "target", "label_name", "class_name"),
    "split": ("split", "subset", "partition", "set"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id"),
}
"""What columns are called where `data.columns` says nothing."""

CIFAR_TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
CIFAR_TEST = "test_batch.bin"

MAX_TABLE_BYTES = 1 << 30


@dataclass(frozen=True)
class Row:
    """An image file, its label, and the split and the group that it is in, as far as the source tells."""

    entry: Entry
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Found:
    """What files are.

    Attributes:
        layout: `folders`, `splits`, `table`, `parquet`, `idx`, `cifar` or `arrays`.
        title: For people, such as "image folder with 4 classes".
        rows: The images, where they are files of their own.
        skipped: Files that are no part of it.
        parts: Where they are not: the files of each split, as `pipeline.data.layouts` takes them.
        columns: Of Parquet files with images: what the columns are called.
        classes: Names, in the order of the labels, where the files tell.
    """

    layout: str
    title: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)
    classes: list[str] | None = None


def find(tree: Tree, layout: str | None, table: str | None, columns: Mapping[str, str]) -> Found:
    """What the files of `tree` are.

    Args:
        tree: The source.
        layout: `data.layout`: the one to take; None: the only one that fits.
        table: `data.table`: the file that names the images; None: the only one that does.
        columns: `data.columns`: what its columns are called, as far as they differ from `COLUMNS`.

    Raises:
        DataError: No layout fits, or several do.
    """
    entries = tree.listing.entries
    candidates: dict[str, Callable[[], Found | None]] = {
        "table": lambda: _table(tree, table, columns),
        "parquet": lambda: _parquet(tree, columns),
        "idx": lambda: _idx(entries),
        "cifar": lambda: _cifar(entries),
        "arrays": lambda: _arrays(entries),
        "splits": lambda: _splits(entries),
        "folders": lambda: _folders(entries),
    }
    if layout is not None:
        found = candidates[layout]()
        if found is None:
            raise DataError(
                f"data.layout={layout} must fit the files of data.source; they are {_shown(entries)}. Set data.layout=null to "
                "have it found."
            )
        return found
    fitting = [found for candidate in candidates.values() if (found := candidate()) is not None]
    if not fitting:
        raise DataError(
            "data.source must hold images in folders named by class, in train/val/test folders of these, or beside a table "
            f"that names each file and its label; or Parquet, IDX, CIFAR or NumPy files. Found {_shown(entries)}."
        )
    if len(fitting) > 1:
        options = "; ".join(f"data.layout={found.layout} ({found.title})" for found in fitting)
        raise DataError(f"data.source can be read in more than one way. Choose one: {options}.")
    return fitting[0]


def _shown(entries: Sequence[Entry]) -> str:
    names = ", ".join(entry.path for entry in entries[:5])
    return f"{len(entries):,} files: {names}{', …' if len(entries) > 5 else ''}" if entries else "no file"


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower().lstrip(".")


def _may_be_image(path: str) -> bool:
    """By its name; what is within a class's folder and has no known ending is left to the decoder."""
    return _ending(path) not in OTHERS


def _unwrapped(paths: Sequence[str], depth: int) -> str:
    """The folder, with its slash, around all the `paths`, as long as `depth` more levels are below it."""
    wrapper = ""
    while paths and all(path.count("/") >= wrapper.count("/") + depth + 1 for path in paths):
        first = paths[0][len(wrapper) :].split("/")[0]
        if first.lower() in SPLITS or not all(path.startswith(f"{wrapper}{first}/") for path in paths):
            break
        wrapper += f"{first}/"
    return wrapper


def _folders(entries: Sequence[Entry]) -> Found | None:
    if not _has_image_names(entries):
        return None
    rows, skipped = [], []
    wrapper = _unwrapped([entry.path for entry in entries if _may_be_image(entry.path)], 1)
    for entry in entries:
        parts = entry.path.removeprefix(wrapper).split("/")
        if not _may_be_image(entry.path):
            skipped.append(Skipped(entry.path, "not_an_image", f"by its name, a .{_ending(entry.path)} file"))
        elif len(parts) < 2 or not entry.path.startswith(wrapper):
            skipped.append(Skipped(entry.path, "unlisted", "it lies beside the folders of the classes"))
        else:
            rows.append(Row(entry, _name(parts[0])))
    names = {row.label for row in rows}
    if len(names) < 2 or {name.lower() for name in names} <= SPLITS.keys():
        return None
    return Found("folders", f"image folder with {_counted(rows)}, no test split", rows, skipped)


def _splits(entries: Sequence[Entry]) -> Found | None:
    if not _has_image_names(entries):
        return None
    images = [entry for entry in entries if _may_be_image(entry.path)]
    wrapper = _unwrapped([entry.path for entry in images], 2)
    rows, skipped = [], []
    for entry in entries:
        parts = entry.path.removeprefix(wrapper).split("/")
        split = SPLITS.get(parts[0].lower())
        if not _may_be_image(entry.path):
            skipped.append(Skipped(entry.path, "not_an_image", f"by its name, a .{_ending(entry.path)} file"))
        elif split is None or len(parts) < 3:
            skipped.append(Skipped(entry.path, "unlisted", "it lies in no class of train, val or test"))
        else:
            rows.append(Row(entry, _name(parts[1]), split))
    if not rows or len({row.label for row in rows}) < 2:
        return None
    counts = Counter(row.split for row in rows)
    if "train" not in counts:
        raise DataError(f"data.source must hold a train folder beside {', '.join(sorted(counts))}; it has none.")
    sizes = ", ".join(f"{name} {counts[name]:,}" for name in ("train", "val", "test") if name in counts)
    return Found("splits", f"image folder with splits, {_counted(rows)} ({sizes})", rows, skipped)


def _has_image_names(entries: Sequence[Entry]) -> bool:
    return any(_ending(entry.path) in IMAGES for entry in entries)


def _name(folder: str) -> str:
    return unicodedata.normalize("NFC", folder).strip()


def _counted(rows: Sequence[Row]) -> str:
    return f"{len({row.label for row in rows}):,} classes, {len(rows):,} images"


def _table(tree: Tree, chosen: str | None, columns: Mapping[str, str]) -> Found | None:
    by_path = {entry.path: entry for entry in tree.listing.entries}
    if not _has_image_names(tree.listing.entries):
        return None
    tables = {}
    for entry in tree.listing.entries:
        if _ending(entry.path) in TABLES and chosen in (None, entry.path) and entry.size <= MAX_TABLE_BYTES:
            lines = _lines(tree, entry)
            names = _columns(list(lines[0]) if lines else [], columns)
            if names["path"] and names["label"]:
                tables[entry.path] = (lines, names)
    if chosen is not None and not tables:
        wanted = {key: columns.get(key) or " or ".join(COLUMNS[key]) for key in ("path", "label")}
        raise DataError(
            f"data.table must be a CSV, TSV, JSON Lines or Parquet file of the source with a column {wanted['path']} and a column "
            f"{wanted['label']}; {chosen} is not. Name its columns with data.columns."
        )
    matched = {}
    for path, (lines, names) in tables.items():
        rows, skipped = _listed(path, lines, names, by_path)
        if rows:
            matched[path] = (rows, skipped)
    if not matched:
        return None
    if len(matched) > 1:
        raise DataError(f"data.table must name one of the tables that list images: {', '.join(sorted(matched))}.")
    [(path, (rows, skipped))] = matched.items()
    if len({row.label for row in rows}) < 2:
        raise DataError(f"{path} must list at least two classes; its images are all of {rows[0].label!r}.")
    counts = Counter(row.split for row in rows if row.split)
    splits = f" ({', '.join(f'{name} {number:,}' for name, number in sorted(counts.items()))})" if counts else ""
    return Found("table", f"images listed in {path}, {_counted(rows)}{splits or ', no test split'}", rows, skipped)


def _listed(
    table: str, lines: Sequence[Mapping[str, Any]], names: Mapping[str, str | None], by_path: Mapping[str, Entry]
) -> tuple[list[Row], list[Skipped]]:
    """The images that a table lists, as far as they are there; and the files and lines that have no partner."""
    home = table.rpartition("/")[0]
    rows: dict[str, Row] = {}
    skipped = []
    for number, line in enumerate(lines, start=2):
        written = str(line.get(names["path"] or "") or "").strip().replace("\\", "/").removeprefix("./")
        place = next((path for path in (f"{home}/{written}".lstrip("/"), written) if path in by_path), None)
        label = line.get(names["label"] or "")
        if place is None:
            skipped.append(Skipped(written or f"{table}, line {number}", "missing", f"{table} lists it; there is no such file"))
        elif label is None or not str(label).strip():
            skipped.append(Skipped(place, "unlabelled", f"line {number} of {table} gives it no label"))
        elif place in rows and rows[place].label != _name(str(label)):
            raise DataError(f"{table} must give each image one label; {place} has {rows[place].label!r} and {label!r}.")
        else:
            split = str(line.get(names["split"] or "") or "").strip().lower()
            if split and split not in SPLITS:
                raise DataError(f"{table} must have train, val or test as its splits; line {number} has {split!r}.")
            group = str(line.get(names["group"] or "") or "").strip()
            rows[place] = Row(by_path[place], _name(str(label)), SPLITS.get(split, ""), group)
    for path in by_path:
        if path not in rows and path != table and _may_be_image(path):
            skipped.append(Skipped(path, "unlisted", f"{table} does not list it"))
    return list(rows.values()), skipped


def _lines(tree: Tree, entry: Entry) -> list[dict[str, Any]]:
    """The rows of a table; none where the file cannot be read as one."""
    try:
        if _ending(entry.path) == "parquet":
            return _parquet_lines(tree, entry)
        with tree.open(entry) as file:
            text = file.read(MAX_TABLE_BYTES).decode("utf-8-sig")
        if _ending(entry.path) == "jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return list(csv.DictReader(io.StringIO(text), delimiter="\t" if _ending(entry.path) == "tsv" else ","))
    except (UnicodeDecodeError, ValueError, csv.Error, OSError):
        return []


def _parquet_lines(tree: Tree, entry: Entry) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    with tree.open(entry) as file:
        table = pq.ParquetFile(file)
        if _image_column(table.schema_arrow, {}) is not None:
            return []
        lines: list[dict[str, Any]] = table.read().to_pylist()
    return lines


def _columns(there: Sequence[str], given: Mapping[str, str]) -> dict[str, str | None]:
    """For each of `COLUMNS` the column that it is, or None."""
    lower = {name.lower().strip(): name for name in there if isinstance(name, str)}
    found: dict[str, str | None] = {}
    for key, names in COLUMNS.items():
        if key in given:
            found[key] = given[key] if given[key] in there else None
        else:
            found[key] = next((lower[name] for name in names if name in lower), None)
    return found


def _parquet(tree: Tree, columns: Mapping[str, str]) -> Found | None:
    """Parquet files with encoded images, as the Hugging Face hub stores them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts: dict[str, Any] = {}
    names: dict[str, str | None] = {}
    classes: list[str] | None = None
    number = 0
    for entry in tree.listing.entries:
        if _ending(entry.path) != "parquet":
            continue
        try:
            with tree.open(entry) as file:
                table = pq.ParquetFile(file)
                schema, num_rows = table.schema_arrow, table.metadata.num_rows
        except (pa.ArrowInvalid, OSError):
            continue
        image = _image_column(schema, columns)
        if image is None:
            continue
        others = _columns([name for name in schema.names if name != image], {k: v for k, v in columns.items() if k != "image"})
        if others["label"] is None:
            raise DataError(
                f"{entry.path} must have a column with labels; it has {', '.join(schema.names)}. Name it with "
                "data.columns.label."
            )
        names = {**others, "image": image}
        classes = classes or _class_names(schema, others["label"])
        first = PurePosixPath(entry.path).stem.replace("_", "-").split("-")[0].lower()
        parts[entry.path] = {"split": SPLITS.get(first, "")}
        number += num_rows
    if not parts:
        return None
    return Found("parquet", f"{len(parts):,} Parquet files with {number:,} images", parts=parts, columns=names, classes=classes)


def _image_column(schema: Any, columns: Mapping[str, str]) -> str | None:
    import pyarrow as pa

    for field_ in schema:
        is_struct = pa.types.is_struct(field_.type) and "bytes" in [child.name for child in field_.type]
        is_binary = pa.types.is_binary(field_.type) or pa.types.is_large_binary(field_.type)
        if (is_struct or is_binary) and columns.get("image", field_.name) == field_.name:
            name: str = field_.name
            return name
    return None


def _class_names(schema: Any, label: str | None) -> list[str] | None:
    """The names that the Hugging Face hub writes beside a column of numbers."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _idx(entries: Sequence[Entry]) -> Found | None:
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in entries:
        name = PurePosixPath(entry.path).name.lower()
        for kind, mark in (("images", "idx3"), ("labels", "idx1")):
            if mark in name:
                pairs["test" if name.startswith(("t10k", "test")) else "train"][kind] = entry.path
    parts = {split: pairs[split] for split in ("train", "test") if len(pairs.get(split, {})) == 2}
    if "train" not in parts:
        return None
    return Found("idx", f"IDX files, {' and '.join(parts)}", parts=parts)


def _cifar(entries: Sequence[Entry]) -> Found | None:
    by_name = {PurePosixPath(entry.path).name: entry.path for entry in entries}
    train = [by_name[name] for name in CIFAR_TRAIN if name in by_name]
    if not train:
        return None
    parts: dict[str, Any] = {"train": {"files": train}}
    if CIFAR_TEST in by_name:
        parts["test"] = {"files": [by_name[CIFAR_TEST]]}
    return Found("cifar", f"CIFAR-10 binary files, {' and '.join(parts)}", parts=parts)


def _arrays(entries: Sequence[Entry]) -> Found | None:
    archives = [entry.path for entry in entries if _ending(entry.path) == "npz"]
    if len(archives) == 1:
        return Found("arrays", f"NumPy archive {archives[0]}", parts={"npz": archives[0]})
    by_name = {PurePosixPath(entry.path).name: entry.path for entry in entries}
    parts = {}
    for split, names in array_names():
        images, labels = (by_name.get(f"{name}.npy") for name in names)
        if images and labels and split not in parts:
            parts[split] = {"images": images, "labels": labels}
    return Found("arrays", f"NumPy arrays, {' and '.join(parts)}", parts=parts) if "train" in parts else None


def array_names() -> Iterator[tuple[str, tuple[str, str]]]:
    """The pairs of names that arrays of images and of labels go by, with their split."""
    yield "train", ("images", "labels")
    for split in ("train", "val", "test"):
        yield split, (f"x_{split}", f"y_{split}")
        yield split, (f"X_{split}", f"y_{split}")
        yield split, (f"{split}_images", f"{split}_labels")
