"""Get the raw dataset, checked file by file.

Reads:   nothing of the project; a folder, the web, a Debian package or scikit-learn, as `data` says
Writes:  downloads/: the raw files, unpacked, and `source.json`, which tells `prepare` what they are
Command: python -m pipeline.fetch
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config.schema import Published
from pipeline.config.stage import Job
from pipeline.data.download import Patience
from pipeline.data.sources import fetch_files
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
    _describe(out, name, layout, classes, licence, origin, fingerprint)


def fetch_digits(*, out: Path, fingerprint: str) -> None:
    """Fill `out` with scikit-learn's digits as `images.npy` (n, 8, 8, 1) in 0..255 and `labels.npy`."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.save(out / "images.npy", (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)[..., None])
    np.save(out / "labels.npy", digits.target.astype(np.int64))
    names = [str(name) for name in digits.target_names]
    _describe(out, "digits", "arrays", names, DIGITS_LICENCE, DIGITS_ORIGIN, fingerprint)


def _describe(
    out: Path, name: str, layout: str, classes: Sequence[str], licence: str, origin: str, fingerprint: str
) -> None:
    """Write `source.json`. It does not tell which mirror served: the same data give the same bytes."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}
    content = {
        "name": name, "layout": layout, "classes": list(classes), "licence": licence, "source": origin,
        "files": files, "fingerprint": fingerprint,
    }  # fmt: skip
    (out / "source.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(job: Job) -> None:
    data = job.config.data
    if isinstance(data, Published):
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
    from pipeline.config.entry import run

    run("fetch", main)
