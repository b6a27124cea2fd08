"""Layouts of files that hold many images each: Parquet, IDX, CIFAR-10's binary batches and NumPy arrays."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.artefacts.source import SPLIT_NAMES, SPLITS, SourcePart
from pipeline.errors import DataError
from pipeline.source.files import READ_ERRORS, Entry, Tree, reason
from pipeline.source.layout import Layout, UnfitError, extension, match_columns

CIFAR_TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
CIFAR_TEST = "test_batch.bin"


def parquet(tree: Tree, columns: Mapping[str, str]) -> Layout | None:
    """Parquet files with encoded images, as the Hugging Face hub stores them."""
    parts: list[SourcePart] = []
    roles: dict[str, str | None] = {}
    classes: list[str] | None = None
    num_images = 0
    for entry in tree.listing.entries:
        if extension(entry.path) != "parquet":
            continue
        schema, num_rows = _schema_and_rows(tree, entry)
        image = image_column(schema, columns)
        if image is None:
            continue
        others = match_columns([name for name in schema.names if name != image], columns)
        if others["label"] is None:
            raise UnfitError(
                f"{entry.path} must have a column with labels; it has {', '.join(schema.names)}. Name it with "
                "data.columns.label."
            )
        roles_here = {**others, "image": image}
        if roles and roles_here != roles:
            names = ", ".join(str(name) for name in roles.values() if name)
            raise UnfitError(f"{entry.path} must have the columns of {parts[0].images[0]} ({names}); it has others.")
        roles = roles_here
        classes = classes or _class_names(schema, others["label"])
        parts.append(SourcePart(split=_split_of(entry.path), images=[entry.path]))
        num_images += num_rows
    if not parts:
        return None
    title = f"{len(parts):,} Parquet files with {num_images:,} images"
    return Layout("parquet", title, parts=parts, columns=roles, classes=classes)


def _schema_and_rows(tree: Tree, entry: Entry) -> tuple[Any, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with tree.open(entry) as file:
            table = pq.ParquetFile(file)
            return table.schema_arrow, table.metadata.num_rows
    except DataError:
        raise
    except (pa.ArrowException, *READ_ERRORS) as error:
        raise UnfitError(f"{entry.path} must be a whole Parquet file; it is damaged ({reason(error)}).") from error


def _split_of(path: str) -> str:
    """
    >>> _split_of("data/train-00000-of-00002.parquet"), _split_of("default/validation/0000.parquet"), _split_of("a.parquet")
    ('train', 'val', '')
    """
    words = (re.split(r"[-_.]", part.lower())[0] for part in reversed(path.split("/")))
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def image_column(schema: Any, columns: Mapping[str, str]) -> str | None:
    """The column with encoded images; `columns["image"]` names it where there are several."""
    import pyarrow as pa

    for field_ in schema:
        is_struct = pa.types.is_struct(field_.type) and "bytes" in [child.name for child in field_.type]
        is_binary = pa.types.is_binary(field_.type) or pa.types.is_large_binary(field_.type)
        if (is_struct or is_binary) and columns.get("image", field_.name) == field_.name:
            return field_.name
    return None


def _class_names(schema: Any, label: str | None) -> list[str] | None:
    """Names of the classes that the Hugging Face hub stores beside a column of numbers."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _idx_parts(files: Mapping[str, str]) -> list[SourcePart]:
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    for name, path in sorted(files.items()):  # a plain file before its gzipped copy, which is then ignored
        for kind, mark in (("images", "idx3"), ("labels", "idx1")):
            if mark in name.lower():
                split = "test" if re.search("t10k|test", name.lower()) else "train"
                first = pairs[split].setdefault(kind, path)
                if first not in (path, path.removesuffix(".gz")):
                    raise UnfitError(
                        f"data.source must hold one IDX file with the {kind} of {split}; it has {first} and {path}."
                    )
    parts = [
        SourcePart(split=split, images=[pairs[split]["images"]], labels=pairs[split]["labels"])
        for split in ("train", "test")
        if len(pairs[split]) == 2
    ]
    return parts if parts and parts[0].split == "train" else []


def _cifar_parts(files: Mapping[str, str]) -> list[SourcePart]:
    train = [files[name] for name in CIFAR_TRAIN if name in files]
    if not train:
        return []
    test = [SourcePart(split="test", images=[files[CIFAR_TEST]])] if CIFAR_TEST in files else []
    return [SourcePart(split="train", images=train), *test]


def arrays(entries: Sequence[Entry]) -> Layout | None:
    archives = [entry.path for entry in entries if extension(entry.path) == "npz"]
    if len(archives) > 1:
        raise UnfitError(
            f"data.source must hold one .npz file; it has {archives[0]} and {archives[1]}. Name one of them."
        )
    if archives:
        return Layout("arrays", f"NumPy archive {archives[0]}", archive=archives[0])
    return in_one_folder("arrays", entries)


def _array_parts(files: Mapping[str, str]) -> list[SourcePart]:
    usual = [("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_images", "{}_labels")]
    names = [("train", "images", "labels")]
    names += [(split, images.format(split), labels.format(split)) for split in SPLITS for images, labels in usual]
    parts: dict[str, SourcePart] = {}
    for split, images, labels in names:
        if f"{images}.npy" in files and f"{labels}.npy" in files:
            part = SourcePart(split=split, images=[files[f"{images}.npy"]], labels=files[f"{labels}.npy"])
            parts.setdefault(split, part)
    return list(parts.values()) if "train" in parts else []


NAMED: dict[str, tuple[str, Callable[[Mapping[str, str]], list[SourcePart]]]] = {
    "idx": ("IDX files", _idx_parts), "cifar": ("CIFAR-10 binary files", _cifar_parts),
    "arrays": ("NumPy arrays", _array_parts),
}  # fmt: skip
"""Layouts of files with usual names: the title, and the parts among the paths by name of one folder."""


def in_one_folder(kind: str, entries: Sequence[Entry]) -> Layout | None:
    """The layout of `NAMED`, if the files of one folder have it.

    Raises:
        UnfitError: Several folders have it.
    """
    title, parts_of = NAMED[kind]
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        folders[folder][name] = entry.path
    by_folder = {folder: parts for folder, files in folders.items() if (parts := parts_of(files))}
    if len(by_folder) > 1:
        raise UnfitError(
            f"data.source must hold one dataset; it has one in each of {', '.join(map(repr, sorted(by_folder)))}."
        )
    parts = next(iter(by_folder.values()), [])
    return Layout(kind, f"{title}, {' and '.join(part.split for part in parts)}", parts=parts) if parts else None
