"""Finds near duplicates: copies, re-encodings, slightly resized, mirrored or shifted versions of the same picture.

An image's signature is a grey thumbnail of 16×16 pixels. Two images are compared by the 8×8 lowest frequencies of its
discrete cosine transform, as in perceptual hashing (Zauner 2010, "Implementation and Benchmarking of Perceptual Image
Hash Functions"), but by their values instead of their signs. JPEG changes mostly the higher frequencies; one product, digit
or face differs from another in the low ones. `docs/near-duplicates.md` tells how the limits were chosen and what they find.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data.pixels import Images

Signatures: TypeAlias = NDArray[np.uint8]
"""uint8 of shape (n, `SIGNATURE_BYTES`), in memory or mapped."""

Pairs: TypeAlias = NDArray[np.int64]
"""int64 of shape (m, 2), rising; of each pair, the smaller index comes first."""

Floats: TypeAlias = NDArray[np.floating[Any]]

SIDE = 16
SIGNATURE_BYTES = SIDE * SIDE + 4
"""The thumbnail, row by row, and the image's height and width as little-endian 16-bit numbers."""

VARIANTS = ("same", "mirrored", "right", "down")
"""Versions of an image that are searched for: itself, its mirror image, itself shifted by `SHIFT_PIXELS` to the right or
down (a shift to the left or up is found from the other image of the pair)."""

SHIFT_PIXELS = 2
LOW = 8
"""Number of the lowest frequencies along each axis."""
INDEXED = 20
"""Number of coefficients in the search tree. Their distance is at most that of all 64, so the tree loses no pair."""
NEIGHBOURS = 16
"""Number of images in the tree that each image is compared with; `MOST_NEIGHBOURS` where none of them is near after all."""
MOST_NEIGHBOURS = 256
BLANK = 2.0
"""Contrast, in grey levels of 255, below which an image counts as blank."""
SPOT = 5.5
"""Largest peak of a difference, in multiples of its root mean square. JPEG's difference spreads over the image; a print or
a badge in one spot makes another picture."""
MOST_STRETCHED = 0.1
"""Largest difference of log(width / height) between the two images of a pair."""
CHUNK = 1024

_FREQUENCIES = np.arange(SIDE)[:, None]
_PLACES = np.arange(SIDE) + 0.5
_SCALE = np.sqrt(np.where(_FREQUENCIES == 0, 1, 2) / SIDE)
_COSINES: Floats = (_SCALE * np.cos(np.pi * _FREQUENCIES * _PLACES / SIDE)).astype(np.float32)
"""The orthonormal DCT-II (Ahmed, Natarajan and Rao 1974, https://doi.org/10.1109/T-C.1974.223784): frequency, pixel.

A product with its 8 lowest rows takes a third to a fifth of the time of SciPy's `dctn`, which computes all 16."""
_LOWEST = sorted(range(LOW * LOW), key=lambda number: (sum(divmod(number, LOW)), number))[:INDEXED]


