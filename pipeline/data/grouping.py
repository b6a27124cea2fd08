"""Groups images that must stay in one split: copies, near duplicates, and those of one named group."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError


def keys_of(marks: NDArray[np.bytes_], pairs: NDArray[np.int64], named: Sequence[str]) -> NDArray[np.bytes_]:
    """A key for each image, equal for images of one group. It depends on the images of the group alone.

    Args:
        marks: Digest of each image's signature; of shape (n,).
        pairs: Near duplicates; int64 of shape (m, 2).
        named: Name of each image's group, such as a patient; an empty text where there is none.
    """
    texts = np.array([f"group {name}".encode() if name else b"" for name in named])
    has_name = texts != b""
    component = connected(np.concatenate([pairs, _equal(marks), _equal(texts)[has_name]]), len(named))
    keys = np.where(has_name, texts, marks)
    order = np.lexsort((keys, ~has_name, component))  # within each component: named ones first, then the smallest
    heads, begins = np.unique(component[order], return_index=True)
    return keys[order[begins]][np.searchsorted(heads, component)]


def connected(pairs: NDArray[np.int64], num_images: int) -> NDArray[np.int64]:
    """For each image, the smallest index among the images that pairs connect it with; its own where it is in no pair.

    >>> connected(np.array([[0, 3], [3, 4]]), 6).tolist()
    [0, 1, 2, 0, 0, 5]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if num_images == 0:
        return np.zeros(0, dtype=np.int64)
    edges = coo_array((np.ones(len(pairs), dtype=np.int8), pairs.T), shape=(num_images, num_images))
    _, component = connected_components(edges, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return np.asarray(smallest[component], dtype=np.int64)


def _equal(texts: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """The index of each text, after that of the first equal one: int64 of shape (n, 2)."""
    _, first, number = np.unique(texts, return_index=True, return_inverse=True)
    return np.stack([first[number], np.arange(len(texts))], axis=1)


def summary(named: Sequence[str], ids: Sequence[str]) -> str:
    """Number of named groups, the largest with its first images, and the images without one.

    >>> summary(["p1", "p1", "p2", ""], ["1.png", "2.png", "3.png", "4.png"])
    '2 groups, the largest p1 with 2 images (1.png, 2.png); 1 image has none (4.png)'
    """
    counts = Counter(name for name in named if name)
    largest, size = counts.most_common(1)[0]
    text = f"{len(counts):,} groups, the largest {largest} with {size:,} images ({_first(largest, named, ids)})"
    without = len(named) - counts.total()
    if without:
        text += f"; {without:,} {'image has' if without == 1 else 'images have'} none ({_first('', named, ids)})"
    return text


def _first(group: str, named: Sequence[str], ids: Sequence[str]) -> str:
    members = [image for image, name in zip(ids, named, strict=True) if name == group]
    return ", ".join(members[:3]) + (", …" if len(members) > 3 else "")


def names_matched(pattern: str, ids: Sequence[str]) -> list[str]:
    """The name of each image's group: the first group of a regular expression in its id, or else the whole match.

    Raises:
        ConfigError: The pattern is not a regular expression, or matches no id.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        message = f"prepare.group must be a regular expression; got {pattern!r}, which is none: {error}."
        raise ConfigError(message) from None
    matches = [expression.search(name) for name in ids]
    if not any(matches):
        raise ConfigError(
            f"prepare.group must be found in the images' paths, such as {ids[0]!r}; got {pattern!r}, which is in none of them."
        )
    return [(match[1] if expression.groups else match[0]) or "" if match else "" for match in matches]
