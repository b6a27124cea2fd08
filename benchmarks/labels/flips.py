"""Flips labels of real pictures and measures which of them `python -m pipeline.audit` finds, beside cleanlab.

    python benchmarks/labels/flips.py --out flips.csv --images fashion=photos/fashion clipart=photos/clipart digits
    python benchmarks/labels/flips.py --table flips.csv
    python benchmarks/labels/flips.py --write-fashion data photos/fashion    from Fashion-MNIST's raw files

A set is `name=folder`, as data=folder takes it, or `digits`. Its labels count as right; those of its test split stay as they
are. For each seed 5, 10 and 20 % of the labels are flipped: `uniform` to any other class, `confused` to the one that the
audit's own classifier, fitted on the right labels, takes for it most often. `at k` is the precision, and the recall as well,
of the k surest of all images where k labels were flipped; `listed` are the suspects that the audit lists. cleanlab (pip install
cleanlab, in an environment of its own; --cleanlab names its site-packages) ranks the same predictions by its default score,
`self_confidence`, and by `normalized_margin`, and lists what its `find_label_issues` finds.

`accuracy` is that on the test split, whose labels stay right, of the classifier fitted on the flipped labels, on those of
which each suspect got its likely class unseen, on those of which a person who makes no mistake looked through the suspects,
and on the right ones.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.composition import compose
from pipeline.evaluation import label_audit
from pipeline.evaluation.audited import Audited, audited, views
from pipeline.evaluation.label_audit import Audit, View
from pipeline.stage import lineage
from pipeline.storage.tables import write_csv

SHARES = (0.05, 0.1, 0.2)
KINDS = ("uniform", "confused")
FIELDS = (
    "set", "images", "kind", "share", "seed", "views", "ours_at_k", "self_at_k", "margin_at_k", "listed", "precision",
    "recall", "cleanlab_listed", "cleanlab_precision", "cleanlab_recall", "flipped_accuracy", "unseen_accuracy",
    "looked_accuracy", "right_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """The images of a set whose labels are audited, and those of its test split, each in the views of the audit."""

    name: str
    images: Audited
    views: list[View]
    test: Audited
    test_views: list[View]


def measure(pictures: Pictures, seeds: int) -> Iterator[dict[str, Any]]:
    """A row for each seed, kind and share."""
    images, seen = pictures.images, pictures.views
    right = label_audit.audit(seen, images.labels, images.groups)
    confusion = np.zeros((len(right.classes),) * 2)
    np.add.at(confusion, (right.positions, right.probabilities.argmax(axis=1)), 1)
    np.fill_diagonal(confusion, -1)
    best = accuracy(pictures, right.views, right.positions)
    for seed, kind, share in product(range(seeds), KINDS, SHARES):
        labels, flipped = flip(right.positions, share, seed, confusion if kind == "confused" else None)
        found = label_audit.audit(seen, labels, images.groups)
        suspected = label_audit.suspects(found)
        corrected = labels.copy()
        corrected[suspected.images] = suspected.likely
        looked = np.where(np.isin(np.arange(len(labels)), suspected.images), right.positions, labels)
        row = {"set": pictures.name, "images": len(labels), "kind": kind, "share": share, "seed": seed}
        row |= scores(found, labels, flipped)
        row["flipped_accuracy"] = accuracy(pictures, found.views, labels)
        row["unseen_accuracy"] = accuracy(pictures, found.views, corrected)
        row["looked_accuracy"] = accuracy(pictures, found.views, looked)
        row["right_accuracy"] = best
        print(
            " ".join(
                f"{key}={value:.3f}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
            )
        )
        sys.stdout.flush()
        yield row


def accuracy(pictures: Pictures, names: Sequence[str], labels: NDArray[np.int64]) -> float:
    """Accuracy on the test split of classifiers that are fitted on all audited images with these labels."""
    found = []
    for view, test in zip(pictures.views, pictures.test_views, strict=True):
        if view.name in names:
            found.append(view.classifier().fit(view.rows, labels).predict_proba(test.rows))
    return float((np.mean(found, axis=0).argmax(axis=1) == pictures.test.labels).mean())


def flip(
    positions: NDArray[np.int64], share: float, seed: int, confusion: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The labels with a share of them flipped, and which these are."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(positions), round(share * len(positions)), replace=False)
    labels, num_classes = positions.copy(), int(positions.max()) + 1
    if confusion is None:
        labels[chosen] = (positions[chosen] + generator.integers(1, num_classes, len(chosen))) % num_classes
    else:
        labels[chosen] = confusion.argmax(axis=1)[positions[chosen]]
    return labels, labels != positions


def scores(found: Audit, labels: NDArray[np.int64], flipped: NDArray[np.bool_]) -> dict[str, Any]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    number = int(flipped.sum())
    everything = label_audit.suspects(found, len(labels))
    listed = label_audit.suspects(found).images
    theirs = find_label_issues(labels, found.probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    at_k = {
        short: flipped[
            np.argsort(get_label_quality_scores(labels, found.probabilities, method=method), kind="stable")[:number]
        ].mean()
        for short, method in (("self_at_k", "self_confidence"), ("margin_at_k", "normalized_margin"))
    }
    return {
        "views": len(found.views), "ours_at_k": float(flipped[everything.images[:number]].mean()),
        **{short: float(value) for short, value in at_k.items()},
        "listed": len(listed), "precision": float(flipped[listed].mean()), "recall": float(flipped[listed].sum() / number),
        "cleanlab_listed": len(theirs), "cleanlab_precision": float(flipped[theirs].mean()),
        "cleanlab_recall": float(flipped[theirs].sum() / number),
    }  # fmt: skip


def table(path: Path) -> None:
    """Print the means over the seeds as Markdown."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            groups[row["set"], row["images"], row["kind"], row["share"]].append(row)
    print(
        "| set | flips | at k | cleanlab at k: default, margin | listed: precision, recall | cleanlab's | accuracy: flipped, "
        "unseen, looked through, right |\n|---|---|---|---|---|---|---|"
    )
    for (name, number, kind, share), rows in groups.items():

        def mean(*fields: str, rows: list[dict[str, str]] = rows) -> str:
            return ", ".join(f"{fmean(float(row[field]) for row in rows):.3f}" for field in fields)

        spread = stdev(float(row["ours_at_k"]) for row in rows) if len(rows) > 1 else 0.0
        cells = [
            f"{name}, {int(number):,}", f"{float(share):.0%} {kind}", f"{mean('ours_at_k')} ± {spread:.3f}",
            mean("self_at_k", "margin_at_k"), mean("precision", "recall"), mean("cleanlab_precision", "cleanlab_recall"),
            mean("flipped_accuracy", "unseen_accuracy", "looked_accuracy", "right_accuracy"),
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |")


def write_fashion(data: Path, out: Path) -> None:
    """The first 5,000 training images and 1,000 test images, with as many of each class, in folders of splits and classes."""
    import cv2

    for split, name, each in (("train", "train", 500), ("test", "t10k", 100)):
        pixels = np.frombuffer((data / f"{name}-images-idx3-ubyte").read_bytes(), np.uint8)[16:].reshape(-1, 28, 28)
        labels = np.frombuffer((data / f"{name}-labels-idx1-ubyte").read_bytes(), np.uint8)[8:]
        for label in range(10):
            (out / split / str(label)).mkdir(parents=True)
            for image in np.flatnonzero(labels == label)[:each].tolist():
                cv2.imwrite(str(out / split / str(label) / f"{image:05d}.png"), pixels[image])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("flips.csv"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cleanlab", type=Path, help="folder that cleanlab was installed into")
    parser.add_argument("--table", type=Path, metavar="CSV", help="print the table of a finished measurement")
    parser.add_argument("--write-fashion", nargs=2, type=Path, metavar=("DATA", "FOLDER"))
    options = parser.parse_args()
    if options.table:
        return table(options.table)
    if options.write_fashion:
        return write_fashion(*options.write_fashion)
    if options.cleanlab:
        sys.path.append(str(options.cleanlab))
    rows: list[dict[str, Any]] = []
    for each in options.images:
        name, _, folder = each.partition("=")
        chosen = ["data=folder", f"data.source={Path(folder).absolute()}"] if folder else [f"data={name}"]
        config = compose(lineage.PROJECT / "conf", lineage.PROJECT / "params.yaml", chosen)
        images, test = audited(config), audited(config, ("test",))
        pictures = Pictures(name, images, views(config, images).views, test, views(config, test, ("test",)).views)
        for row in measure(pictures, options.seeds):
            rows.append(row)
            write_csv(options.out, FIELDS, [[row[field] for field in FIELDS] for row in rows])
    table(options.out)


if __name__ == "__main__":
    main()
