"""Files that hold many images each: Parquet, IDX, CIFAR-10's binary batches and NumPy arrays."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline.config.errors import DataError
from pipeline.source.files import Entry, Tree
from pipeline.source.found import SPLITS, Found, ending, match_columns

CIFAR_TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
CIFAR_TEST = "test_batch.bin"


def parquet(tree: Tree, columns: Mapping[str, str]) -> Found | None:
    """Parquet files with encoded images, as the Hugging Face hub stores them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts: dict[str, Any] = {}
    names: dict[str, str | None] = {}
    classes: list[str] | None = None
    number = 0
    for entry in tree.listing.entries:
        if ending(entry.path) != "parquet":
            continue
        try:
            with tree.open(entry) as file:
                table = pq.ParquetFile(file)
                schema, num_rows = table.schema_arrow, table.metadata.num_rows
        except (pa.ArrowInvalid, OSError):
            continue
        image = image_column(schema, columns)
        if image is None:
            continue
        others = match_columns(
            [name for name in schema.names if name != image], {k: v for k, v in columns.items() if k != "image"}
        )
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
    return Found(
        "parquet", f"{len(parts):,} Parquet files with {number:,} images", parts=parts, columns=names, classes=classes
    )


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


def cifar(entries: Sequence[Entry]) -> Found | None:
    by_name = {PurePosixPath(entry.path).name: entry.path for entry in entries}
    train = [by_name[name] for name in CIFAR_TRAIN if name in by_name]
    if not train:
        return None
    parts: dict[str, Any] = {"train": {"files": train}}
    if CIFAR_TEST in by_name:
        parts["test"] = {"files": [by_name[CIFAR_TEST]]}
    return Found("cifar", f"CIFAR-10 binary files, {' and '.join(parts)}", parts=parts)


def arrays(entries: Sequence[Entry]) -> Found | None:
    archives = [entry.path for entry in entries if ending(entry.path) == "npz"]
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
