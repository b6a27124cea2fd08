"""Get the raw dataset, checked file by file.

Reads:   nothing of the project; a folder, an archive, a bucket, the web, a Debian package or scikit-learn, as `data` says
Writes:  downloads/: the raw files, unpacked or packed, and `source.json`, which tells `prepare` what they are; of the user's
         own images also `skipped.csv`, what was left out
Command: python -m pipeline.fetch
         python -m pipeline.fetch data=folder data.source=/path/to/images
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.config.schema_data import Folder, Published
from pipeline.source import copying, detect, packing, trees
from pipeline.source.download import Patience
from pipeline.source.mirrors import fetch_files, shown
from pipeline.source.user_source import asked, at_hand, max_bytes
from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.storage import lock

DIGITS_ORIGIN = "scikit-learn's load_digits; Alpaydin and Kaynak 1998, https://doi.org/10.24432/C50P49"
DIGITS_LICENCE = "CC BY 4.0"


def fetch_published(
    *,
    name: str,
    layout: str,
    source: str | None,
    mirrors: Sequence[str],
    files: Mapping[str, str],
    classes: Sequence[str],
    licence: str,
    origin: str,
    out: Path,
    cache: Path,
    fingerprint: str,
    patience: Patience | None = None,
) -> None:
    """Fill `out` with the files of a published dataset, the same bytes whichever mirror gave them.

    Args:
        name: Of the dataset.
        layout: Of its files, as `pipeline.data.layouts` names it.
        source: The only place to look; None: the mirrors.
        mirrors: Places, in the order in which they are tried.
        files: SHA-256 of each unpacked file, by name.
        classes: Names, in the order of the labels.
        licence: Of the images.
        origin: Who published them, for people.
        out: An existing, empty folder.
        cache: A folder for this dataset alone, which keeps the pieces of broken downloads for the next run.
        fingerprint: Recorded as what `out` was made of.
        patience: Time-outs.

    Raises:
        DataError: A file cannot be had anywhere, or the disk is full.
    """
    key, places = ("data.source", [source]) if source is not None else ("data.mirrors", list(mirrors))
    with lock.held(cache, wait=True):
        fetch_files(files, key, places, out, cache, patience)
    _describe(out, name, {"layout": layout}, classes, licence, origin, fingerprint)


def fetch_digits(*, out: Path, fingerprint: str) -> None:
    """Fill `out` with scikit-learn's digits as `images.npy` (n, 8, 8, 1) in 0..255 and `labels.npy`."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.save(out / "images.npy", (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)[..., None])
    np.save(out / "labels.npy", digits.target.astype(np.int64))
    names = [str(name) for name in digits.target_names]
    _describe(out, "digits", {"layout": "arrays"}, names, DIGITS_LICENCE, DIGITS_ORIGIN, fingerprint)


def fetch_own(*, data: Folder, out: Path, cache: Path, root: Path, fingerprint: str) -> None:
    """Fill `out` with the user's images: files of images packed, files that hold many copied as they are.

    Args:
        data: The section `data` of the configuration.
        out: An existing, empty folder.
        cache: Keeps the pieces of a broken download for the next run.
        root: The folder of `params.yaml`, from which a relative path leads.
        fingerprint: Recorded as what `out` was made of.

    Raises:
        DataError: The source cannot be read, is laid out in no known way or in several, or is too large; or the disk is full.
        ConfigError: A package is missing that the source's address needs.
    """
    most, most_of_one = max_bytes(data), int(data.max_file_megabytes * 1e6)
    with lock.held(cache, wait=True):
        source = at_hand(str(data.source), root, cache, most)
        with trees.opened(source, data.storage_options, most) as tree:
            found = detect.find(tree, data.layout, data.table, data.columns)
            if found.rows:
                skipped = [*tree.listing.skipped, *found.skipped]
                skipped += packing.pack(tree, found.rows, out, most_of_one, most)
                packing.write_skipped(out / "skipped.csv", skipped)
                about: dict[str, Any] = {"layout": "parquet"}
            else:
                parts = copying.copy_parts(tree, found.layout, found.parts, out, most)
                about = {"layout": found.layout, "parts": parts}
                if found.columns:
                    about["columns"] = found.columns
        shutil.rmtree(cache, ignore_errors=True)
    print(
        f"{shown(str(data.source))}: {found.title}"
        + (f"; {len(skipped):,} files left out" if found.rows and skipped else "")
    )
    title = data.title or Path(urlsplit(str(data.source)).path).name or "images"
    about |= {"found": found.title, "asked": asked(data)}
    _describe(out, title, about, data.classes or found.classes, data.licence, shown(str(data.source)), fingerprint)


def _describe(
    out: Path,
    name: str,
    about: dict[str, Any],
    classes: Sequence[str] | None,
    licence: str,
    origin: str,
    fingerprint: str,
) -> None:
    """Write `source.json`. It does not tell which mirror served: the same data give the same bytes."""
    files = {}
    for path in sorted(out.iterdir()):
        with path.open("rb") as file:
            files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    content = {
        "name": name, **about, "classes": None if classes is None else list(classes), "licence": licence, "source": origin,
        "files": files, "fingerprint": fingerprint,
    }  # fmt: skip
    (out / "source.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(job: Job) -> None:
    data = job.config.data
    if isinstance(data, Folder):
        cache = job.cache / "fetch" / asked(data)
        if not lineage.is_there(data) and lineage.pinned(data):
            shutil.copytree(lineage.dvc_folder("fetch"), job.out, dirs_exist_ok=True)
            print(
                f"{shown(str(data.source))} is not to be had here: data/, which data.dvc pins, was made from it and stays"
            )
            return
        fetch_own(data=data, out=job.out, cache=cache, root=lineage.ROOT, fingerprint=job.fingerprint)
    elif isinstance(data, Published):
        fetch_published(
            name=data.name,
            layout=data.layout,
            source=data.source,
            mirrors=data.mirrors,
            files=data.files,
            classes=data.classes,
            licence=data.licence,
            origin=data.origin,
            out=job.out,
            cache=job.cache / "fetch" / data.name,
            fingerprint=job.fingerprint,
        )
    else:
        fetch_digits(out=job.out, fingerprint=job.fingerprint)


if __name__ == "__main__":
    from pipeline.stage.entry import run
    from pipeline.sweep.command import multirun

    run("fetch", main, multirun())
