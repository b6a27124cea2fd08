"""Decode, bring to one size and split the raw dataset.

Reads:   data/, what `fetch` got
Writes:  build/prepare/: for each split `images.npy`, `labels.npy` and `ids.parquet`; `dataset.json`; `overview.png`
Command: python -m pipeline.prepare
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.stage import Job
from pipeline.data.arrays import write_array
from pipeline.data.images import PixelCounts, chunks, fit_images, hash_pixels, overview
from pipeline.data.layouts import Part, RawDataset, read
from pipeline.data.splits import limited, stratified_split, with_noise
from pipeline.data.unpack import room_for

SPLITS = ("train", "val", "confirm", "test")


def prepare(
    *,
    source: Path,
    size: int,
    fit: str,
    val_fraction: float,
    confirm_fraction: float,
    test_fraction: float,
    limit: int | None,
    random_labels: float,
    seed: int,
    out: Path,
    fingerprint: str,
) -> None:
    """Fill `out` with arrays that training reads as they are.

    Args:
        source: Folder of the raw files.
        size: Height and width in pixels of every image afterwards.
        fit: `pad` or `resize`.
        val_fraction: Of the training images.
        confirm_fraction: Of the training images.
        test_fraction: Of all images, where the source has no test split of its own.
        limit: At most so many training images; the other splits stay whole.
        random_labels: Share of the labels, but for those of test, that are drawn anew.
        seed: Of the split.
        out: An existing, empty folder.
        fingerprint: Recorded as what `out` was made of.

    Raises:
        DataError: The raw files are missing or damaged, a class has too few images, or the disk is full.
        ConfigError: The fractions or the limit leave nothing to train on.
    """
    raw = read(source)
    splits = stratified_split(
        raw.train.labels,
        raw.classes,
        val=val_fraction,
        confirm=confirm_fraction,
        test=0.0 if raw.test else test_fraction,
        seed=seed,
    )
    train = splits["train"]
    splits["train"] = train[limited(raw.train.labels[train], raw.classes, limit, seed)]

    relabelled = replace(raw.train, labels=with_noise(raw.train.labels, len(raw.classes), random_labels, seed))
    pixels = PixelCounts(raw.train.images.shape[3])
    counts: dict[str, list[int]] = {}
    for name in SPLITS:
        part = (raw.test or raw.train) if name == "test" else relabelled
        chosen = np.arange(len(part.labels)) if part is raw.test else splits[name]
        (out / name).mkdir()
        _write_images(out / name, part, chosen, size, fit, pixels if name == "train" else None)
        counts[name] = np.bincount(part.labels[chosen], minlength=len(raw.classes)).tolist()

    content = {
        "name": raw.name, "classes": raw.classes, "size": size, "channels": raw.train.images.shape[3], "counts": counts,
        "mean": pixels.mean(), "std": pixels.std(), "source": raw.source, "licence": raw.licence,
        "fingerprint": fingerprint,
    }  # fmt: skip
    (out / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _draw_overview(out, raw)
    sizes = ", ".join(f"{name} {sum(counts[name]):,}" for name in SPLITS)
    print(f"{raw.name}: {len(raw.classes)} classes, {size}×{size}×{content['channels']}; images: {sizes}")


def _write_images(
    folder: Path, part: Part, chosen: NDArray[np.int64], size: int, fit: str, pixels: PixelCounts | None
) -> None:
    """Write one split in one pass over its raw images, in the order of `chosen`; count the pixels where asked to."""
    hashes: list[str] = []

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for raw in chunks(part.images, chosen):
            hashes.extend(hash_pixels(raw))
            fitted = fit_images(raw, size, fit)
            if pixels is not None:
                pixels.add(fitted)
            yield fitted

    height, width, channels = part.images.shape[1:]
    write_array(folder / "images.npy", "uint8", (len(chosen), size, size, channels), pieces())
    write_array(folder / "labels.npy", "int64", (len(chosen),), [part.labels[chosen]])
    ids = [f"{part.name}-{position:06d}" for position in chosen]
    paths = [part.paths[position] for position in chosen]
    _write_ids(folder / "ids.parquet", ids, paths, hashes, width, height)


def _write_ids(path: Path, ids: list[str], paths: list[str], hashes: list[str], width: int, height: int) -> None:
    """Write where each image comes from: its place, its file, its pixels' SHA-256 and its size before fitting."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": ids,
        "path": pa.array(paths, type=pa.string()),
        "sha256": hashes,
        "width": pa.array([width] * len(ids), type=pa.int32()),
        "height": pa.array([height] * len(ids), type=pa.int32()),
    }
    with room_for(path, sum(map(len, ids)) + sum(map(len, hashes))):
        pq.write_table(pa.table(columns), path, compression="zstd")


def _draw_overview(out: Path, raw: RawDataset) -> None:
    images = np.load(out / "train" / "images.npy", mmap_mode="r")
    labels = np.load(out / "train" / "labels.npy")
    figure = overview(images, labels, raw.classes, f"{raw.name}: training images, {images.shape[1]}×{images.shape[2]}")
    figure.savefig(out / "overview.png", dpi=110)


def main(job: Job) -> None:
    config = job.config.prepare
    prepare(
        source=job.locate("fetch"),
        size=config.size,
        fit=config.fit,
        val_fraction=config.val_fraction,
        confirm_fraction=config.confirm_fraction,
        test_fraction=config.test_fraction,
        limit=config.limit,
        random_labels=config.random_labels,
        seed=config.seed,
        out=job.out,
        fingerprint=job.fingerprint,
    )


if __name__ == "__main__":
    from pipeline.config.entry import run

    run("prepare", main)
