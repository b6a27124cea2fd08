"""Decode, bring to one size, check and split the raw dataset.

Reads:   data/, what `fetch` got
Writes:  build/prepare/: for each split `images.npy`, `labels.npy` and `ids.parquet`; `dataset.json`; `groups.csv`, the
         images that stay together; `issues.csv` and `issues.png`, the problems of the images; `overview.png`
Command: python -m pipeline.prepare
         python -m pipeline.prepare prepare.size=64 prepare.fit=crop
"""

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.dataset import SPLITS, DatasetRecord
from pipeline.config.schema import Config
from pipeline.config.schema_data import Folder, Prepare
from pipeline.config.secrets import masked
from pipeline.data import checks
from pipeline.data.channels import num_channels
from pipeline.data.checks import Issue
from pipeline.data.decoded_images import DecodedImages, decode_at_white_level
from pipeline.data.grouping import keys_of, names_matched
from pipeline.data.grouping import summary as groups_summary
from pipeline.data.near_duplicates import near_duplicates
from pipeline.data.pixels import PixelCounts
from pipeline.data.preparation import Preprocessing
from pipeline.data.problems import UNDECODED
from pipeline.data.raw_dataset import RawDataset, read
from pipeline.data.splits import Fractions, assign, limited, with_noise
from pipeline.errors import ConfigError, DataError
from pipeline.plotting.captions import as_written, without_font
from pipeline.plotting.overview import overview
from pipeline.stage.job import Job
from pipeline.storage.arrays import write_array
from pipeline.storage.atomic import room_for
from pipeline.storage.digests import sha256
from pipeline.storage.processes import running_on
from pipeline.storage.tables import read_parquet_column, write_csv
from pipeline.terminal import printable

_FILES = ("images.npy", "labels.npy", "ids.parquet")
"""Files of each split."""

_EXAMPLE_SIZE, _LARGE = 32, 64
"""Size of the images in the example, and longer side in pixels from which others lose much of what they show at that size."""

_PICTURES = 10
"""Number of images shown for each problem."""


