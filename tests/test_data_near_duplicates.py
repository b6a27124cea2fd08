"""Near duplicates: re-encodings and moved copies found, different pictures not, whatever the order and the crowd."""

import io
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data import near_duplicates as module
from pipeline.data.grouping import connected
from pipeline.data.near_duplicates import NEIGHBOURS, SIGNATURE_BYTES, VARIANTS, near_duplicates, signature
from pipeline.data.pixels import Images


def picture(seed: int, side: int = 64, channels: int = 1) -> Images:
    """Soft spots of random brightness, five along each side."""
    spots = np.random.default_rng(seed).integers(40, 216, (5, 5, channels), dtype=np.uint8)
    return cv2.resize(spots, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, channels)


def framed(seed: int, offset: tuple[int, int] = (8, 8)) -> Images:
    """A picture that fades into the dark, wide enough that moving it cuts nothing off."""
    fade = np.outer(np.hanning(32), np.hanning(32))[..., None]
    image = np.zeros((48, 48, 1), np.uint8)
    image[offset[0] : offset[0] + 32, offset[1] : offset[1] + 32] = picture(seed, 32) * fade
    return image


def jpeg(image: Images, quality: int) -> Images:
    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


def resized(image: Images, side: int) -> Images:
    small = Image.fromarray(image.squeeze(2)).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small)[..., None]


def signatures(*images: Images) -> np.ndarray:
    return np.stack([signature(image) for image in images])


def found(*images: Images, variants: tuple[str, ...] = VARIANTS) -> list[list[int]]:
    return near_duplicates(signatures(*images), variants).tolist()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [95, 75, 60])
@pytest.mark.parametrize("side", [8, 32, 64, 224])
def test_re_encoded_image_is_found(side: int, quality: int, channels: int) -> None:
    images = [picture(seed, side, channels) for seed in range(5)]
    assert found(*images, jpeg(images[3], quality)) == [[3, 5]]


def test_copy_of_another_size_is_found_but_not_a_stretched_one() -> None:
    image = picture(0, 224)
    assert found(image, resized(image, 200), picture(1, 224)) == [[0, 1]]
    assert found(image, image.repeat(2, axis=1)) == []


def test_grey_and_coloured_version_are_the_same_picture() -> None:
    image = picture(0)
    assert found(image, image.repeat(3, axis=2)) == [[0, 1]]


def test_mirror_image_is_found_where_it_is_looked_for() -> None:
    image = picture(0)
    assert found(image, picture(1), image[:, ::-1]) == [[0, 2]]
    assert found(image, picture(1), image[:, ::-1], variants=("same", "right", "down")) == []


@pytest.mark.parametrize("offset", [(8, 10), (8, 6), (10, 8), (6, 8)])
def test_image_moved_by_two_pixels_either_way_is_found(offset: tuple[int, int]) -> None:
    images = framed(0), framed(1), framed(0, offset)
    assert found(*images) == [[0, 2]]
    assert found(*images, variants=("same", "mirrored")) == []


def test_different_images_are_not_paired() -> None:
    assert found(*(picture(seed, 32) for seed in range(400))) == []


def test_badge_makes_another_picture_and_as_much_noise_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = picture(0, 28)
    badge, noise = plain.copy(), np.random.default_rng(0).normal(0, 8, plain.shape)
    badge[10:13, 10:13] = (plain[10:13, 10:13] + 100.0 * np.where(plain[10:13, 10:13] > 127, -1, 1)).astype(np.uint8)
    assert found(plain, badge) == []
    assert found(plain, (plain + noise).astype(np.uint8)) == [[0, 1]]
    monkeypatch.setattr(module, "SPOT", np.inf)
    assert found(plain, badge) == [[0, 1]], "only because it is in one spot"


def test_blank_images_are_never_paired() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (32, 32, 1), dtype=np.uint8)
    blank = [np.full((32, 32, 1), grey, np.uint8) for grey in (0, 0, 1, 255, 255)]
    assert found(*blank, noise, noise, 200 + noise) == []


