"""How often four 95 % intervals of a gain over folds hold the true gain, and how often they prove one.

    PYTHONPATH=. python benchmarks/folds.py data

Plays the choice that a cure makes, on few images of Fashion-MNIST (raw files in a folder, as `fetch` makes it): several changes
of a classifier are tried on five folds, and the one that gains most is compared with the classifier on new folds of the same
images. The true gain is that of many other draws of images. One classifier is a ridge regression on random ReLU features, the
other a decision tree, whose trainings differ far more. `--times 200` takes a quarter of an hour of one core.

Intervals: Nadeau and Bengio's corrected t, Student's t over the folds, ± 1.96 standard errors over the images, and the wider of
the last two, which is `pipeline.metrics.paired.over_folds`. The table is Markdown.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from pipeline.metrics.paired import Z, by_image, difference, over_folds

FOLDS, REPEATS, POOL, NOISE, DRAWS = 5, 2, 12_000, 0.8, 100


@dataclass(frozen=True)
class Ridge:
    """A ridge regression on `width` random ReLU features."""

    width: int
    decay: float = 3.0

    def named(
        self, images: NDArray[np.float64], labels: NDArray[np.int64], new: NDArray[np.float64],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:  # fmt: skip
        """What it names `new` images after a training."""
        weights = generator.normal(0, 1 / sqrt(images.shape[1]), (images.shape[1], self.width))
        shift = generator.uniform(-1, 1, self.width)
        known, shown = (
            np.column_stack([np.maximum(each @ weights + shift, 0), np.ones(len(each))]) for each in (images, new)
        )
        ridge = self.decay * np.eye(self.width + 1)
        fitted = np.linalg.solve(known.T @ known + ridge, known.T @ (np.eye(10)[labels] - 0.1))
        return np.asarray((shown @ fitted).argmax(axis=1))


@dataclass(frozen=True)
class Tree:
    """A decision tree of this depth, which looks at so many features in each node."""

    depth: int
    features: int = 10

    def named(
        self, images: NDArray[np.float64], labels: NDArray[np.int64], new: NDArray[np.float64],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:  # fmt: skip
        """What it names `new` images after a training."""
        seed = int(generator.integers(2**31))
        made = DecisionTreeClassifier(max_depth=self.depth, max_features=self.features, random_state=seed)
        return np.asarray(made.fit(images[:, :20], labels).predict(new[:, :20]))


Classifier = Ridge | Tree

CASES: dict[str, tuple[Classifier, list[Classifier]]] = {
    "ridge, nothing gains": (Ridge(40), [Ridge(40)] * 9),
    "tree, nothing gains": (Tree(6), [Tree(6)] * 9),
    "ridge": (Ridge(40), [Ridge(36), Ridge(30), Ridge(60), Ridge(120), Ridge(20), Ridge(40, 0.3)]),
    "tree": (Tree(6), [Tree(3), Tree(10), Tree(6, 3), Tree(6, 20)]),
}
"""Name of a case, the classifier and its changes."""


@dataclass
class Counts:
    """How often an interval held the true gain, and proved one, rightly and wrongly; and its half-widths."""

    held: int = 0
    proved: int = 0
    wrongly: int = 0
    halves: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 150, 380, 1000])
    parser.add_argument("--times", type=int, default=300, help="choices that are played for each row")
    options = parser.parse_args()
    images, labels = _pool(options.data)
    print("| case | images | interval | holds the true gain | proves a gain | of them wrongly | half-width |")
    print("|---|---|---|---|---|---|---|")
    for case, (fit, changes) in CASES.items():
        for size in options.sizes:
            for name, counts in _play(images, labels, fit, changes, size, options.times).items():
                shares = [each / options.times for each in (counts.held, counts.proved, counts.wrongly)]
                numbers = " | ".join(f"{share:.3f}" for share in [*shares, float(np.mean(counts.halves))])
                print(f"| {case} | {size} | {name} | {numbers} |", flush=True)


def _pool(data: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images as 60 principal components, with noise that makes them harder; and their labels."""
    generator = np.random.default_rng(0)
    pixels = np.frombuffer((data / "train-images-idx3-ubyte").read_bytes(), np.uint8)[16:].reshape(-1, 784) / 255
    labels = np.frombuffer((data / "train-labels-idx1-ubyte").read_bytes(), np.uint8)[8:].astype(np.int64)
    chosen = generator.permutation(len(labels))[:POOL]
    pixels = pixels[chosen] - pixels[chosen].mean(axis=0)
    *_, axes = np.linalg.svd(pixels[:3000], full_matrices=False)
    images = pixels @ axes[:60].T
    images /= images.std(axis=0).mean()
    return images + generator.normal(0, NOISE, images.shape), labels[chosen]


