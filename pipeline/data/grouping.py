"""Which images belong together, so that no split holds one and another split its twin."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.near_duplicates import groups
from pipeline.errors import ConfigError


def keys_of(
    marks: NDArray[np.bytes_], pairs: NDArray[np.int64], named: Sequence[str], ids: Sequence[str], pattern: str | None
) -> NDArray[np.bytes_]:
    """A key for each image, the same for those that belong together, and made of what they are alone.

    Together are images with the same mark, near duplicates, and those of one named group: a patient, a video, a plate.

    Args:
        marks: What each image looks like, as a digest; of shape (n,).
        pairs: Near duplicates; int64 of shape (m, 2).
        named: The group of each image as the source has it, an empty text where it says nothing.
        ids: Of the images; `pattern` is looked for in these.
        pattern: A regular expression whose first group, or else whole match, names the group; None: `named` counts.

    Raises:
        ConfigError: The pattern is no regular expression, or is found in no id.
    """
    if pattern is not None:
        named = _matched(pattern, ids)
    texts = np.array([f"group {name}".encode() if name else b"" for name in named])
    has_name = texts != b""
    component = groups(np.concatenate([pairs, _alike(marks), _alike(texts)[has_name]]), len(ids))
    keys = np.where(has_name, texts, marks)
    order = np.lexsort((keys, ~has_name, component))  # within each component: named ones first, then the smallest
    heads, begins = np.unique(component[order], return_index=True)
    return keys[order[begins]][np.searchsorted(heads, component)]


def _alike(texts: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Each place with the first one of the same text: int64 of shape (n, 2)."""
    _, first, number = np.unique(texts, return_index=True, return_inverse=True)
    return np.stack([first[number], np.arange(len(texts))], axis=1)


def _matched(pattern: str, ids: Sequence[str]) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"prepare.group must be a regular expression; got {pattern!r}, which is none: {error}."
        ) from None
    matches = [expression.search(name) for name in ids]
    if not any(matches):
        raise ConfigError(
            f"prepare.group must be found in the images' paths, such as {ids[0]!r}; got {pattern!r}, which is in none of them."
        )
    return [(match[1] if expression.groups else match[0]) or "" if match else "" for match in matches]
