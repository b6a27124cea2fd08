"""Compares new images with a sample of known ones: the classes that are named, their features, and how they look."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.delivery.classifier import Batch, Classifier
from pipeline.delivery.sample import LOOKS, SAMPLE, Sample, looks
from pipeline.errors import DataError
from pipeline.metrics.intervals import newcombe
from pipeline.seeds import derive_seed

FEWEST = 40
"""Number of images of a side below which nothing is tested."""

LEVEL, POWER, SHIFT = 0.05, 0.8, 0.6
"""Rate of false alarms over all tests; probability with which a shift shall be noticed; and the shift that is spoken of, as the
area under the ROC curve of a classifier that tells new images from those of the reference (0.5: it cannot)."""


@dataclass(frozen=True)
class Test:
    """The result of a test.

    Attributes:
        name: What was compared.
        p: Probability of a difference as large by chance, corrected for the number of tests.
        effect: The difference, in words.
    """

    name: str
    p: float
    effect: str


@dataclass(frozen=True)
class Drift:
    """What the tests found.

    Attributes:
        num_new: Number of new images of the sample.
        num_reference: Number of images of the reference.
        tests: The tests.
        power: Probability with which a shift of `SHIFT` in the features would have been noticed.
        enough: Number of new images from which it is `POWER`; None where no number suffices, for want of reference images.
    """

    num_new: int
    num_reference: int
    tests: list[Test]
    power: float
    enough: int | None

    def sentence(self) -> str:
        """One sentence on whether the model's figures hold for these images."""
        found = [test.name for test in self.tests if test.p < LEVEL]
        seen = (
            f"A shift that lets a classifier tell new images from known ones with an area under the ROC curve of {SHIFT:g} is "
            f"noticed in the features with probability {self.power:.2f} by these {self.num_new:,} images"
        )
        enough = f"{self.enough:,} new images make it {POWER:g}" if self.enough is not None else (
            f"no number of new images makes it {POWER:g}, as the package's sample has only {self.num_reference:,} images"
        )  # fmt: skip
        seen += f"; {enough}."
        if found:
            return (
                f"These images differ from those that the model was measured on, in {', '.join(found)}: its figures may not "
                f"hold for them; label some and use --against. {seen}"
            )
        return f"No difference was found: nothing speaks against the model's figures for these images. {seen}"


def compare(known: Sample, new: Sample, classes: Sequence[str]) -> Drift:
    """Test whether two samples of images are of one kind; the rate of false alarms over all tests is `LEVEL`.

    The shares of the named classes are compared by a χ² test; the features by a classifier two-sample test (Lopez-Paz and Oquab
    2017): a logistic regression learns from half of both samples to tell them apart, and its scores for the other halves are
    compared by the Mann-Whitney test; the looks by the Kolmogorov-Smirnov test. All p values are corrected together
    (Benjamini and Hochberg 1995).

    Raises:
        DataError: A side has too few images.
    """
    from scipy.stats import false_discovery_control, ks_2samp

    num_known, num_new = len(known.features), len(new.features)
    _check(num_known, num_new)
    tests = [_classes(known.counts, new.counts, classes), _features(known.features, new.features)]
    for column, name in enumerate(LOOKS):
        values = known.looks[:, column], new.looks[:, column]
        found = ks_2samp(*values)
        middle = " → ".join(f"{np.median(each):.4g}" for each in values)
        tests.append(
            Test(name, float(found.pvalue), f"median {middle}, largest distance of the shares {found.statistic:.2f}")
        )
    corrected = false_discovery_control([test.p for test in tests])
    halves = num_known - num_known // 2, num_new - num_new // 2
    return Drift(
        num_new, num_known, [Test(test.name, float(p), test.effect) for test, p in zip(tests, corrected, strict=True)],
        power=_power(*halves), enough=_enough(halves[0]),
    )  # fmt: skip


def _check(num_known: int, num_new: int) -> None:
    if min(num_known, num_new) < FEWEST:
        raise DataError(
            f"--drift must have {FEWEST} images that can be read, and as many in the package's sample; got {num_new:,} and "
            f"{num_known:,}."
        )


def _classes(known: NDArray[np.int64], new: NDArray[np.int64], classes: Sequence[str]) -> Test:
    from scipy.stats import chi2_contingency

    table = np.stack([known, new])
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    rare = expected < 5  # below, the χ² distribution does not hold: these classes are counted together
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    found = chi2_contingency(table, correction=False) if table.shape[1] > 1 else None
    share = new / new.sum() - known / known.sum()
    most = int(np.abs(share).argmax())
    low, high = newcombe(int(new[most]), int(new.sum()), int(known[most]), int(known.sum()))
    cramer = (found.statistic / table.sum()) ** 0.5 if found else 0.0
    effect = f"Cramér's V {cramer:.2f}; most for {classes[most]!r}: {share[most]:+.3f} [{low:+.3f}, {high:+.3f}]"
    return Test("class shares", float(found.pvalue) if found else 1.0, effect)