def _play(
    images: NDArray[np.float64],
    labels: NDArray[np.int64],
    fit: Classifier,
    changes: list[Classifier],
    size: int,
    times: int,
) -> dict[str, Counts]:
    """Play the choice on other images each time."""
    gains = [_true_gain(images, labels, change, fit, size * (FOLDS - 1) // FOLDS) for change in changes]
    found: dict[str, Counts] = {}
    for number in range(times):
        generator = np.random.default_rng(1000 + number)
        own = generator.permutation(len(labels))[:size]

        def right(classifier: Classifier, repeat: int) -> list[dict[str, float]]:
            parts = np.array_split(np.random.default_rng(repeat).permutation(own), FOLDS)  # noqa: B023
            found = []
            for part in parts:
                answers = _right(images, labels, classifier, np.setdiff1d(own, part), part, generator)  # noqa: B023
                found.append(dict(zip(map(str, part), answers.tolist(), strict=True)))
            return found

        tried = [_accuracies(right(change, 0)) for change in changes]
        chosen = int(np.argmax([np.mean(each) for each in tried]))
        new, old = (
            [fold for repeat in range(1, 1 + REPEATS) for fold in right(each, repeat)]
            for each in (changes[chosen], fit)
        )
        changed, sides = by_image(new, old), (_accuracies(new), _accuracies(old))
        plain, both = difference(*sides), over_folds(*sides, changed)
        half = (plain.high - plain.low) / 2
        halves = {
            "Nadeau and Bengio": half * sqrt(1 + plain.n / (FOLDS - 1)),
            "Student, folds": half,
            "images": Z * float(changed.std(ddof=1)) / sqrt(size),
            "the wider one": (both.high - both.low) / 2,
        }
        for name, each in halves.items():
            counts = found.setdefault(name, Counts())
            counts.held += abs(plain.mean - gains[chosen]) <= each
            counts.proved += plain.mean > each
            counts.wrongly += plain.mean > each and gains[chosen] <= 0
            counts.halves.append(each)
    return found


def _accuracies(folds: Sequence[Mapping[str, float]]) -> list[float]:
    return [fmean(fold.values()) for fold in folds]


def _true_gain(
    images: NDArray[np.float64], labels: NDArray[np.int64], change: Classifier, fit: Classifier, size: int
) -> float:
    """The mean gain on other images, of trainings with so many; 0 for a change that is none."""
    if change == fit:
        return 0.0
    generator, gains = np.random.default_rng(99), []
    for _ in range(DRAWS):
        order = generator.permutation(len(labels))
        train, new = order[:size], order[size : size + 2000]
        gains.append(
            np.subtract(*(_right(images, labels, each, train, new, generator).mean() for each in (change, fit)))
        )
    return float(np.mean(gains))


def _right(
    images: NDArray[np.float64], labels: NDArray[np.int64], fit: Classifier, train: NDArray[np.int64], new: NDArray[np.int64],
    generator: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """1 for each image in `new` that a classifier made on `train` names rightly, 0 for the others."""
    return (fit.named(images[train], labels[train], images[new], generator) == labels[new]).astype(float)


if __name__ == "__main__":
    main()
