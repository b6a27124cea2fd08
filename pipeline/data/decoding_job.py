"""Decodes one block of raw images in a process of its own, and measures each image."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data import near_duplicates
from pipeline.data.decoding import quiet_libraries
from pipeline.data.image_headers import BadImageError
from pipeline.data.near_duplicates import signature
from pipeline.data.preparation import Preprocessing, prepared
from pipeline.data.raw_dataset import Block
from pipeline.storage.arrays import read_array
from pipeline.storage.checksums import read_text

Pixels = NDArray[np.uint8]

cv2.setNumThreads(1)  # the images are shared out among processes

_SPREAD_SIDE = 64
"""Number of pixels along the shorter side, or a little more, that the standard deviation is computed from."""

FACTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "content": ("uint8", (32,)), "shape": ("int32", (3,)), "num_bytes": ("int64", ()), "spread": ("float32", ()),
    "peak": ("float32", ()), "inverted": ("uint8", ()), "white_drawing": ("uint8", ()),
    "signature": ("uint8", (near_duplicates.SIGNATURE_BYTES,)),
}  # fmt: skip
"""Type and shape of each measurement of an image; see `pipeline.data.decoded_images.Facts`."""


@dataclass(frozen=True)
class DecodingJob:
    """Decodes one block into `target`, the array of all decoded images, whose first one begins at the byte `offset`.

    The block's first image has the number `begin` there. The block is done once `record`, with the measurements of its images,
    exists. `earlier` holds an earlier version's decoded images, which are reused.
    """

    block: Block
    how: Preprocessing
    max_pixels: int
    target: Path
    offset: int
    begin: int
    record: Path
    earlier: Path | None

    def __call__(self) -> tuple[int, int]:
        """Decode and write the images; returns their number, and the number of those that were reused."""
        with quiet_libraries():
            return self._run()

    def _run(self) -> tuple[int, int]:
        raw, how = self.block.read(), self.how
        facts = {name: np.zeros((len(raw), *lengths), dtype) for name, (dtype, lengths) in FACTS.items()}
        facts["content"][:] = [_sha256(image) for image in raw]
        fitted = np.zeros((len(raw), how.size, how.size, how.channels), np.uint8)
        problems: dict[int, tuple[str, str]] = {}
        reused = _reuse(self.earlier, fitted, facts, problems)
        for index in np.flatnonzero(~reused):
            facts_of_image = {name: values[index : index + 1] for name, values in facts.items()}
            try:
                fitted[index] = _prepare_and_measure(raw[index], how, self.max_pixels, facts_of_image)
            except BadImageError as error:
                problems[int(index)] = (error.problem, error.evidence)
        with self.target.open("r+b") as file:
            file.seek(self.offset + self.begin * fitted[0].nbytes)
            file.write(fitted.data)
        self.record.with_suffix(".json").write_text(json.dumps(problems))
        draft = self.record.with_suffix(".draft.npz")
        np.savez(draft, **facts)  # type: ignore[arg-type]
        draft.rename(self.record)  # last and whole: a block counts as done once its record exists
        return len(raw), int(reused.sum())


def _prepare_and_measure(
    image: bytes | Pixels, how: Preprocessing, max_pixels: int, facts: dict[str, NDArray[Any]]
) -> Pixels:
    """Prepare an image, and write its measurements into arrays of one entry.

    Raises:
        BadImageError: The image cannot be decoded.
    """
    fitted, decoded = prepared(image, how, max_pixels)
    pixels = decoded.pixels
    facts["num_bytes"][0] = pixels.nbytes if isinstance(image, np.ndarray) else len(image)
    facts["shape"][0] = pixels.shape
    facts["peak"][0], facts["inverted"][0] = decoded.peak, decoded.inverted
    facts["white_drawing"][0] = decoded.white_drawing
    step = max(1, min(pixels.shape[:2]) // _SPREAD_SIDE)
    facts["spread"][0] = cv2.meanStdDev(pixels[::step, ::step].reshape(-1, 1))[1][0, 0]
    facts["signature"][0] = signature(pixels)
    return fitted


def _reuse(
    earlier: Path | None, fitted: Pixels, facts: dict[str, NDArray[Any]], problems: dict[int, tuple[str, str]]
) -> NDArray[np.bool_]:
    """Fill in the images that `earlier` holds with the same content; returns which these are."""
    reused = np.zeros(len(fitted), np.bool_)
    if earlier is None:
        return reused
    keys, order, content = (read_array(earlier / f"{name}.npy") for name in ("keys", "order", "content"))
    positions = np.searchsorted(keys, keys_of_content(facts["content"])).clip(max=len(keys) - 1)
    rows = order[positions]
    reused[:] = (content[rows] == facts["content"]).all(axis=1)
    chosen = rows[reused]
    fitted[reused] = read_array(earlier / "images.npy")[chosen]
    for name in FACTS:
        facts[name][reused] = read_array(earlier / f"{name}.npy")[chosen]
    if known := read_problems(earlier / "problems.json"):
        rows_of = zip(np.flatnonzero(reused).tolist(), chosen.tolist(), strict=True)
        problems |= {index: known[row] for index, row in rows_of if row in known}
    return reused


def _sha256(data: bytes | Pixels) -> Pixels:
    """SHA-256 of bytes, or of pixels row by row, channels last."""
    return np.frombuffer(hashlib.sha256(data if isinstance(data, bytes) else data.data).digest(), np.uint8)


def keys_of_content(content: Pixels) -> NDArray[np.uint64]:
    """The first 8 bytes of each digest, as a number to sort by."""
    return np.ascontiguousarray(content[:, :8]).view(">u8").ravel().astype(np.uint64)


def read_problems(path: Path) -> dict[int, tuple[str, str]]:
    """Problem and evidence of the images that could not be decoded, by their index."""
    return {int(index): (problem, evidence) for index, (problem, evidence) in json.loads(read_text(path)).items()}
