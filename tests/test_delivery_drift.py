"""New images against known ones: what differs is found, what does not is not, and the power is told."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.delivery import Classifier
from pipeline.delivery.drift import DriftWatcher, compare
from pipeline.delivery.sample import LOOKS, SAMPLE, Sample, looks
from pipeline.errors import DataError
from pipeline.predict import main
from tests.page_artefacts import SIZE

CLASSES = ["ant", "bee", "cow"]


def sample(
    seed: int, num_images: int = 300, *, features: float = 0, look: float = 0, shares: tuple[float, ...] = ()
) -> Sample:
    generator = np.random.default_rng(seed)
    of_features = generator.normal(features, 1, (num_images, 16)).astype(np.float32)
    of_looks = generator.normal(0, 1, (num_images, len(LOOKS))).astype(np.float32)
    of_looks[:, 0] += look
    return Sample(of_features, of_looks, generator.multinomial(num_images, shares or [1 / 3] * 3))


def found(new: Sample) -> set[str]:
    return {test.name for test in compare(sample(0), new, CLASSES).tests if test.p < 0.05}


def test_images_of_one_kind_are_called_alike() -> None:
    alarms = [bool(found(sample(seed))) for seed in range(1, 21)]
    assert sum(alarms) <= 4, "1 of 20 is meant"
    drift = compare(sample(0), sample(1), CLASSES)
    assert drift.sentence().startswith(
        "No difference was found: nothing speaks against the model's figures for these images."
    )


def test_each_kind_of_difference_is_found_by_its_test() -> None:
    assert found(sample(2, features=0.5)) == {"last features"}
    assert found(sample(3, look=0.6)) == {"brightness"}
    assert found(sample(4, shares=(0.6, 0.2, 0.2))) == {"class shares"}
    drift = compare(sample(0), sample(4, shares=(0.6, 0.2, 0.2)), CLASSES)
    assert "most for 'ant': +0.2" in drift.tests[0].effect and "Cramér's V 0.2" in drift.tests[0].effect
    assert "in class shares: its figures may not hold for them; label some and use --against." in drift.sentence()


def test_the_power_grows_with_the_images_and_is_that_of_a_simulation() -> None:
    from scipy.stats import mannwhitneyu, norm

    few, many = (compare(sample(0, 500), sample(1, number), CLASSES) for number in (60, 400))
    assert few.power < 0.5 < many.power and few.enough == many.enough == 290
    assert compare(sample(0, 100), sample(1), CLASSES).enough is None
    generator, shift = np.random.default_rng(0), norm.ppf(0.6) * 2**0.5  # of two normal scores with this area
    level = 0.05 / (2 + len(LOOKS))
    noticed = [
        mannwhitneyu(generator.normal(shift, 1, 200), generator.normal(0, 1, 250), alternative="greater").pvalue < level
        for _ in range(1000)
    ]
    assert np.mean(noticed) == pytest.approx(many.power, abs=0.04)


def test_looks_are_those_of_the_prepared_image_and_its_file() -> None:
    flat, edge = np.full((8, 8, 3), 90, np.uint8), np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 200
    of_flat, of_edge = looks(np.stack([flat, edge]), [(30, 40), (8, 8)])
    assert of_flat.tolist() == [90, 0, 0, 40, 30]
    assert of_edge[0] == 100 and of_edge[1] == 100 and of_edge[2] > 10
    assert looks(np.empty((0, 8, 8, 1), np.uint8), []).shape == (0, 5)


def test_few_images_and_old_packages_are_refused(package: Path) -> None:
    with pytest.raises(
        DataError, match="--drift must have 40 images that can be read, and as many in the package's sample; got 39"
    ):
        compare(sample(0), sample(1, 39), CLASSES)
    classifier = Classifier.load(package)
    for content, message in ((None, "was made before they had one"), (b"noise", "must hold a whole drift.npz")):
        classifier.package = dataclasses.replace(classifier.package, drift=content)
        with pytest.raises(DataError, match=message):
            DriftWatcher(classifier)


def test_the_command_tells_what_differs(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.load(package.parent / "prepared" / "test" / "images.npy")[..., 0]
    for kind, pixels in {"alike": images, "bright": np.minimum(images, 155) + np.uint8(100)}.items():
        (tmp_path / kind).mkdir()
        for place, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / kind / f"{place:02d}.png")
    main([str(tmp_path / "alike"), "--model", str(package), "--drift"])
    assert "No difference was found" in capsys.readouterr().err
    main([str(tmp_path / "bright"), "--model", str(package), "--drift"])
    told = capsys.readouterr().err
    assert "These images differ" in told and "brightness" in told and "< 0.001" in told


def test_the_sample_of_many_new_images_is_random_and_bounded(package: Path) -> None:
    watcher, classifier = DriftWatcher(classifier := Classifier.load(package)), classifier
    generator = np.random.default_rng(0)
    pixels = (generator.integers(0, 200, (SIZE, SIZE)).astype(np.uint8) for _ in range(3 * SAMPLE))
    for batch in classifier.stream((str(place), image) for place, image in enumerate(pixels)):
        watcher.add(batch)
        assert len(watcher._keys) == len(watcher._features) == len(watcher._looks) <= SAMPLE
    assert watcher._counts.sum() == 3 * SAMPLE and max(watcher._keys) == pytest.approx(1 / 3, abs=0.05)
