"""One block of raw images decoded, by whichever process: what each of its images becomes, and what is known of it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data import near_duplicates
from pipeline.data.decoding import BadImageError, decode, quiet_libraries, with_channels
from pipeline.data.images import fit_image
from pipeline.data.layouts import Block
from pipeline.data.near_duplicates import signature

Pixels = NDArray[np.uint8]

cv2.setNumThreads(1)  # the images are shared out among processes

_SPREAD_SIDE = 64
"""Pixels along the shorter side, or a little more, that tell how much an image varies."""

FACTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "content": ("uint8", (32,)), "shape": ("int32", (3,)), "num_bytes": ("int64", ()), "spread": ("float32", ()),
    "signature": ("uint8", (near_duplicates.SIGNATURE_BYTES,)),
}  # fmt: skip
"""What is known of each image, with its type and the lengths of an entry."""


@dataclass(frozen=True)
class Settings:
    """What decoding depends on beside the image.

    Attributes:
        size: Height and width in pixels afterwards.
        channels: 1 or 3.
        fit: As `pipeline.data.images.fit_image` takes it.
        max_pixels: Of an image; one with more is refused before it is decoded.
    """

    size: int
    channels: int
    fit: str
    max_pixels: int


@dataclass(frozen=True)
class BlockJob:
    """One block, and where what is made of it goes: into the array at `target` and into `record`."""

    block: Block
    settings: Settings
    target: Path
    offset: int
    begin: int
    record: Path
    earlier: Path | None

    def __call__(self) -> tuple[int, int]:
        """Decode, write, and count the images and those of them that an earlier version held."""
        with quiet_libraries():
            return self._decoded()

    def _decoded(self) -> tuple[int, int]:
        raw, settings = self.block.read(), self.settings
        content = np.stack([_sha256(image) for image in raw])
        facts = {name: np.zeros((len(raw), *lengths), dtype) for name, (dtype, lengths) in FACTS.items()}
        facts["content"][:] = content
        fitted = np.zeros((len(raw), settings.size, settings.size, settings.channels), np.uint8)
        problems: dict[int, tuple[str, str]] = {}
        reused = _reuse(self.earlier, fitted, facts, problems)
        for place in np.flatnonzero(~reused):
            try:
                fitted[place] = _decode_one(
                    raw[place], settings, {name: facts[name][place : place + 1] for name in FACTS}
                )
            except BadImageError as error:
                problems[int(place)] = (error.problem, error.evidence)
        with self.target.open("r+b") as file:
            file.seek(self.offset + self.begin * fitted[0].nbytes)
            file.write(fitted.data)
        self.record.with_suffix(".json").write_text(json.dumps(problems))
        draft = self.record.with_suffix(".draft.npz")
        np.savez(draft, **facts)  # type: ignore[arg-type]
        draft.rename(self.record)  # last and whole: a block counts as done once its record is there
        return len(raw), int(reused.sum())


def _decode_one(image: bytes | Pixels, settings: Settings, facts: dict[str, NDArray[Any]]) -> Pixels:
    """The image at its size; its facts are written into arrays of one entry.

    Raises:
        BadImageError: It cannot be decoded.
    """
    pixels = image if isinstance(image, np.ndarray) else decode(image, settings.max_pixels)
    facts["num_bytes"][0] = pixels.nbytes if isinstance(image, np.ndarray) else len(image)
    facts["shape"][0] = pixels.shape
    step = max(1, min(pixels.shape[:2]) // _SPREAD_SIDE)
    facts["spread"][0] = cv2.meanStdDev(pixels[::step, ::step].reshape(-1, 1))[1][0, 0]
    facts["signature"][0] = signature(pixels)
    return fit_image(with_channels(pixels, settings.channels), settings.size, settings.fit)


def _reuse(
    earlier: Path | None, fitted: Pixels, facts: dict[str, NDArray[Any]], problems: dict[int, tuple[str, str]]
) -> NDArray[np.bool_]:
    """Fill in what `earlier` holds of the images with the same content, and tell which these are."""
    reused = np.zeros(len(fitted), np.bool_)
    if earlier is None:
        return reused
    keys, order, content = (np.load(earlier / f"{name}.npy", mmap_mode="r") for name in ("keys", "order", "content"))
    places = np.searchsorted(keys, keys_of_content(facts["content"])).clip(max=len(keys) - 1)
    rows = order[places]
    reused[:] = (content[rows] == facts["content"]).all(axis=1)
    chosen = rows[reused]
    fitted[reused] = np.load(earlier / "images.npy", mmap_mode="r")[chosen]
    for name in FACTS:
        facts[name][reused] = np.load(earlier / f"{name}.npy", mmap_mode="r")[chosen]
    known = read_problems(earlier / "problems.json")
    if known:
        problems |= {
            int(place): known[int(rows[place])] for place in np.flatnonzero(reused) if int(rows[place]) in known
        }
    return reused


def _sha256(data: bytes | Pixels) -> Pixels:
    """Of bytes, or of pixels row by row, channels last."""
    return np.frombuffer(hashlib.sha256(data if isinstance(data, bytes) else data.data).digest(), np.uint8)


def keys_of_content(content: Pixels) -> NDArray[np.uint64]:
    """The first 8 of the 32 bytes of each digest, as one number to sort by."""
    return np.ascontiguousarray(content[:, :8]).view(">u8").ravel().astype(np.uint64)


def read_problems(path: Path) -> dict[int, tuple[str, str]]:
    return {int(place): (problem, evidence) for place, (problem, evidence) in json.loads(path.read_text()).items()}
