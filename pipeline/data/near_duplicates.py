"""Which images are nearly the same picture: copies, re-encodings, slightly resized, mirrored or shifted versions.

An image's signature is a grey thumbnail of 16×16 pixels. Two images are compared by the 8×8 lowest frequencies of its
discrete cosine transform, as perceptual hashing does (Zauner 2010, "Implementation and Benchmarking of Perceptual Image
Hash Functions"), but by their values, not by their signs alone: what JPEG changes lies in the higher frequencies, and
what two products or two digits differ in lies here. `docs/near-duplicates.md` tells how the limits were chosen.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import Images

Signatures: TypeAlias = NDArray[np.uint8]
"""uint8 of shape (n, `SIGNATURE_BYTES`), in memory or mapped."""

Pairs: TypeAlias = NDArray[np.int64]
"""int64 of shape (m, 2); the first index of each pair is the smaller one."""

SIDE = 16
SIGNATURE_BYTES = SIDE * SIDE + 4
"""The thumbnail, row by row, and the image's height and width as little-endian 16-bit numbers."""

VARIANTS = ("same", "mirrored", "right", "down")
"""What an image is looked for as: itself, its mirror image, itself shifted by `SHIFT` pixels (left and up are found from
the other image of a pair)."""

SHIFT = 2
LOW = 8  # frequencies along each axis
INDEXED = 20  # of the 64, that the tree holds; their distance is never above that of all, so it loses no pair
NEIGHBOURS = 16
CHUNK = 4096
LARGEST_STRETCH = 0.1  # of the logarithm of width / height, between two images of a pair
BLANK_CONTRAST = 2.0

_GRID = np.arange(SIDE)
_SCALE = np.sqrt(np.where(_GRID == 0, 1, 2) / SIDE)
_COSINES = _SCALE[:, None] * np.cos(np.pi * _GRID[:, None] * (_GRID + 0.5) / SIDE)  # frequency, pixel: orthonormal DCT-II
_ODD = np.tile(np.where(np.arange(LOW) % 2, -1.0, 1.0), LOW)  # mirroring changes the sign of the odd horizontal waves
_LOWEST = sorted(range(LOW * LOW), key=lambda place: (sum(divmod(place, LOW)), place))[:INDEXED]


def signature(image: Images) -> NDArray[np.uint8]:
    """What is kept of an image to find its near duplicates.

    Args:
        image: uint8 of shape (height, width, channels), before it is fitted to the training size; 1 channel is grey,
            3 are red, green and blue.

    Returns:
        uint8 of shape (`SIGNATURE_BYTES`,).
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image
    row = np.empty(SIGNATURE_BYTES, dtype=np.uint8)
    row[: SIDE * SIDE] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    row[SIDE * SIDE :].view("<u2")[:] = min(image.shape[0], 65_535), min(image.shape[1], 65_535)
    return row


def near_duplicates(signatures: Signatures, variants: Sequence[str] = VARIANTS) -> Pairs:
    """Pairs of images that are nearly the same picture.

    The order of the images does not matter, and blank ones have no pairs. Images with equal signatures are all paired
    with the first of them only, and where an image has more than `NEIGHBOURS` near duplicates, with its nearest ones:
    enough to connect them, and never all the pairs of a crowd.

    Args:
        signatures: From `signature`; may be mapped, and is read in pieces.
        variants: Of `VARIANTS`; each costs a search.

    Returns:
        The pairs, rising.
    """
    from scipy.spatial import cKDTree

    first, copies = _distinct(signatures)
    thumbnails = _Thumbnails(signatures, first)
    seen = np.flatnonzero(thumbnails.reach > 0)
    found = [copies[np.isin(copies[:, 0], first[seen])]]
    if len(seen):
        tree = cKDTree(thumbnails.waves[seen][:, _LOWEST].astype(np.float64))
        by_reach = seen[np.argsort(thumbnails.reach[seen], kind="stable")]
        for variant in variants:
            for start in range(0, len(by_reach), CHUNK):
                queries = by_reach[start : start + CHUNK]
                waves = thumbnails.as_variant(queries, variant)
                radius = float(thumbnails.reach[queries].max())
                _, places = tree.query(
                    waves[:, _LOWEST], k=NEIGHBOURS + 1, distance_upper_bound=np.nextafter(radius, np.inf), workers=-1
                )
                query, neighbour = np.nonzero(places < len(seen))
                others = seen[places[query, neighbour]]
                near = thumbnails.near(waves[query], queries[query], others)
                found.append(np.sort(np.stack([first[queries[query[near]]], first[others[near]]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def groups(pairs: Pairs, num_images: int) -> NDArray[np.int64]:
    """For each image, the smallest index among those that pairs connect it with; its own where it has none.

    >>> groups(np.array([[0, 3], [3, 4]]), 6).tolist()
    [0, 1, 2, 0, 0, 5]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if num_images == 0:
        return np.zeros(0, dtype=np.int64)
    edges = coo_array((np.ones(len(pairs), dtype=np.int8), pairs.T), shape=(num_images, num_images))
    _, component = connected_components(edges, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component]


