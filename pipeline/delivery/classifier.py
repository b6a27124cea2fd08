"""Classifies images with a package: the public face of goodfit in Python. It needs neither torch nor MLflow."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.delivery import package
from pipeline.delivery.decisions import Decisions, Wishes, decide
from pipeline.delivery.images import Image, Prepared, preparer
from pipeline.delivery.package import Package
from pipeline.errors import DataError
from pipeline.metrics.calibration import log_mean_softmax
from pipeline.views import VIEWS

if TYPE_CHECKING:
    import pandas as pd

Pixels = NDArray[np.uint8]

BATCH = 64
"""Number of images at a time: enough that the network works at its full speed, few enough that memory stays flat."""


GROUP = 8
"""Number of images that a thread takes at a time, as handing them over one by one costs as much as decoding a small one."""


class Batch(NamedTuple):
    """Consecutive images and what was decided about them.

    Attributes:
        names: Path of each image, or an empty text.
        pixels: The images as the network saw them, uint8 of shape (n, size, size, channels), where n counts those that could be
            read.
        decisions: Decisions about these n; None where n is 0.
        errors: For each image, why it could not be read, or None.
        shapes: Height and width of these n images before they were prepared.
    """

    names: list[str]
    pixels: Pixels
    decisions: Decisions | None
    errors: list[str | None]
    shapes: Sequence[tuple[int, int]] = ()


class Answers(NamedTuple):
    """What is told about n consecutive images.

    Attributes:
        names: Path of each image, or None.
        labels: Name of its class; None where it could not be read, as in the others.
        chosen: Calibrated probability of that class.
        unknown: Whether it is unlike the images of the training; None where nothing tells.
        sets: Names of the classes that may be meant at the package's coverage; None where there are no sets.
        errors: Why it could not be read, or None.
        probabilities: Calibrated probabilities, float32 of shape (n, classes).
    """

    names: list[str | None]
    labels: list[str | None]
    chosen: list[float | None]
    unknown: list[bool | None]
    sets: list[list[str] | None]
    errors: list[str | None]
    probabilities: NDArray[np.float32]

    def columns(self) -> dict[str, list[Any]]:
        """The columns before those with the probability of each class, by their names in every format."""
        return {
            "image": self.names, "label": self.labels, "probability": self.chosen, "unknown": self.unknown, "set": self.sets,
            "error": self.errors,
        }  # fmt: skip


class Classifier:
    """A trained network with everything that a prediction needs.

    >>> classifier = Classifier.load("build/package")     # doctest: +SKIP
    >>> classifier.predict(["shoe.jpg", "bag.png"])       # doctest: +SKIP
           image        label  probability  unknown           set error  p_Bag  …
    0   shoe.jpg   Ankle boot         0.97    False  [Ankle boot]  None   0.00  …
    1    bag.png          Bag         0.99    False         [Bag]  None   0.99  …

    Attributes:
        package: Content of the package.
        classes: Names of the classes.
    """

    def __init__(self, content: Package, threads: int | None = None) -> None:
        import onnxruntime

        self.package, self.classes = content, content.classes
        self.threads = threads or _num_cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoding needs the cores in between
        try:  # from memory, so that the model can name no other file
            self._session = onnxruntime.InferenceSession(content.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{content.place} must hold a model that ONNX Runtime reads: {reason}") from None
        self._prepare = preparer(content.preprocessing)

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None) -> Self:
        """Load a package.

        Args:
            path: Folder that `python -m pipeline.package` made, or a ZIP file of one.
            threads: Number of threads; None: one for each core.

        Raises:
            DataError: It is no package, holds another file than its manifest names, or a file has changed.
        """
        return cls(package.read(Path(path)), threads)

    def predict(
        self, images: Iterable[Image], *, tta: str | None = None, threshold: float | None = None,
        operating_point: tuple[str, float] | None = None,
    ) -> "pd.DataFrame":  # fmt: skip
        """Classify images.

        Args:
            images: Paths, contents of image files as bytes, arrays (uint8 of shape (height, width) or (height, width, channels)
                with 1, 3 or 4 channels) or Pillow images, also mixed.
            tta: Views of each image to average over: `none`, `flip` or `flip_shift`; None: those of the evaluation, for which
                the probabilities are calibrated.
            threshold: Probability below which an image is unknown; None: only the package's outlier score tells.
            operating_point: Name of a class, and the probability from which it is named, even where another one is more
                probable; None: the package's, if it has one.

        Returns:
            A row for each image, in their order, with the columns `image` (its path, or None), `label` (name of the class),
            `probability` (calibrated, of that class), `unknown` (whether it is unlike the images of the training; None where
            the package cannot tell), `set` (names of the classes that may be meant at the package's coverage; None where
            there are no sets), `error` (why the image could not be read, else None; then the others are empty), and `p_<class>`
            with the calibrated probability of each class.

        Raises:
            ConfigError: There are no such views, no such class, or a probability is outside of [0, 1].
        """
        import pandas as pd

        wishes = Wishes(tta, threshold, operating_point)
        frames = [self.frame(batch) for batch in self.stream(((_name(image), image) for image in images), wishes)]
        return pd.concat(frames, ignore_index=True) if frames else self.frame(Batch([], self._no_pixels(), None, []))

    def stream(self, images: Iterable[tuple[str, Image]], wishes: Wishes = Wishes()) -> Iterator[Batch]:  # noqa: B008
        """Classify named images batch by batch, in their order; they are read ahead on all cores, and memory stays flat.

        Raises:
            ConfigError: There is not what `wishes` asks for.
        """
        wishes.check(self.classes)
        given, waiting = iter(images), deque[tuple[list[str], Future[list[Prepared | str]]]]()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
        try:
            while True:
                while len(waiting) < 2 * BATCH // GROUP and (group := list(islice(given, GROUP))):
                    names, pictures = map(list, zip(*group, strict=True))
                    waiting.append((names, pool.submit(self._prepare_all, pictures)))
                if not waiting:
                    return
                taken = [waiting.popleft() for _ in range(min(BATCH // GROUP, len(waiting)))]
                prepared = [image for _, future in taken for image in future.result()]
                yield self._decided([name for names, _ in taken for name in names], prepared, wishes)
        finally:
            pool.shutdown(cancel_futures=True)  # after a Ctrl-C, what waits is not decoded first

    def _prepare_all(self, images: Sequence[Image]) -> list[Prepared | str]:
        return [self._prepare(image) for image in images]

    def frame(self, batch: Batch) -> "pd.DataFrame":
        """A batch as a table with the columns of `predict`."""
        import pandas as pd

        answers = self.answers(batch)
        columns = {
            name: pd.Series(column, dtype=object) for name, column in answers.columns().items()
        }  # None stays None
        columns["probability"] = columns["probability"].astype(np.float32)
        columns |= {f"p_{name}": pd.Series(answers.probabilities[:, index]) for index, name in enumerate(self.classes)}
        return pd.DataFrame(columns)

    def answers(self, batch: Batch) -> Answers:
        """A batch with the names of the classes, and a place for each image that could not be read."""
        readable = np.array([error is None for error in batch.errors], np.bool_)
        num_images = len(batch.names)
        probabilities = np.full((num_images, len(self.classes)), np.nan, np.float32)
        answers = Answers(
            [name or None for name in batch.names], [None] * num_images, [None] * num_images, [None] * num_images,
            [None] * num_images, batch.errors, probabilities,
        )  # fmt: skip
        if (decided := batch.decisions) is None:
            return answers
        probabilities[readable] = decided.probabilities
        rows, named = np.arange(len(decided.labels)), decided.labels.tolist()
        unknown = decided.unknown.tolist() if decided.unknown is not None else [None] * len(rows)
        sets = decided.sets.tolist() if decided.sets is not None else [None] * len(rows)
        told = zip(named, decided.probabilities[rows, decided.labels].tolist(), unknown, sets, strict=True)
        for position, (index, chosen, is_unknown, inside) in zip(np.flatnonzero(readable).tolist(), told, strict=True):
            answers.labels[position], answers.chosen[position] = self.classes[index], chosen
            answers.unknown[position] = is_unknown
            answers.sets[position] = None if inside is None else list(compress(self.classes, inside))
        return answers

    def outputs(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and last features of prepared images, uint8 of shape (n, size, size, channels), n >= 1."""
        logits, features = self._session.run(["logits", "features"], {"images": np.ascontiguousarray(pixels)})
        return logits, features

    def decisions(self, pixels: Pixels, wishes: Wishes = Wishes()) -> Decisions:  # noqa: B008
        """Decisions about prepared images, uint8 of shape (n, size, size, channels), n >= 1."""
        first, *others = VIEWS[wishes.tta or self.package.thresholds.calibration.tta]
        logits, features = self.outputs(first(pixels))
        log_probabilities = log_mean_softmax([logits, *(self.outputs(view(pixels))[0] for view in others)])
        known = self.package
        return decide(logits, features, log_probabilities, known.thresholds, known.clusters, self.classes, wishes)

    def _decided(self, names: list[str], prepared: Sequence[Prepared | str], wishes: Wishes) -> Batch:
        errors = [image if isinstance(image, str) else None for image in prepared]
        readable = [image for image in prepared if not isinstance(image, str)]
        if not readable:
            return Batch(names, self._no_pixels(), None, errors)
        pixels = np.stack([image.pixels for image in readable])
        return Batch(names, pixels, self.decisions(pixels, wishes), errors, [image.shape for image in readable])

    def _no_pixels(self) -> Pixels:
        how = self.package.preprocessing
        return np.empty((0, how.size, how.size, how.channels), np.uint8)


def _name(image: Image) -> str:
    return str(image) if isinstance(image, str | Path) else ""


def _num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