def test_order_of_the_images_does_not_matter() -> None:
    originals = [picture(seed, 32) for seed in range(60)]
    images = signatures(*originals, *(jpeg(image, 80) for image in originals[:20]), originals[0][:, ::-1])
    pairs = near_duplicates(images)
    assert len(pairs) >= 21
    order = np.random.default_rng(0).permutation(len(images))
    permuted = np.sort(order[near_duplicates(images[order])], axis=1)
    assert np.array_equal(np.unique(permuted, axis=0), pairs)


def test_pairs_rise_and_are_those_of_a_mapped_file(tmp_path: Path) -> None:
    images = signatures(*(jpeg(picture(seed % 7, 32), 60 + seed) for seed in range(21)))
    np.save(tmp_path / "signatures.npy", images)
    pairs = near_duplicates(np.load(tmp_path / "signatures.npy", mmap_mode="r"))
    assert np.array_equal(pairs, near_duplicates(images)) and pairs.dtype == np.int64
    assert (pairs[:, 0] < pairs[:, 1]).all() and pairs.tolist() == sorted(pairs.tolist())


def test_chain_forms_one_group() -> None:
    """Each is near the next one, the ends are not near one another."""
    steps = [np.clip(picture(0).astype(int) + 1.5 * step, 0, 255).astype(np.uint8) for step in range(0, 12)]
    pairs = near_duplicates(signatures(*steps, picture(1)))
    assert [0, 11] not in pairs.tolist()
    assert connected(pairs, 13).tolist() == [0] * 12 + [12]


def test_crowd_of_equal_images_gives_as_many_pairs_as_connect_it() -> None:
    crowd = np.repeat(signatures(picture(0)), 5000, axis=0)
    begin = time.perf_counter()
    pairs = near_duplicates(crowd)
    assert time.perf_counter() - begin < 5
    assert pairs.tolist() == [[0, other] for other in range(1, 5000)]


def test_crowd_of_nearly_equal_images_stays_one_group_of_few_pairs() -> None:
    noise = np.random.default_rng(0).normal(0, 3, (2000, 32, 32, 1))
    crowd = signatures(*np.clip(picture(0, 32) + noise, 0, 255).astype(np.uint8))
    pairs = near_duplicates(crowd)
    assert len(pairs) <= NEIGHBOURS * len(VARIANTS) * len(crowd)
    assert not connected(pairs, len(crowd)).any()


def test_image_whose_nearest_candidates_are_not_near_is_compared_with_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as much noise as the limit allows, the tree, which sees the lowest frequencies only, offers many in vain."""
    noise = np.random.default_rng(0).normal(0, 10, (1500, 28, 28, 1))
    crowd = signatures(*np.clip(picture(0, 28) + noise, 0, 255).astype(np.uint8))
    num_groups = len(np.unique(connected(near_duplicates(crowd, ["same"]), len(crowd))))
    monkeypatch.setattr(module, "MOST_NEIGHBOURS", NEIGHBOURS)
    assert num_groups < len(np.unique(connected(near_duplicates(crowd, ["same"]), len(crowd)))) / 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 40_000, 1), (70_000, 2, 3), (3, 5, 3)])
def test_every_shape_has_a_signature(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    row = signature(image)
    assert row.shape == (SIGNATURE_BYTES,) and row.dtype == np.uint8
    assert row[-4:].view("<u2").tolist() == [min(65_535, side) for side in shape[:2]]
    near_duplicates(np.stack([row, signature(picture(0))]))


def test_signature_of_a_view_is_that_of_its_pixels() -> None:
    image = picture(0, 64, 3)
    for view in (image[::2, ::-1], image[..., ::-1], image[..., :1]):
        assert np.array_equal(signature(view), signature(view.copy()))


def test_unknown_variant_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="variants must be among same, mirrored, right, down; got 'left'. Leave it out."
    ):
        found(picture(0), variants=("same", "left"))


def test_no_images_have_no_pairs_and_no_groups() -> None:
    pairs = near_duplicates(np.empty((0, SIGNATURE_BYTES), np.uint8))
    assert pairs.shape == (0, 2) and pairs.dtype == np.int64
    assert connected(pairs, 0).tolist() == []
    assert connected(pairs, 3).tolist() == [0, 1, 2]