def signature(image: Images) -> NDArray[np.uint8]:
    """Signature of an image, by which its near duplicates are found.

    Args:
        image: uint8 of shape (height, width, channels), before it is fitted to the training size; 1 channel is grey,
            3 are red, green and blue.

    Returns:
        uint8 of shape (`SIGNATURE_BYTES`,).
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image
    row = np.empty(SIGNATURE_BYTES, dtype=np.uint8)
    row[:-4] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    row[-4:].view("<u2")[:] = min(image.shape[0], 65_535), min(image.shape[1], 65_535)
    return row


def near_duplicates(signatures: Signatures, variants: Sequence[str] = VARIANTS) -> Pairs:
    """Find the pairs of images that show nearly the same picture.

    The order of the images does not matter. Blank images have no pairs. An image is paired with the first one of equal
    signature only, and compared with its nearest `NEIGHBOURS` only: enough to connect many alike, without all their pairs.

    Args:
        signatures: Rows from `signature`, in memory or mapped; they are read in pieces.
        variants: Some of `VARIANTS`, each searched for separately.

    Raises:
        ValueError: A variant is unknown.
    """
    from scipy.spatial import cKDTree

    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown:
        raise ValueError(f"variants must be among {', '.join(VARIANTS)}; got {unknown[0]!r}. Leave it out.")
    first, copies = _distinct(signatures)
    low, reach = _describe(signatures, first)
    has_contrast = reach > 0
    pairs = [copies[np.isin(copies[:, 0], first[has_contrast])]]
    # Ordered by reach, each chunk can be searched with nearly the radius that each of its images needs.
    order = np.argsort(reach, kind="stable")[np.count_nonzero(~has_contrast) :]
    first, low, reach = first[order], low[order], reach[order]
    tree = cKDTree(low)
    for start in range(0, len(first), CHUNK):
        rows = signatures[first[start : start + CHUNK]]
        radius = float(reach[start : start + CHUNK].max()) + 1e-3  # for rounding errors; `_near` decides
        for variant in variants:
            pixels = _as_variant(rows, variant)
            waves = _waves(pixels)[:, _LOWEST]
            alone = np.arange(len(rows))
            for count in (NEIGHBOURS, MOST_NEIGHBOURS):
                _, neighbours = tree.query(waves[alone], k=count + 1, distance_upper_bound=radius, workers=-1)
                line, column = np.nonzero((neighbours < len(first)) & (neighbours != start + alone[:, None]))
                query, other = alone[line], neighbours[line, column]
                limit = np.minimum(reach[start + query], reach[other])
                near = _near(pixels[query], rows[query], signatures[first[other]], limit)
                pairs.append(np.stack([first[start + query[near]], first[other[near]]], axis=1))
                # An image with all the candidates asked for, and no near one among them, is searched once more.
                alone = np.setdiff1d(alone[neighbours[:, -1] < len(first)], query[near])
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _distinct(signatures: Signatures) -> tuple[NDArray[np.int64], Pairs]:
    """The first of each set of equal signatures, and its pairs with the others.

    The sets are ordered by a hash of their content, so that no result depends on the order of the images.
    """
    chunks = (np.ascontiguousarray(signatures[start : start + CHUNK]) for start in range(0, len(signatures), CHUNK))
    digests = (hashlib.blake2b(row, digest_size=8).digest() for chunk in chunks for row in chunk)
    hashes = np.frombuffer(b"".join(digests), dtype="<u8")
    _, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    pairs = np.stack([first[number], np.arange(len(signatures))], axis=1)
    return first, pairs[pairs[:, 0] < pairs[:, 1]]


def _describe(signatures: Signatures, chosen: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The `INDEXED` coefficients of the chosen images, and the largest distance of a near duplicate; 0 for a blank image."""
    low, reach = np.empty((len(chosen), INDEXED)), np.empty(len(chosen))
    for start in range(0, len(chosen), CHUNK):
        piece = slice(start, start + CHUNK)
        rows = signatures[chosen[piece]]
        waves = _waves(_pixels(rows))
        contrast = np.linalg.norm(waves[:, 1:], axis=1)
        # What a JPEG of quality 50 changes falls with the side of the image; resizing and rounding need 2 in any size.
        side = np.sqrt(_sizes(rows).prod(axis=1))
        noise = np.maximum(2.0, 180 / side**1.2)
        low[piece] = waves[:, _LOWEST]
        reach[piece] = np.where(contrast < BLANK, 0.0, np.minimum(noise, contrast * np.maximum(0.1, 1.6 / side)))
    return low, reach


def _near(pixels: Floats, rows: Signatures, others: Signatures, limit: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each thumbnail in `pixels`, a variant of one of `rows`, shows nearly the same picture as the one of `others`."""
    waves = _waves(pixels - _pixels(others))
    distance = np.linalg.norm(waves, axis=1)
    difference = _COSINES[:LOW].T @ waves.reshape(-1, LOW, LOW) @ _COSINES[:LOW] * SIDE
    in_one_spot = np.abs(difference).max(axis=(1, 2)) > SPOT * distance
    stretched = np.abs(_stretch(rows) - _stretch(others)) > MOST_STRETCHED
    return (distance <= limit) & ~(in_one_spot & (distance > limit / 2)) & ~stretched


def _pixels(rows: Signatures) -> Floats:
    """The thumbnails: float32 of shape (n, `SIDE`, `SIDE`)."""
    return rows[:, :-4].reshape(-1, SIDE, SIDE).astype(np.float32)


def _sizes(rows: Signatures) -> NDArray[np.float64]:
    """Height and width of the images: float64 of shape (n, 2)."""
    return np.ascontiguousarray(rows[:, -4:]).view("<u2").astype(np.float64)


def _stretch(rows: Signatures) -> NDArray[np.float64]:
    height, width = _sizes(rows).T
    return np.log(width / height)


def _waves(pixels: Floats) -> Floats:
    """The `LOW`² lowest coefficients, scaled so that their norm is the root mean square of the grey levels they make."""
    waves = _COSINES[:LOW] @ pixels @ _COSINES[:LOW].T / np.float32(SIDE)
    return waves.reshape(len(pixels), LOW * LOW)


def _as_variant(rows: Signatures, variant: str) -> Floats:
    """The thumbnails of the mirrored or shifted images."""
    pixels, (height, width) = _pixels(rows), _sizes(rows).T
    match variant:
        case "mirrored":
            return pixels[:, :, ::-1]
        case "right":
            return pixels @ _mover(width)
        case "down":
            return np.swapaxes(_mover(height), 1, 2) @ pixels
    return pixels


def _mover(sides: NDArray[np.float64]) -> Floats:
    """Matrices that shift a row of a thumbnail by `SHIFT_PIXELS` of the image, for images with these sides.

    The row's cosines continue beyond it, so that it can shift by a fraction of a pixel, and its mirror image enters at its
    end.
    """
    unique, number = np.unique(sides, return_inverse=True)
    moved: NDArray[Any] = _PLACES - (SHIFT_PIXELS * SIDE / unique)[:, None]
    cosines = _SCALE * np.cos(np.pi * _FREQUENCIES * moved[:, None] / SIDE)  # side, frequency, pixel
    return (_COSINES.T @ cosines).astype(np.float32)[number]