@dataclass(frozen=True)
class Split:
    """Images of a split in their order, as indices into all images, and their labels."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


def prepare(source: Path, settings: Prepare, out: Path, cache: Path) -> None:
    """Fill `out` with the arrays that training reads.

    Images are ordered by a digest of their content, so that the same images give the same arrays in any layout and under
    any names. The folder `cache` keeps the decoded images.

    Raises:
        DataError: The raw files are missing or damaged, a class has too few images, `prepare.on_issue` does
            not allow a problem, or the disk is full.
        ConfigError: The limit leaves nothing to train on, the regular expression of the groups matches nothing, or
            `prepare.folds` is set without `prepare.fold`.
    """
    if settings.folds is not None and settings.fold is None:
        raise ConfigError(
            f"prepare.fold must be a whole number in 0..{settings.folds - 1}, as prepare.folds={settings.folds}; got None. "
            f"Sweep it: prepare.fold={','.join(map(str, range(settings.folds)))} -m."
        )
    raw = read(source)
    channels = settings.channels or num_channels(raw, settings.max_pixels)
    given = None if settings.white_level == "auto" else float(settings.white_level)
    fill = 0 if settings.fill == "auto" and raw.holds_pixels else settings.fill
    how = Preprocessing(settings.size, channels, settings.fit, fill, given, given is not None)
    with running_on(settings.backend, "prepare.backend"):
        decoded, how = decode_at_white_level(raw, how, settings.max_pixels, cache, settings.workers)

    facts, marks, pairs = decoded.facts, decoded.marks(), _pairs(decoded, settings.near_duplicates)
    named = raw.groups if settings.group is None else names_matched(settings.group, raw.ids)
    keys = keys_of(marks, pairs, named)
    if any(named):
        print(printable(f"prepare: {groups_summary(named, raw.ids)}"))
    images = checks.ImageTable(
        names=raw.ids, labels=raw.labels, classes=raw.classes, given=raw.splits, shapes=facts.shape,
        num_bytes=facts.num_bytes, spread=facts.spread, peak=facts.peak, inverted=facts.inverted, white_level=how.white_level,
        white_drawing=facts.white_drawing, first=decoded.first_copies(marks), undecoded=facts.problems, pairs=pairs, keys=keys,
    )  # fmt: skip
    issues = checks.find(images, settings)
    with _kept_for_people(cache, raw, decoded, issues):
        on_issue, num_images = settings.on_issue.model_dump(), len(raw.labels)
        settled, stays = checks.settle(issues, on_issue, num_images)
        splits = _split(raw, settings, marks, keys, np.flatnonzero(stays))
        counts = {name: np.bincount(splits[name].labels, minlength=len(raw.classes)).tolist() for name in SPLITS}
        shifts = checks.shifts(counts, raw.classes)
        issues += shifts  # listed too where they stop the stage
        settled += checks.settle(shifts, on_issue, num_images)[0]

    pixels = PixelCounts(channels)
    for name in SPLITS:
        (out / name).mkdir()
        _write_split(out / name, raw, decoded, splits[name], pixels if name == "train" else None)
    _write_groups(out / "groups.csv", raw, keys, np.concatenate([splits[name].rows for name in SPLITS]))
    _write_issues(out / "issues.csv", raw, settled)
    _draw_issues(out / "issues.png", raw, decoded, settled)
    DatasetRecord(
        name=raw.name, classes=raw.classes, **asdict(how), counts=counts, mean=pixels.mean(),
        std=pixels.std(), source=raw.source, licence=raw.licence,
        files={f"{split}/{file}": sha256(out / split / file) for split in SPLITS for file in _FILES},
    ).write(out)  # fmt: skip
    _draw_overview(out, raw)
    if boxes := without_font(raw.classes):
        print(
            f"no installed font has {''.join(boxes[:10])}{'…' if len(boxes) > 10 else ''} of the class names: pictures show "
            "boxes, the page's tables the names. Debian's fonts-noto-cjk has Chinese, Japanese and Korean, "
            "pip install -e '.[fonts]' Japanese and most of Chinese."
        )
    if how.white_level is not None:
        print(f"images of more than 8 bits: {how.white_level:,g} is white (prepare.white_level={settings.white_level})")
    sizes = ", ".join(f"{name} {sum(counts[name]):,}" for name in SPLITS)
    print(f"{raw.name}: {len(raw.classes)} classes, {settings.size}×{settings.size}×{channels}; images: {sizes}")
    if settled or raw.skipped:
        skipped = f"{len(raw.skipped):,} files left out by fetch" if raw.skipped else ""
        print(f"issues: {', '.join(filter(None, [checks.summary(settled), skipped]))}; issues.csv lists them")


def _pairs(decoded: DecodedImages, wanted: bool) -> NDArray[np.int64]:
    """Pairs of near duplicates among the images that could be decoded, as indices into all images."""
    facts = decoded.facts
    if not wanted:
        return np.zeros((0, 2), dtype=np.int64)
    rows = np.flatnonzero(~np.isin(np.arange(len(facts.spread)), list(facts.problems)))
    return rows[near_duplicates(facts.signature[rows])].reshape(-1, 2)


def _split(
    raw: RawDataset, settings: Prepare, marks: NDArray[np.bytes_], keys: NDArray[np.bytes_], rows: NDArray[np.int64]
) -> dict[str, Split]:
    """Assign the images of `rows` to splits."""
    names = np.array([raw.ids[row].encode() for row in rows.tolist()])
    rows = rows[np.lexsort((names, raw.labels[rows], marks[rows]))]
    fractions = Fractions(settings.test_fraction, settings.confirm_fraction, settings.val_fraction)
    labels = raw.labels[rows]
    folds = settings.folds, settings.fold or 0, settings.repeat
    splits = assign(labels, keys[rows], raw.splits[rows], raw.classes, fractions, settings.seed, *folds)
    noisy = with_noise(labels, len(raw.classes), settings.random_labels, settings.seed)
    chosen = {name: np.flatnonzero(splits == name) for name in SPLITS}
    train = chosen["train"]
    chosen["train"] = train[limited(labels[train], raw.classes, settings.limit, settings.seed)]
    return {name: Split(rows[mine], (labels if name == "test" else noisy)[mine]) for name, mine in chosen.items()}


def _write_split(
    folder: Path, raw: RawDataset, decoded: DecodedImages, split: Split, pixels: PixelCounts | None
) -> None:
    """Write one split, and add its images to `pixels`."""

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for images in decoded.pieces(split.rows):
            if pixels is not None:
                pixels.add(images)
            yield images

    write_array(folder / "images.npy", "uint8", (len(split.rows), *decoded.image_shape), pieces())
    write_array(folder / "labels.npy", "int64", (len(split.rows),), [split.labels])
    _write_ids(folder / "ids.parquet", raw, decoded, split.rows)


def _write_ids(path: Path, raw: RawDataset, decoded: DecodedImages, rows: NDArray[np.int64]) -> None:
    """Write the origin of each image: its name, its file, its size before, and the SHA-256 of its bytes.

    Where the source holds pixels, that of the pixels, row by row, channels last.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("id", "path", "sha256")
    schema = pa.schema([*((name, pa.string()) for name in texts), ("width", pa.int32()), ("height", pa.int32())])
    facts, piece = decoded.facts, 1 << 16
    with room_for(path, 150 * len(rows)), pq.ParquetWriter(path, schema, compression="zstd") as file:
        for begin in range(0, max(1, len(rows)), piece):
            part = rows[begin : begin + piece]
            shape = np.asarray(facts.shape[part])
            columns = {
                "id": [raw.ids[row] for row in part],
                "path": [raw.files[row] for row in part],
                "sha256": [digest.tobytes().hex() for digest in facts.content[part]],
                "width": shape[:, 1],
                "height": shape[:, 0],
            }
            file.write_table(pa.table(columns, schema))