def _features(known: NDArray[np.float32], new: NDArray[np.float32]) -> Test:
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(derive_seed(0, "halves of two samples"))
    sides = [side[generator.permutation(len(side))] for side in (known, new)]
    learn = np.concatenate([side[: len(side) // 2] for side in sides])
    is_new = np.repeat([0, 1], [len(side) // 2 for side in sides])
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    regression.fit(learn, is_new)
    of_known, of_new = (regression.decision_function(side[len(side) // 2 :]) for side in sides)
    found = mannwhitneyu(of_new, of_known, alternative="greater")
    area = found.statistic / (len(of_new) * len(of_known))
    return Test("last features", float(found.pvalue), f"area under the ROC curve {area:.2f} (0.5: alike)")


def _power(num_known: int, num_new: int) -> float:
    """Power of the one-sided Mann-Whitney test against `SHIFT`, at the strictest corrected level (Noether 1987)."""
    from scipy.stats import norm

    deviation = ((num_known + num_new + 1) / (12 * num_known * num_new)) ** 0.5
    return float(norm.cdf((SHIFT - 0.5) / deviation - norm.isf(LEVEL / (2 + len(LOOKS)))))


def _enough(num_known: int) -> int | None:
    """Number of new images, halves that learn included, from which the power is `POWER`."""
    return next((2 * number for number in range(FEWEST // 2, 5000, 5) if _power(num_known, number) >= POWER), None)


class DriftWatcher:
    """Keeps a random sample of the new images while they are classified, and compares it afterwards."""

    def __init__(self, classifier: Classifier) -> None:
        """Read the package's reference.

        Raises:
            DataError: The package has none.
        """
        content = classifier.package.drift
        if content is None:
            raise DataError(
                f"--drift must have a package with a sample to compare with; {classifier.package.place} was made before they "
                "had one. Make it again (`dvc repro package`)."
            )
        try:
            self._known = Sample.from_bytes(content)
        except Exception as error:  # of noise, NumPy raises nearly anything
            raise DataError(
                f"{classifier.package.place} must hold a whole drift.npz; it cannot be read ({error})."
            ) from None
        self._classes = classifier.classes
        self._counts = np.zeros(len(self._classes), np.int64)
        self._generator = np.random.default_rng(derive_seed(0, "sample of new images"))
        self._keys: list[float] = []
        self._features: list[NDArray[np.floating]] = []
        self._looks: list[NDArray[np.float32]] = []

    def add(self, batch: Batch) -> None:
        """Count the classes, and keep the images with the smallest random keys: a sample without replacement."""
        if (decided := batch.decisions) is None:
            return
        self._counts += np.bincount(decided.labels, minlength=len(self._counts))
        keys = self._generator.random(len(decided.labels)).tolist()
        limit = max(self._keys) if len(self._keys) >= SAMPLE else 1.0
        rows = [row for row, key in enumerate(keys) if key < limit]
        if not rows:
            return
        self._keys += [keys[row] for row in rows]
        self._features += list(decided.features[rows])
        self._looks += list(looks(batch.pixels[rows], [batch.shapes[row] for row in rows]))
        if len(self._keys) > SAMPLE:
            order = np.argsort(self._keys)[:SAMPLE].tolist()
            self._keys = [self._keys[index] for index in order]
            self._features = [self._features[index] for index in order]
            self._looks = [self._looks[index] for index in order]

    def finish(self) -> None:
        """Compare, and print the tests and the sentence."""
        from rich.console import Console
        from rich.text import Text

        from pipeline.terminal import WIDTH_COLUMNS, printable, table

        _check(len(self._known.features), len(self._keys))
        new = Sample(np.stack(self._features).astype(np.float32), np.stack(self._looks), self._counts)
        found = compare(self._known, new, self._classes)
        console = Console(stderr=True, highlight=False, width=WIDTH_COLUMNS)
        shown = table(texts=("compared", "difference"), numbers=("p",))
        for test in found.tests:
            p = "< 0.001" if test.p < 0.001 else f"{test.p:.3f}"
            shown.add_row(test.name, Text(printable(test.effect)), p)
        console.print(shown)
        print(found.sentence(), file=sys.stderr)
