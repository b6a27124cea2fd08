"""Checks find the problems of a dataset from measurements of its images."""

from typing import Any

import numpy as np
import pytest

from pipeline.config.schema_data import Prepare
from pipeline.data.checks import ImageTable, Issue, find, settle, summary
from pipeline.data.problems import PROBLEMS
from pipeline.errors import DataError

LIMITS = Prepare.model_construct(min_side=8, max_aspect=5.0, min_per_class=3, max_imbalance=10.0)


def table(number: int = 20, **changed: Any) -> ImageTable:
    """Images with nothing wrong: two classes of equal size, all pixels different."""
    values = {
        "names": [f"{'ab'[place % 2]}/{place:03d}.png" for place in range(number)],
        "labels": np.arange(number) % 2,
        "classes": ["a", "b"],
        "given": np.full(number, ""),
        "shapes": np.tile(np.array([30, 40, 3], np.int32), (number, 1)),
        "num_bytes": np.random.default_rng(0).integers(1000, 2000, number),
        "spread": np.full(number, 50.0, np.float32),
        "peak": np.zeros(number, np.float32),
        "inverted": np.zeros(number, np.uint8),
        "white_drawing": np.zeros(number, np.uint8),
        "white_level": None,
        "first": np.arange(number),
        "undecoded": {},
        "pairs": np.zeros((0, 2), np.int64),
        "keys": np.array([str(place).encode() for place in range(number)]),
    }
    return ImageTable(**(values | changed))


def found(changed: ImageTable) -> list[tuple[str, str, str]]:
    return [(issue.name, issue.problem, issue.evidence) for issue in find(changed, LIMITS)]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert found(table()) == []


def test_image_that_could_not_be_decoded_is_told_and_counts_for_nothing_else() -> None:
    spoilt = table(
        undecoded={3: ("unreadable", "it ends too early")}, spread=np.full(20, 50.0, np.float32) * (np.arange(20) != 3)
    )
    assert found(spoilt) == [("b/003.png", "unreadable", "it ends too early")]


def test_small_long_and_blank_images_are_told() -> None:
    shapes, spread = table().shapes.copy(), table().spread.copy()
    shapes[0], shapes[1], spread[2] = (7, 9, 3), (10, 51, 3), 0.4
    assert found(table(shapes=shapes, spread=spread)) == [
        ("a/000.png", "tiny", "9×7 pixels"),
        ("b/001.png", "aspect", "51×10 pixels"),
        ("a/002.png", "blank", "its pixels differ by 0.40 of 255 (standard deviation)"),
    ]


def test_images_on_the_limits_are_fine() -> None:
    shapes = table().shapes.copy()
    shapes[0], shapes[1] = (8, 8, 1), (10, 50, 3)
    assert found(table(shapes=shapes)) == []


def test_copies_are_told_with_the_image_they_copy() -> None:
    first = np.arange(20)
    first[[4, 8]] = 0
    issues = find(table(first=first), LIMITS)
    assert [(issue.name, issue.problem, issue.evidence) for issue in issues] == [
        ("a/004.png", "duplicate", "the same pixels as a/000.png"),
        ("a/008.png", "duplicate", "the same pixels as a/000.png"),
    ]
    assert [(issue.row, issue.twin) for issue in issues] == [(4, 0), (8, 0)]


def test_one_picture_under_two_labels_is_told_for_each_of_its_images() -> None:
    first = np.arange(20)
    first[5] = 0
    assert found(table(first=first)) == [
        ("a/000.png", "conflicting_labels", "the same pixels as b/005.png, which is 'b'"),
        ("b/005.png", "conflicting_labels", "the same pixels as a/000.png, which is 'a'"),
    ]


def test_near_duplicates_are_told_once_and_not_where_the_pixels_are_the_same() -> None:
    first = np.arange(20)
    first[2] = 0
    pairs = np.array([[0, 2], [0, 6], [1, 4]])
    assert found(table(first=first, pairs=pairs)) == [
        ("a/002.png", "duplicate", "the same pixels as a/000.png"),
        ("a/006.png", "near_duplicate", "nearly the same picture as a/000.png"),
        ("b/001.png", "conflicting_labels", "nearly the same picture as a/004.png, which is 'a'"),
        ("a/004.png", "conflicting_labels", "nearly the same picture as b/001.png, which is 'b'"),
    ]


def test_leak_names_the_image_to_train_on_and_the_one_that_tests() -> None:
    given = np.repeat(["train", "test"], [12, 8])
    first = np.arange(20)
    first[14] = 2
    leaks = [
        issue
        for issue in find(table(given=given, first=first, pairs=np.array([[3, 15]])), LIMITS)
        if issue.problem == "leak"
    ]
    assert [(issue.name, issue.evidence) for issue in leaks] == [
        ("a/002.png", "the same pixels as a/014.png of test"),
        ("b/003.png", "nearly the same picture as b/015.png of test"),
    ]