def _write_groups(path: Path, raw: RawDataset, keys: NDArray[np.bytes_], rows: NDArray[np.int64]) -> None:
    """Write the number of its group for each image that shares one, by which later folds keep groups together."""
    _, number, size = np.unique(keys[rows], return_inverse=True, return_counts=True)
    shared = np.flatnonzero(size[number] > 1)
    shared = shared[np.argsort(number[shared], kind="stable")]
    write_csv(path, ("id", "group"), [(raw.ids[rows[place]], int(number[place])) for place in shared.tolist()])


@contextmanager
def _kept_for_people(cache: Path, raw: RawDataset, decoded: DecodedImages, issues: Sequence[Issue]) -> Iterator[None]:
    """Leaves the list of issues and their pictures in `cache` if the block stops the stage, whose own folder vanishes."""
    try:
        yield
    except DataError as error:
        if not issues:
            raise
        _write_issues(cache / "issues.csv", raw, [replace(issue, action="not settled") for issue in issues])
        _draw_issues(cache / "issues.png", raw, decoded, issues)
        counts = Counter(issue.problem for issue in issues)
        found = ", ".join(f"{number:,} × {problem}" for problem, number in counts.items())
        raise DataError(f"{error} {os.path.relpath(cache / 'issues.csv')} lists what was found: {found}.") from None


def _write_issues(path: Path, raw: RawDataset, issues: Sequence[Issue]) -> None:
    found = [(issue.name, issue.problem, issue.evidence, issue.action) for issue in issues]
    left_out = [(row["path"], row["problem"], row["evidence"], "left out by fetch") for row in raw.skipped]
    write_csv(path, ("path", "problem", "evidence", "action"), [*found, *left_out])


@as_written()
def _draw_issues(path: Path, raw: RawDataset, decoded: DecodedImages, issues: Sequence[Issue]) -> None:
    """Draw a row of pictures for each visible problem of images, each image once; no file where there is no such problem."""
    shown: dict[str, dict[int, None]] = {}
    counts: Counter[str] = Counter()
    for issue in issues:
        if issue.row is not None and issue.problem not in UNDECODED:
            counts[issue.problem] += 1
            alike = [issue.row] if issue.twin is None else [issue.row, issue.twin]
            shown.setdefault(issue.problem, {}).update(dict.fromkeys(alike))
    if not shown:
        return
    rows = np.array([row for images_of in shown.values() for row in list(images_of)[:_PICTURES]])
    labels = np.repeat(np.arange(len(shown)), [min(len(images_of), _PICTURES) for images_of in shown.values()])
    names = [f"{problem.replace('_', ' ')} ({counts[problem]:,})" for problem in shown]
    images = np.concatenate(list(decoded.pieces(rows)))
    title = f"{raw.name}: what to look at; of two that are alike, both"
    overview(images, labels, names, title, _PICTURES).savefig(path, dpi=110)


@as_written()
def _draw_overview(out: Path, raw: RawDataset) -> None:
    images = np.load(out / "train" / "images.npy", mmap_mode="r")
    labels = np.load(out / "train" / "labels.npy")
    title = f"{raw.name}: training images, {images.shape[1]}×{images.shape[2]}"
    overview(images, labels, raw.classes, title).savefig(out / "overview.png", dpi=110)


def main(job: Job) -> None:
    prepare(job.locate("fetch"), job.config.prepare, job.out, job.cache)
    if remark := about_start(job.config, job.out):
        print(printable(remark))


def about_start(config: Config, out: Path) -> str | None:
    """That the example's network is none for these images, where they are the user's own and far larger than it sees them."""
    if not isinstance(config.data, Folder) or config.model.name != "lenet" or config.prepare.size > _EXAMPLE_SIZE:
        return None
    ids = out / "train" / "ids.parquet"
    longer = np.maximum(*(np.array(read_parquet_column(ids, side)) for side in ("width", "height")))
    if np.median(longer) < _LARGE:
        return None
    source = shlex.quote(masked(config.data.source))
    return (
        f"prepare: these images are large (median {np.median(longer):,.0f} pixels), and model=lenet at {config.prepare.size} "
        f"is the example for small grey ones. `python -m pipeline.suggest {source}` proposes a better start."
    )


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("prepare", main, multirun())
