"""Chooses which images to label next: those that the network is unsure of, spread over what it sees in them."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.delivery.classifier import Batch, Classifier
from pipeline.storage import atomic
from pipeline.storage.tables import to_csv

MOST_CLUSTERED = 10
"""The most uncertain of so many times the images that are chosen are clustered."""


class Selection:
    """Names the images to label, of those that it has seen; it keeps the most uncertain alone, so that memory stays flat."""

    def __init__(self, classifier: Classifier, number: int, out: Path) -> None:
        """Choose `number` images; `out` is the CSV file to write."""
        self._classifier, self._number, self._out = classifier, number, out
        self._num_seen = 0
        self._names: list[str] = []
        self._unsure = np.empty(0, np.float32)
        self._features: NDArray[np.float32] | None = None

    def add(self, batch: Batch) -> None:
        if batch.decisions is None:
            return
        names = [name for name, error in zip(batch.names, batch.errors, strict=True) if error is None]
        features = self._classifier.outputs(batch.pixels)[1]
        self._num_seen += len(names)
        self._names += names
        self._unsure = np.concatenate([self._unsure, uncertainty(batch.decisions.probabilities)])
        self._features = features if self._features is None else np.concatenate([self._features, features])
        most = MOST_CLUSTERED * self._number
        if len(self._names) > 2 * most:
            kept = np.sort(np.argsort(-self._unsure, kind="stable")[:most])
            self._names = [self._names[place] for place in kept]
            self._unsure, self._features = self._unsure[kept], self._features[kept]

    def finish(self) -> None:
        """Choose, and write the names with their uncertainty, in the order in which to label them."""
        if self._features is None:
            return
        chosen = choose(self._unsure, self._features, self._number)
        rows = [[self._names[place], f"{self._unsure[place]:.4f}"] for place in chosen]
        atomic.write_text(self._out, to_csv(["path", "uncertainty"], rows))
        print(f"{len(rows):,} of {self._num_seen:,} images to label next: {self._out}", file=sys.stderr)


def uncertainty(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """One less the lead of the likeliest class over the second, in [0, 1], of shape (n,).

    >>> print(uncertainty(np.array([[0.5, 0.5], [0.9, 0.1]])).round(2))
    [1.  0.2]
    """
    ordered = np.sort(probabilities, axis=1)
    unsure: NDArray[np.float32] = (1 - (ordered[:, -1] - ordered[:, -2])).astype(np.float32)
    return unsure


def choose(unsure: NDArray[np.floating], features: NDArray[np.floating], number: int) -> NDArray[np.int64]:
    """The nearest image to each centre of k-means on the features of the most uncertain images, weighed by uncertainty
    (Zhdanov 2019, "Diverse mini-batch active learning", https://arxiv.org/abs/1901.05954).

    Args:
        unsure: Uncertainty of each image, of shape (n,).
        features: Last features of each image, of shape (n, features).
        number: Number of images to choose.

    Returns:
        Places of the chosen images, the most uncertain first; all images where there are no more than `number`.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.preprocessing import StandardScaler

    ordered = np.argsort(-unsure, kind="stable")
    if len(ordered) <= number:
        return ordered
    few = ordered[: MOST_CLUSTERED * number]
    scaled = StandardScaler().fit_transform(features[few])
    found = MiniBatchKMeans(number, random_state=0, n_init=1, batch_size=1024)
    distances = found.fit(scaled, sample_weight=unsure[few] + 1e-6).transform(scaled)
    chosen: list[int] = []
    for centre in range(number):  # the nearest to each centre that no other centre has
        order = np.argsort(distances[:, centre], kind="stable")
        chosen.append(int(next(place for place in order if place not in chosen)))
    return few[sorted(chosen)]
