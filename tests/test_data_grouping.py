"""Groups of images that must stay in one split."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.grouping import keys_of, names_matched
from pipeline.errors import ConfigError

MARKS = np.array([f"mark {place}".encode() for place in range(6)])
NONE = np.zeros((0, 2), np.int64)
IDS = [f"cats/patient{place // 2}_{place}.png" for place in range(6)]


def together(keys: NDArray[np.bytes_]) -> list[int]:
    """The first place with each key."""
    return [keys.tolist().index(key) for key in keys]


def test_images_that_share_nothing_have_keys_of_their_own() -> None:
    assert together(keys_of(MARKS, NONE, [""] * 6)) == [0, 1, 2, 3, 4, 5]


def test_copies_near_duplicates_and_groups_go_together() -> None:
    marks = MARKS[[0, 1, 2, 3, 0, 5]]
    assert together(keys_of(marks, NONE, [""] * 6)) == [0, 1, 2, 3, 0, 5]
    assert together(keys_of(MARKS, np.array([[1, 2], [2, 5]]), [""] * 6)) == [0, 1, 1, 3, 4, 1]
    assert together(keys_of(MARKS, NONE, ["x", "", "x", "", "y", "y"])) == [0, 1, 0, 3, 4, 4]


def test_a_near_duplicate_joins_two_groups() -> None:
    keys = keys_of(MARKS, np.array([[0, 4]]), ["x", "", "x", "", "y", "y"])
    assert together(keys) == [0, 1, 0, 3, 0, 0] and keys[0] == b"group x"


def test_keys_do_not_depend_on_the_order_or_the_names_of_the_images() -> None:
    order = np.array([3, 5, 0, 2, 4, 1])
    keys = keys_of(MARKS, np.array([[1, 2]]), [""] * 6)
    mixed = keys_of(MARKS[order], np.array([[3, 5]]), [""] * 6)
    assert mixed.tolist() == keys[order].tolist()


@pytest.mark.parametrize("pattern", [r"patient\d+", r"(patient\d+)_\d"])
def test_pattern_names_the_groups(pattern: str) -> None:
    assert together(keys_of(MARKS, NONE, names_matched(pattern, IDS))) == [0, 0, 2, 2, 4, 4]


def test_image_in_which_the_pattern_is_not_found_stands_alone() -> None:
    assert together(keys_of(MARKS, NONE, names_matched(r"patient[01]", IDS))) == [0, 0, 2, 2, 4, 5]


def test_pattern_that_is_found_nowhere_or_is_none_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"prepare\.group must be found in the images' paths, such as 'cats/.*; got 'dog'"
    ):
        names_matched("dog", IDS)
    with pytest.raises(ConfigError, match=r"prepare\.group must be a regular expression; got '\(', which is none: "):
        names_matched("(", IDS)
