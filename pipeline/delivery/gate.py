"""Decides whether a package may take the champion's place in a registry."""

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.artefacts.artefact import Interval
from pipeline.artefacts.receipt import Comparison, Measured
from pipeline.config.schema import Register
from pipeline.data import raw_dataset
from pipeline.delivery.classifier import Classifier
from pipeline.delivery.package import Package
from pipeline.metrics.paired import paired_shares
from pipeline.storage.tables import read_parquet_column

SURE = 0.05
"""Largest p value with which a candidate counts as surely better."""

_TRIES = 30


@dataclass(frozen=True)
class SeenImages:
    """Digests of the images that a package knows, and its answers on the test split.

    Attributes:
        used: Images that trained, chose or calibrated it.
        test: Images of the test split.
        labels: Their classes.
        predicted: The classes that it named.
    """

    used: NDArray[np.uint64]
    test: NDArray[np.uint64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @classmethod
    def of(cls, content: Package) -> "SeenImages":
        """Those of a package."""
        with np.load(BytesIO(content.images), allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes champion, and why."""

    promoted: bool
    reason: str


def measure(classifier: Classifier, content: Package, num_bytes: int) -> Measured:
    """Measure what limits are set on: the time is that of one PNG file of the network's own size, from file to class."""
    import cv2

    how = content.preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (how.size, how.size, how.channels), np.uint8)
    image = cv2.imencode(".png", pixels)[1].tobytes()
    seconds = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        next(classifier.stream([("", image)]))
        seconds.append(time.perf_counter() - begin)
    scores, split = content.manifest.scores, content.manifest.split
    return Measured(
        accuracy=scores.accuracy.value if scores is not None and split == "test" else None, size_mb=num_bytes / 1e6,
        latency_ms=1000 * statistics.median(seconds),
    )  # fmt: skip


def within_limits(measured: Measured, verdict: str | None, settings: Register) -> Decision:
    """Hold a package against the user's limits and the refused verdicts."""
    accuracy = measured.accuracy
    if accuracy is None:
        return Decision(False, "it has not been evaluated on a test split")
    if verdict is None:
        return Decision(False, "it has not been diagnosed")
    if verdict in settings.refused_verdicts:
        return Decision(False, f"its verdict is {verdict.replace('_', ' ')}, which register.refused_verdicts names")
    if settings.min_accuracy is not None and accuracy < settings.min_accuracy:
        return Decision(
            False, f"its test accuracy is {accuracy:.3f}, and register.min_accuracy is {settings.min_accuracy:g}"
        )
    if settings.max_size_mb is not None and measured.size_mb > settings.max_size_mb:
        return Decision(
            False, f"it has {measured.size_mb:.1f} MB, and register.max_size_mb is {settings.max_size_mb:g}"
        )
    if settings.max_latency_ms is not None and measured.latency_ms > settings.max_latency_ms:
        return Decision(
            False,
            f"an image takes {measured.latency_ms:.1f} ms, and register.max_latency_ms is {settings.max_latency_ms:g}",
        )
    return Decision(True, "it is within the limits")


def against_champion(comparison: Comparison, margin: float | None) -> Decision:
    """Hold a candidate against the champion: it must be surely better, or with a margin surely not worse by more than it."""
    gain, images = comparison.difference, f"{comparison.num_images:,} test images"
    numbers = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] on {images}, p = {comparison.p_value:.2g}"
    champion = f"version {comparison.champion}"
    if margin is not None:
        worse = f"worse than {champion} by more than register.margin={margin:g}: {numbers}"
        return Decision(gain.low > -margin, f"it is {'surely not' if gain.low > -margin else 'perhaps'} {worse}")
    if gain.value > 0 and comparison.p_value < SURE:
        return Decision(True, f"it is surely better than {champion}: {numbers}")
    return Decision(False, f"it is not surely better than {champion}: {numbers}")


def compare(
    candidate: Package, champion: Package, version: str, prepared: Path | None, data: Path | None
) -> Comparison | str:
    """Compare two packages on the candidate's test images, less those that the champion was made with.

    Args:
        candidate: The candidate's package.
        champion: The champion's package.
        version: Version of the champion.
        prepared: Output of prepare that the candidate was tested on; needed where the champion was tested on other images.
        data: The raw images of these, needed where the champion prepares images in another way.

    Returns:
        The comparison, or a sentence why there is none.
    """
    if candidate.classes != champion.classes:
        return "it has other classes than the champion"
    mine, its = SeenImages.of(candidate), SeenImages.of(champion)
    run_again = not np.array_equal(np.sort(mine.test), np.sort(its.test))
    if run_again:
        if prepared is None:
            return "the champion was tested on other images, and this candidate's are not here"
        answers = _answers(candidate, champion, prepared, data)
        if answers is None:
            return "the champion prepares images in another way, and the raw images of this candidate's test split are not here"
    else:
        order = {digest: index for index, digest in enumerate(its.test.tolist())}
        answers = its.predicted[[order[digest] for digest in mine.test.tolist()]]
    fair = ~np.isin(mine.test, its.used)
    if not fair.any():
        return "the champion was made with all of this candidate's test images"
    right, its_right = (predicted[fair] == mine.labels[fair] for predicted in (mine.predicted, answers))
    shares = paired_shares(right, its_right)
    return Comparison(
        champion=version, num_images=shares.n, only_candidate=shares.gained, only_champion=shares.lost,
        difference=Interval(value=shares.difference, low=shares.low, high=shares.high), p_value=shares.p, run_again=run_again,
    )  # fmt: skip


def _answers(candidate: Package, champion: Package, prepared: Path, data: Path | None) -> NDArray[np.int64] | None:
    """The classes that the champion names on the candidate's test split; an image that it cannot read counts as wrong, −1."""
    classifier = Classifier(champion)
    names = read_parquet_column(prepared / "test" / "ids.parquet", "id")
    if champion.preprocessing == candidate.preprocessing.model_copy(
        update={"mean": champion.preprocessing.mean, "std": champion.preprocessing.std}
    ):
        images: Iterable[tuple[str, object]] = zip(
            names, np.load(prepared / "test" / "images.npy", mmap_mode="r"), strict=True
        )
    elif data is not None and (data / "source.json").exists():
        images = _raw(data, set(names))
    else:
        return None
    found: dict[str, int] = {}
    for batch in classifier.stream(images):
        labels = iter([] if batch.decisions is None else batch.decisions.labels.tolist())
        found |= {name: -1 if error else next(labels) for name, error in zip(batch.names, batch.errors, strict=True)}
    return np.array([found.get(name, -1) for name in names], np.int64)


def _raw(data: Path, wanted: set[str]) -> Iterator[tuple[str, object]]:
    """The raw images with these ids, block by block."""
    raw, begin = raw_dataset.read(data), 0
    for block in raw.blocks:
        ids = raw.ids[begin : begin + block.num_images]
        begin += block.num_images
        if wanted.isdisjoint(ids):
            continue
        yield from ((name, image) for name, image in zip(ids, block.read(), strict=True) if name in wanted)