def test_rare_class_and_imbalance_are_told() -> None:
    labels = np.repeat([0, 1], [38, 2])
    assert found(table(40, labels=labels)) == [
        ("class b", "rare_class", "2 images"),
        ("all classes", "imbalance", "38 of 'a', 2 of 'b'"),
    ]


def test_a_group_far_larger_than_the_others_is_told() -> None:
    keys = np.array([b"scan" if place < 6 else str(place).encode() for place in range(20)])
    told = [("a/000.png", "large_group", "6 images that stay in one split together, 30% of all")]
    assert found(table(keys=keys)) == told
    even = np.array([str(place // 5).encode() for place in range(20)])
    assert found(table(keys=even)) == [], "groups of equal size are as they should be"


def test_class_in_one_split_only_is_told() -> None:
    given = np.where(np.arange(20) % 2, "train", np.where(np.arange(20) < 10, "train", "test"))
    assert found(table(given=given)) == [("class b", "one_split", "all of its images are in train")]


@pytest.mark.parametrize(
    ("changed", "evidence"),
    [
        ({"num_bytes": 1000 + 500 * (np.arange(60) % 2)}, "the file's size in bytes alone tells the class, 100%"),
        (
            {"shapes": np.stack([np.full(60, 30), 40 + np.arange(60) % 2, np.full(60, 3)], axis=1)},
            "width and height alone tell the class: balanced accuracy 1.00 (0.9",
        ),
        ({"names": [f"x/{['lab1', 'scan'][place % 2]}_{place}.png" for place in range(60)]}, "the first letters of"),
    ],
)  # fmt: skip
def test_what_tells_the_class_without_a_look_at_the_pixels_is_told(changed: dict[str, Any], evidence: str) -> None:
    issues = found(table(60, **changed))
    assert len(issues) == 1 and issues[0][:2] == ("all images", "shortcut") and issues[0][2].startswith(evidence)


def sizes(generator: np.random.Generator, ratios: np.ndarray) -> np.ndarray:
    """Shapes of any area, 100 to 400 pixels high, with these widths over heights."""
    height = generator.integers(100, 400, len(ratios))
    return np.stack([height, np.rint(height * ratios).astype(int), np.full(len(ratios), 3)], axis=1)


def test_proportions_that_tell_the_class_are_told_whatever_the_size() -> None:
    generator = np.random.default_rng(0)
    ratios = np.where(np.arange(200) % 2, 0.75, 1.33) * generator.uniform(0.95, 1.05, 200)
    issues = found(table(200, shapes=sizes(generator, ratios)))
    assert [issue[:2] for issue in issues] == [("all images", "shortcut")]
    assert issues[0][2].startswith("width and height alone tell the class: balanced accuracy 1.00 (0.9")


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_proportions_that_tell_little_of_the_class_are_no_shortcut(share: float) -> None:
    """A third of each class has the class's own proportions: a tree is right in 65 of 100."""
    generator = np.random.default_rng(1)
    own = generator.random(400) < share
    ratios = np.where(own, np.where(np.arange(400) % 2, 0.75, 1.33), generator.choice([0.75, 1.33], 400))
    assert found(table(400, shapes=sizes(generator, ratios))) == []


def test_a_few_images_are_no_proof() -> None:
    shapes = np.stack([np.full(8, 30), 40 + np.arange(8) % 2, np.full(8, 3)], axis=1)
    assert found(table(8, shapes=shapes, num_bytes=np.arange(8))) == []


def test_names_that_begin_with_their_class_are_no_shortcut() -> None:
    assert found(table(60, names=[f"x/{'ab'[place % 2]}_{place}.png" for place in range(60)])) == []


def test_every_problem_has_a_description_and_a_key() -> None:
    from pipeline.config.schema_data import OnIssue

    assert set(PROBLEMS) == set(OnIssue.model_fields)
    assert all(PROBLEMS.values())


def test_drop_keep_and_fail_do_what_they_say() -> None:
    issues = [Issue("x", "blank", "grey", 1), Issue("y", "tiny", "1×1 pixels", 2), Issue("all", "imbalance", "9 to 1")]
    actions = dict.fromkeys(PROBLEMS, "keep")
    settled, stays = settle(issues, actions | {"blank": "drop"}, 4)
    assert stays.tolist() == [True, False, True, True]
    assert [issue.action for issue in settled] == ["dropped", "kept", "kept"]
    assert summary(settled) == "1 × blank (dropped), 1 × tiny (kept), 1 × imbalance (kept)"
    match = (
        r"the data must be free of tiny, as prepare\.on_issue says fail; got 1 × tiny: y: 1×1 pixels\. Mend the data, "
        r"or set prepare\.on_issue\.tiny=keep or drop\."
    )
    with pytest.raises(DataError, match=match):
        settle(issues, actions | {"tiny": "fail"}, 4)
    with pytest.raises(DataError, match=r"got 1 × imbalance: all: 9 to 1\. .*imbalance=keep\."):
        settle(issues, actions | {"imbalance": "fail"}, 4)
