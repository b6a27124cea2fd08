"""Get the raw dataset, checked file by file.

Reads:   nothing of the project; a folder, an archive, a bucket, the web, a Debian package or scikit-learn, as `data` says
Writes:  downloads/: the raw files, unpacked or packed, and `source.json`, which tells `prepare` what they are; of the user's
         own images also `skipped.csv`, the files that were left out, and `relabel.csv`, the labels that were corrected
Command: python -m pipeline.fetch
         python -m pipeline.fetch data=folder data.source=/path/to/images
         python -m pipeline.fetch data=folder data.source=/path/to/images data.relabel=suspects.csv
"""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.artefacts.source import RELABELLING, SourceRecord
from pipeline.config.schema import Config
from pipeline.config.schema_data import Folder, Published
from pipeline.config.secrets import masked, resolved
from pipeline.source import copies, relabel_table, shards
from pipeline.source.detect import detect
from pipeline.source.download import Patience
from pipeline.source.files import Skipped
from pipeline.source.label_tables import TableKeys
from pipeline.source.left_out import check_left_out, check_links, summary, without_unread
from pipeline.source.mirrors import fetch_files
from pipeline.source.user_source import asked, connecting, local_copy, max_bytes, opened
from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.storage import atomic, lock
from pipeline.storage.digests import sha256
from pipeline.terminal import printable

DIGITS_ORIGIN = "scikit-learn's load_digits; Alpaydin and Kaynak 1998, https://doi.org/10.24432/C50P49"
DIGITS_LICENCE = "CC BY 4.0"


def fetch_published(*, data: Published, out: Path, cache: Path, patience: Patience | None = None) -> None:
    """Fill the empty folder `out` with the files of a published dataset, the same bytes whichever mirror serves them.

    `cache`, a folder for this dataset alone, keeps the pieces of broken downloads for the next run.

    Raises:
        DataError: A file cannot be had anywhere, or the disk is full.
    """
    source = resolved(data.source)
    key, places = ("data.mirrors", resolved(data.mirrors)) if source is None else ("data.source", [source])
    with lock.held(cache, wait=True):
        fetch_files(data.files, key, places, out, cache, patience)
    SourceRecord(
        name=data.name, layout=data.layout, classes=data.classes, licence=data.licence, source=data.origin, files=_hashes(out)
    ).write(out)  # fmt: skip


def fetch_digits(*, out: Path) -> None:
    """Fill `out` with scikit-learn's digits as `images.npy` (n, 8, 8, 1) in 0..255 and `labels.npy`."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.save(out / "images.npy", (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)[..., None])
    np.save(out / "labels.npy", digits.target.astype(np.int64))
    SourceRecord(
        name="digits", layout="arrays", classes=[str(name) for name in digits.target_names], licence=DIGITS_LICENCE,
        source=DIGITS_ORIGIN, files=_hashes(out),
    ).write(out)  # fmt: skip


def fetch_own(*, data: Folder, out: Path, cache: Path, root: Path) -> None:
    """Fill the empty folder `out` with the user's images: image files are packed, files with many images copied as they are.

    Paths are relative to `root`, the folder of `params.yaml`; `cache` keeps the pieces of a broken download for the next run.

    Raises:
        DataError: The source cannot be read, has no known layout or several, or is too large; or the disk is full.
        ConfigError: The package for the source's address is not installed.
    """
    limit, limit_of_file = max_bytes(data), int(data.max_file_megabytes * 1e6)
    skipped: list[Skipped] = []
    parts = None
    with lock.held(cache, wait=True):
        there = connecting(data)
        source = local_copy(there.source, there.storage_options, root, cache, limit)
        with opened(source, there.storage_options, limit, data.follow_links) as tree:
            check_links(tree, data.max_left_out)
            layout = detect(tree, data.layout, table_keys(data))
            if layout.images:
                images, unread = without_unread(layout.images)
                skipped = [*tree.listing.skipped, *layout.skipped, *unread]
                too_large = [
                    Skipped(each.entry.path, "too_large", "") for each in images if each.entry.size > limit_of_file
                ]
                kept = [each for each in images if each.entry.size <= limit_of_file]
                check_left_out(kept, layout.labels, [*skipped, *too_large], data.max_left_out)
                not_packed = shards.pack(tree, images, out, limit_of_file, limit)
                skipped += not_packed
                if any(file.problem == "unread_format" for file in not_packed):  # which their names did not tell
                    gone = {file.path for file in not_packed}
                    kept = [each for each in kept if each.entry.path not in gone]
                    check_left_out(kept, layout.labels, skipped, data.max_left_out)
                shards.write_skipped(out / "skipped.csv", skipped)
            else:
                parts = copies.copy_parts(tree, layout, out, limit)
        shutil.rmtree(cache, ignore_errors=True)
    print(f"{masked(data.source)}: {layout.title}")
    if data.relabel is not None:
        atomic.write_text(out / RELABELLING, relabel_table.corrections(data, root))
    if skipped:
        print(printable(f"left out; downloads/skipped.csv lists them:\n{summary(skipped)}"))
    SourceRecord(
        name=data.title or Path(urlsplit(masked(data.source)).path).name or "images",
        layout="parquet" if layout.images else layout.kind, found=layout.title, asked=asked(data), parts=parts,
        columns=layout.columns or None, classes=data.classes or layout.classes, licence=data.licence,
        source=masked(data.source), files=_hashes(out),
    ).write(out)  # fmt: skip
    _check_relabelling(out)


def _check_relabelling(out: Path) -> None:
    """Read the labels as `prepare` will, so that corrections that do not fit stop here."""
    if (out / RELABELLING).exists():
        from pipeline.data import raw_dataset

        print(
            f"data.relabel: {len(raw_dataset.read(out).corrected):,} labels are those of the table, kept with the images"
        )


def table_keys(data: Folder) -> TableKeys:
    return TableKeys(data.table, data.columns, data.classes or (), data.drop_unlabelled)


def _hashes(out: Path) -> dict[str, str]:
    return {name: sha256(out / name) for name in sorted(path.name for path in out.iterdir())}


def main(job: Job) -> None:
    data = job.config.data
    if isinstance(data, Folder):
        if lineage.source_version(data) is None and lineage.pinned(data):
            shutil.copytree(lineage.dvc_folder("fetch"), job.out, dirs_exist_ok=True)
            relabel_table.put_in_place(data, lineage.ROOT, job.out)
            _check_relabelling(job.out)
            table = relabel_table.table_file(data, lineage.ROOT)
            gone = data.source if table is None or table.is_file() else f"{data.source} or {data.relabel}"
            print(f"{masked(gone)} is not to be had here: data/, which data.dvc pins, was made from it and stays")
            return
        fetch_own(data=data, out=job.out, cache=job.cache / "fetch" / asked(data), root=lineage.ROOT)
    elif isinstance(data, Published):
        fetch_published(data=data, out=job.out, cache=job.cache / "fetch" / data.name)
    else:
        fetch_digits(out=job.out)


def send_waiting(config: Config) -> None:
    """Send to MLflow what waits for it: this stage is the one that every `dvc repro` runs."""
    if any((lineage.ROOT / "build" / "spool").glob("*/[0-9]*")):
        from pipeline.tracking.delivery import deliver_waiting

        deliver_waiting(config.tracking)


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("fetch", main, multirun(), after=send_waiting)
