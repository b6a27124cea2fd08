"""Two versions of the prepared data: what became of each image."""

import io
from typing import IO

import numpy as np

from pipeline.data.versions import Image, Version, compare, count, pixels


def image(name: str, sha256: str = "", label: str = "cat", split: str = "train", row: int = 0) -> Image:
    return Image(name, sha256 or name, label, split, row)


def test_images_that_came_and_went_are_named_in_order() -> None:
    changes = compare([image("b"), image("a"), image("kept")], [image("kept"), image("d"), image("c")])
    assert [each.name for each in changes.added] == ["c", "d"]
    assert [each.name for each in changes.removed] == ["a", "b"]
    assert changes.relabelled == changes.moved == []


def test_another_row_is_no_change() -> None:
    changes = compare([image("a", row=3)], [image("a", row=5)])
    assert not any(vars(changes).values())


def test_an_image_can_be_relabelled_and_moved_at_once() -> None:
    old, new = image("a"), image("a", label="dog", split="test")
    changes = compare([old], [new])
    assert changes.relabelled == changes.moved == [(old, new)] and changes.added == changes.removed == []


def test_an_image_in_another_folder_of_classes_is_relabelled() -> None:
    old, new = image("cat/1.png", "ab"), image("dog/1.png", "ab", "dog")
    assert compare([old], [new]).relabelled == [(old, new)]


def test_an_image_that_is_only_renamed_has_not_changed() -> None:
    assert not any(vars(compare([image("a", "ab")], [image("b", "ab")])).values())


def test_other_bytes_under_the_same_name_are_another_image() -> None:
    changes = compare([image("a", "ab")], [image("a", "cd")])
    assert [each.sha256 for each in (*changes.removed, *changes.added)] == ["ab", "cd"]


def test_of_copies_those_of_one_name_are_the_same_image() -> None:
    old = [image("a", "ab"), image("b", "ab", label="dog"), image("z", "ab")]
    new = [image("b", "ab", label="dog"), image("a", "ab"), image("z", "ab", split="val")]
    changes = compare(old, new)
    assert changes.relabelled == [] and [pair[0].name for pair in changes.moved] == ["z"]


def test_one_of_several_copies_that_is_gone_is_removed() -> None:
    changes = compare([image("a", "ab"), image("b", "ab"), image("c", "ab")], [image("b", "ab"), image("x", "ab")])
    assert [each.name for each in changes.removed] == ["c"]  # a is taken for x
    assert changes.added == changes.relabelled == []


def version(images: list[Image], classes: list[str], pictures: bytes = b"") -> Version:
    def open_file(path: str) -> IO[bytes]:
        assert path == "train/images.npy"
        return io.BytesIO(pictures)

    return Version("v", "pets", classes, ["train", "test"], images, open_file)


def test_counts_are_by_class_and_split_also_of_classes_that_only_one_version_has() -> None:
    old = version([image("a"), image("b", split="test"), image("c", label="fish")], ["cat", "fish"])
    new = version([image("a"), image("d", label="dog"), image("e", label="dog")], ["cat", "dog"])
    counts = count(old, new)
    assert counts.splits == ["train", "test"]
    assert counts.classes == {
        "cat": [(1, 1), (1, 0), (2, 1)], "dog": [(0, 2), (0, 0), (0, 2)], "fish": [(1, 0), (0, 0), (1, 0)],
    }  # fmt: skip
    assert counts.total == [(2, 3), (1, 0), (3, 3)]


def test_pixels_are_those_of_the_row() -> None:
    arrays = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    file = io.BytesIO()
    np.save(file, arrays)
    found = pixels(version([], [], file.getvalue()), [image("a", row=3), image("b", row=0)])
    assert np.array_equal(found[0], arrays[3]) and np.array_equal(found[1], arrays[0])
