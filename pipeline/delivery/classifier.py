"""Classifies images with a package: the public face of goodfit in Python. It needs neither torch nor MLflow."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.delivery import package
from pipeline.delivery.decisions import Decisions, decide
from pipeline.delivery.images import Image, preparer
from pipeline.delivery.package import Package
from pipeline.errors import ConfigError, DataError
from pipeline.metrics.calibration import log_mean_softmax
from pipeline.views import VIEWS

if TYPE_CHECKING:
    import pandas as pd

Pixels = NDArray[np.uint8]

BATCH = 64
"""Number of images at a time: enough that the network works at its full speed, few enough that memory stays flat."""


class Batch(NamedTuple):
    """Consecutive images and what was decided about them.

    Attributes:
        names: Path of each image, or an empty text.
        pixels: The images as the network saw them, uint8 of shape (n, size, size, channels), where n counts those that could be
            read.
        decisions: Decisions about these n; None where n is 0.
        errors: For each image, why it could not be read, or None.
    """

    names: list[str]
    pixels: Pixels
    decisions: Decisions | None
    errors: list[str | None]


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
        self.threads = (
            threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads leave cores to decoding
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

    def predict(self, images: Iterable[Image], *, tta: str | None = None) -> "pd.DataFrame":
        """Classify images.

        Args:
            images: Paths, contents of image files as bytes, arrays (uint8 of shape (height, width) or (height, width, channels)
                with 1, 3 or 4 channels) or Pillow images, also mixed.
            tta: Views of each image to average over: `none`, `flip` or `flip_shift`; None: those of the evaluation, for which
                the probabilities are calibrated.

        Returns:
            A row for each image, in their order, with the columns `image` (its path, or None), `label` (name of the class),
            `probability` (calibrated, of that class), `unknown` (whether it is unlike the images of the training; None where
            the package cannot tell), `set` (names of the classes that may be meant at the package's coverage; None where
            there are no sets), `error` (why the image could not be read, else None; then the others are empty), and `p_<class>`
            with the calibrated probability of each class.

        Raises:
            ConfigError: There are no such views.
        """
        import pandas as pd

        frames = [self.frame(batch) for batch in self.stream(((_name(image), image) for image in images), tta=tta)]
        return pd.concat(frames, ignore_index=True) if frames else self.frame(Batch([], self._no_pixels(), None, []))

    def stream(self, images: Iterable[tuple[str, Image]], *, tta: str | None = None) -> Iterator[Batch]:
        """Classify named images batch by batch, in their order; they are read ahead on all cores, and memory stays flat.

        Raises:
            ConfigError: There are no such views.
        """
        views = tta or self.package.thresholds.calibration.tta
        if views not in VIEWS:
            raise ConfigError(f"tta must be one of {', '.join(VIEWS)}; got {views!r}.")
        given, waiting = iter(images), deque[tuple[str, Future[Pixels | str]]]()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            while True:
                for name, image in islice(given, 2 * BATCH - len(waiting)):
                    waiting.append((name, pool.submit(self._prepare, image)))
                if not waiting:
                    return
                taken = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
                yield self._decided([name for name, _ in taken], [future.result() for _, future in taken], views)

    def frame(self, batch: Batch) -> "pd.DataFrame":
        """A batch as a table with the columns of `predict`."""
        import pandas as pd

        readable = np.array([error is None for error in batch.errors], np.bool_)
        probabilities = np.full((len(batch.names), len(self.classes)), np.nan, np.float32)
        label, chosen = np.full((2, len(batch.names)), None, object)
        unknown, sets = np.full((2, len(batch.names)), None, object)
        if (decided := batch.decisions) is not None:
            probabilities[readable] = decided.probabilities
            label[readable] = [self.classes[index] for index in decided.labels]
            chosen[readable] = decided.probabilities[np.arange(len(decided.labels)), decided.labels]
            if decided.unknown is not None:
                unknown[readable] = decided.unknown.tolist()
            for position, inside in zip(
                np.flatnonzero(readable), decided.sets if decided.sets is not None else (), strict=False
            ):
                sets[position] = [name for name, is_inside in zip(self.classes, inside, strict=True) if is_inside]
        columns = {
            "image": [name or None for name in batch.names], "label": label, "probability": chosen.astype(np.float32),
            "unknown": unknown, "set": sets, "error": batch.errors,
        }  # fmt: skip
        columns |= {f"p_{name}": probabilities[:, index] for index, name in enumerate(self.classes)}
        return pd.DataFrame(columns)

    def outputs(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and last features of prepared images, uint8 of shape (n, size, size, channels), n >= 1."""
        logits, features = self._session.run(["logits", "features"], {"images": np.ascontiguousarray(pixels)})
        return logits, features

    def decisions(self, pixels: Pixels, tta: str) -> Decisions:
        """Decisions about prepared images, uint8 of shape (n, size, size, channels), n >= 1."""
        first, *others = VIEWS[tta]
        logits, features = self.outputs(first(pixels))
        log_probabilities = log_mean_softmax([logits, *(self.outputs(view(pixels))[0] for view in others)])
        known = self.package
        return decide(logits, features, log_probabilities, known.thresholds, known.clusters, self.classes)

    def _decided(self, names: list[str], prepared: Sequence[Pixels | str], tta: str) -> Batch:
        errors = [image if isinstance(image, str) else None for image in prepared]
        readable = [image for image in prepared if not isinstance(image, str)]
        if not readable:
            return Batch(names, self._no_pixels(), None, errors)
        pixels = np.stack(readable)
        return Batch(names, pixels, self.decisions(pixels, tta), errors)

    def _no_pixels(self) -> Pixels:
        how = self.package.preprocessing
        return np.empty((0, how.size, how.size, how.channels), np.uint8)


def _name(image: Image) -> str:
    return str(image) if isinstance(image, str | Path) else ""
