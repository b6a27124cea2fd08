"""The algebra of mixtures: what a label says is what the pixels hold."""

import pytest
import torch
from torch import Tensor

from pipeline.training.mixing import ERASED_SHARE, mix

OFF = {"mixup": 0.0, "cutmix": 0.0, "erasing": 0.0}


def constant_images(num_images: int = 200, size: int = 20) -> tuple[Tensor, Tensor]:
    """Images of a single grey, which is 25 times their label."""
    labels = torch.arange(num_images) % 10
    return (labels * 25).to(torch.uint8)[:, None, None, None].expand(-1, size, size, 3).clone(), labels


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_nothing_is_mixed_where_all_is_off() -> None:
    images, labels = constant_images()
    mixed, targets = mix(images, labels, 10, **OFF)
    assert mixed is images
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 10).float())


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_a_target_holds_the_shares_of_the_pixels(kind: str, alpha: float) -> None:
    images, labels = constant_images()
    mixed, targets = mix(images, labels, 10, **{**OFF, kind: alpha})
    torch.testing.assert_close(targets.sum(1), torch.ones(200))
    assert targets.min() >= 0 and mixed.min() >= 0 and mixed.max() <= 225
    mean_grey = mixed.float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(mean_grey, (targets * torch.arange(10) * 25).sum(1), atol=1e-3, rtol=0)
    assert (targets.max(1).values < 1).float().mean() > 0.3, "many images are mixed"


def test_mixup_blends_every_pixel_alike_and_cutmix_blends_none() -> None:
    images, labels = constant_images()
    blended, _ = mix(images, labels, 10, **{**OFF, "mixup": 1.0})
    assert blended.dtype == torch.float32 and blended.std(dim=(1, 2, 3)).max() < 1e-3
    cut, targets = mix(images, labels, 10, **{**OFF, "cutmix": 1.0})
    assert cut.dtype == torch.uint8
    assert all(set(image.unique().tolist()) <= set(range(0, 250, 25)) for image in cut)
    for image, target in zip(cut, targets, strict=True):
        assert len(image.unique()) == int((target > 0).sum()) <= 2


def test_a_small_alpha_leaves_nearly_every_image_to_one_label() -> None:
    images, labels = constant_images()
    _, targets = mix(images, labels, 10, **{**OFF, "mixup": 1e-3})
    assert (targets.max(1).values > 0.99).float().mean() > 0.95


def test_mixup_shares_are_those_of_the_beta_distribution() -> None:
    images, _ = constant_images(num_images=5000, size=1)
    own = mix(images, torch.arange(5000), 5000, **{**OFF, "mixup": 0.5})[1].diagonal()
    assert own.mean() == pytest.approx(0.5, abs=0.02)
    assert own.var() == pytest.approx(1 / 8, abs=0.01)  # of Beta(½, ½): 1/(4·(2α + 1))


def test_with_both_each_batch_draws_one_of_the_two() -> None:
    images, labels = constant_images(num_images=20)
    kinds = [mix(images, labels, 10, **{**OFF, "mixup": 1.0, "cutmix": 1.0})[0].dtype for _ in range(200)]
    assert 70 < kinds.count(torch.float32) < 130


def test_erasing_fills_a_rectangle_of_some_images_with_noise_and_keeps_the_labels() -> None:
    images = torch.zeros(2000, 24, 24, 1, dtype=torch.uint8)
    labels = torch.arange(2000) % 10
    erased, targets = mix(images, labels, 10, **{**OFF, "erasing": 0.4})
    assert erased.dtype == torch.uint8 and torch.equal(targets.argmax(1), labels)
    touched = (erased > 0).flatten(1).any(1)
    assert touched.float().mean() == pytest.approx(0.4, abs=0.04)
    low, high = ERASED_SHARE
    for image in erased[touched][:200, :, :, 0]:
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        height, width = (int(line.max() - line.min()) + 1 for line in (rows, columns))
        assert low / 2 < height * width / 24**2 < high * 1.25  # a share is rounded to whole pixels
        assert (image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] > 0).float().mean() > 0.8


def test_the_seed_decides_everything_and_the_images_given_stay() -> None:
    images, labels = constant_images()
    before, options = images.clone(), {"mixup": 0.4, "cutmix": 0.4, "erasing": 0.5}
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(mix(images, labels, 10, **options))
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][1], draws[2][1])
    assert torch.equal(images, before)


def test_a_batch_of_one_image_is_mixed_with_itself() -> None:
    images, labels = constant_images(num_images=1)
    _, targets = mix(images, labels, 10, mixup=1.0, cutmix=0.0, erasing=1.0)
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 10).float())
