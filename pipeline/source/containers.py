"""Files that hold many images each: Parquet, IDX, CIFAR-10's binary batches and NumPy arrays."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import DataError
from pipeline.source.files import READ_ERRORS, Entry, Tree, reason
from pipeline.source.layout import SPLITS, Found, UnfitError, ending, match_columns

CIFAR_TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
CIFAR_TEST = "test_batch.bin"


def parquet(tree: Tree, columns: Mapping[str, str]) -> Found | None:
    """Parquet files with encoded images, as the Hugging Face hub stores them."""
    parts: dict[str, Any] = {}
    names: dict[str, str | None] = {}
    classes: list[str] | None = None
    number = 0
    for entry in tree.listing.entries:
        if ending(entry.path) != "parquet":
            continue
        schema, num_rows = _schema_and_rows(tree, entry)
        image = image_column(schema, columns)
        if image is None:
            continue
        others = match_columns(
            [name for name in schema.names if name != image], {k: v for k, v in columns.items() if k != "image"}
        )
        if others["label"] is None:
            raise UnfitError(
                f"{entry.path} must have a column with labels; it has {', '.join(schema.names)}. Name it with "
                "data.columns.label."
            )
        mine = {**others, "image": image}
        if names and mine != names:
            told = ", ".join(str(name) for name in names.values() if name)
            raise UnfitError(f"{entry.path} must have the columns of {next(iter(parts))} ({told}); it has others.")
        names = mine
        classes = classes or _class_names(schema, others["label"])
        parts[entry.path] = {"split": _split_of(entry.path)}
        number += num_rows
    if not parts:
        return None
    return Found(
        "parquet", f"{len(parts):,} Parquet files with {number:,} images", parts=parts, columns=names, classes=classes
    )


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
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def image_column(schema: Any, columns: Mapping[str, str]) -> str | None:
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


def idx(entries: Sequence[Entry]) -> Found | None:
    parts = _in_one_folder(entries, _idx_pairs)
    return Found("idx", f"IDX files, {' and '.join(parts)}", parts=parts) if parts else None


def _idx_pairs(files: Mapping[str, str]) -> dict[str, Any]:
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    for name, path in sorted(files.items()):  # a plain file before its gzipped self, which is then passed over
        for kind, mark in (("images", "idx3"), ("labels", "idx1")):
            if mark in name.lower():
                split = "test" if re.search("t10k|test", name.lower()) else "train"
                before = pairs[split].setdefault(kind, path)
                if before not in (path, path.removesuffix(".gz")):
                    raise UnfitError(
                        f"data.source must hold one IDX file with the {kind} of {split}; it has {before} and {path}."
                    )
    parts = {split: pairs[split] for split in ("train", "test") if len(pairs.get(split, {})) == 2}
    return parts if "train" in parts else {}


def cifar(entries: Sequence[Entry]) -> Found | None:
    parts = _in_one_folder(entries, _cifar_batches)
    return Found("cifar", f"CIFAR-10 binary files, {' and '.join(parts)}", parts=parts) if parts else None


def _cifar_batches(files: Mapping[str, str]) -> dict[str, Any]:
    train = [files[name] for name in CIFAR_TRAIN if name in files]
    test = {"test": {"files": [files[CIFAR_TEST]]}} if CIFAR_TEST in files else {}
    return {"train": {"files": train}, **test} if train else {}


def arrays(entries: Sequence[Entry]) -> Found | None:
    archives = [entry.path for entry in entries if ending(entry.path) == "npz"]
    if len(archives) > 1:
        raise UnfitError(
            f"data.source must hold one .npz file; it has {archives[0]} and {archives[1]}. Name one of them."
        )
    if archives:
        return Found("arrays", f"NumPy archive {archives[0]}", parts={"npz": archives[0]})
    parts = _in_one_folder(entries, _array_pairs)
    return Found("arrays", f"NumPy arrays, {' and '.join(parts)}", parts=parts) if parts else None


def _array_pairs(files: Mapping[str, str]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for split, (images, labels) in _array_names():
        if f"{images}.npy" in files and f"{labels}.npy" in files:
            parts.setdefault(split, {"images": files[f"{images}.npy"], "labels": files[f"{labels}.npy"]})
    return parts if "train" in parts else {}


def _array_names() -> Iterator[tuple[str, tuple[str, str]]]:
    """The pairs of names that arrays of images and of labels go by, with their split."""
    yield "train", ("images", "labels")
    for split in ("train", "val", "test"):
        yield split, (f"x_{split}", f"y_{split}")
        yield split, (f"X_{split}", f"y_{split}")
        yield split, (f"{split}_images", f"{split}_labels")


def _in_one_folder(entries: Sequence[Entry], look: Callable[[Mapping[str, str]], dict[str, Any]]) -> dict[str, Any]:
    """What `look` finds among the files of one folder, by their names.

    Raises:
        UnfitError: It finds something in several.
    """
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        folders[folder][name] = entry.path
    found = {folder: parts for folder, files in folders.items() if (parts := look(files))}
    if len(found) > 1:
        raise UnfitError(
            f"data.source must hold one dataset; it has one in each of {', '.join(map(repr, sorted(found)))}."
        )
    return next(iter(found.values()), {})