class _Thumbnails:
    """The low frequencies of distinct signatures, and how far from each a near duplicate may lie.

    Attributes:
        waves: float32 of shape (n, `LOW`²); the distance of two rows is the root mean square of what their smoothed
            thumbnails differ in, in grey levels of 255.
        reach: float64 of shape (n,); the largest distance; 0 for blank images.
    """

    def __init__(self, signatures: Signatures, chosen: NDArray[np.int64]) -> None:
        self._signatures, self._chosen = signatures, chosen
        self.waves = np.empty((len(chosen), LOW * LOW), dtype=np.float32)
        self._sizes = np.empty((len(chosen), 2))
        for start in range(0, len(chosen), CHUNK):
            piece = slice(start, start + CHUNK)
            rows = signatures[chosen[piece]]
            self.waves[piece] = _waves(_pixels(rows), _COSINES[:LOW].T, _COSINES[:LOW].T)
            self._sizes[piece] = np.ascontiguousarray(rows[:, SIDE * SIDE :]).view("<u2")
        contrast = np.linalg.norm(self.waves[:, 1:], axis=1)
        pixels = np.sqrt(self._sizes.prod(axis=1))
        reach = np.minimum(np.maximum(2.0, 180 / pixels**1.2), 0.2 * contrast)
        self.reach = np.where(contrast < BLANK_CONTRAST, 0.0, reach)
        self._stretch = np.log(self._sizes[:, 1] / self._sizes[:, 0])

    def as_variant(self, indices: NDArray[np.int64], variant: str) -> NDArray[np.float64]:
        """The waves of the images at `indices`, had they been mirrored or shifted."""
        if variant == "same":
            return self.waves[indices].astype(np.float64)
        if variant == "mirrored":
            return self.waves[indices] * _ODD
        pixels = _pixels(self._signatures[self._chosen[indices]])
        still = _COSINES[:LOW].T
        if variant == "right":
            return _waves(pixels, still, _shifted(SHIFT * SIDE / self._sizes[indices, 1]))
        return _waves(pixels, _shifted(SHIFT * SIDE / self._sizes[indices, 0]), still)

    def near(
        self, waves: NDArray[np.float64], indices: NDArray[np.int64], others: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which of the images at `indices`, whose variants have these `waves`, are near duplicates of the `others`."""
        distance = np.linalg.norm(waves - self.waves[others], axis=1)
        stretch = np.abs(self._stretch[indices] - self._stretch[others])
        limit = np.minimum(self.reach[indices], self.reach[others])
        return (indices != others) & (distance <= limit) & (stretch <= LARGEST_STRETCH)


def _distinct(signatures: Signatures) -> tuple[NDArray[np.int64], Pairs]:
    """The first of each set of equal signatures, in an order that depends on their content alone, and its copies."""
    digests = b"".join(_digests(signatures))
    _, first, number = np.unique(np.frombuffer(digests, dtype="<u8"), return_index=True, return_inverse=True)
    pairs = np.stack([first[number], np.arange(len(signatures))], axis=1)
    return first, pairs[pairs[:, 0] < pairs[:, 1]]


def _digests(signatures: Signatures) -> Iterator[bytes]:
    for start in range(0, len(signatures), CHUNK):
        for row in np.ascontiguousarray(signatures[start : start + CHUNK]):
            yield hashlib.blake2b(row, digest_size=8).digest()


def _pixels(rows: Signatures) -> NDArray[np.float64]:
    return rows[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE).astype(np.float64)


def _waves(pixels: NDArray[np.float64], down: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """The coefficients, scaled so that their norm is the root mean square of the pixels they make."""
    return (np.swapaxes(down, -1, -2) @ pixels @ across).reshape(len(pixels), LOW * LOW) / SIDE


def _shifted(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """What takes the pixels of a row to the low coefficients of that row moved by `distance` pixels: (n, `SIDE`, `LOW`).

    The row is continued by the cosines that make it, so a fraction of a pixel is possible; what enters at the end is the
    mirror image of what was there.
    """
    places = _GRID + 0.5 - distance[:, None]
    moved = _SCALE[:, None] * np.cos(np.pi * _GRID[:, None] * places[:, None, :] / SIDE)  # image, frequency, pixel
    return _COSINES.T @ moved @ _COSINES[:LOW].T
