"""Heat maps point at what a class depends on, with and without torch."""

import builtins
import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.delivery import Classifier
from pipeline.delivery.heat_maps import grad_cam, occlusion
from pipeline.errors import ConfigError, DataError
from pipeline.predict import main
from tests.test_source_hostile import as_folder

BRIGHT = np.s_[2:6, 9:13]


@pytest.fixture
def looker(package: Path, monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """A classifier whose first class is certain where one corner is bright, and whose second class where it is dark."""
    classifier = Classifier.load(package)

    def outputs(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = pixels[:, *BRIGHT, 0].mean(axis=(1, 2)) / 255
        return np.stack([6 * level, 6 * (1 - level), np.zeros_like(level)], axis=1).astype(np.float32), np.zeros((1, 1))

    monkeypatch.setattr(classifier, "outputs", outputs)
    return classifier


def test_occlusion_points_at_the_part_that_counts(looker: Classifier) -> None:
    pixels = np.full((2, 16, 16, 1), 100, np.uint8)
    pixels[:, *BRIGHT] = 255
    for_it, against_it = occlusion(looker, pixels, np.array([0, 1]))
    rows, columns = np.unravel_index(for_it.argmax(), for_it.shape)
    assert 2 <= rows < 6 and 9 <= columns < 13 and for_it.max() > 0.1
    assert against_it.min() < -0.1 and for_it[12:, :4].max() == 0, "what is far from it changes nothing"


def test_maps_of_several_images_are_those_of_each(looker: Classifier) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), np.uint8)
    together = occlusion(looker, pixels, np.array([0, 1, 0]))
    assert np.allclose(together[1], occlusion(looker, pixels[1:2], np.array([1]))[0])


def test_grad_cam_reads_the_network_and_its_weights_from_the_package(package: Path) -> None:
    pytest.importorskip("captum")
    classifier = Classifier.load(package)
    pixels = np.load(package.parent / "prepared" / "test" / "images.npy")[:3]
    maps = grad_cam(classifier)(classifier, pixels, np.array([0, 1, 2]))
    assert maps.shape == (3, 16, 16) and maps.dtype == np.float32 and np.ptp(maps, axis=(1, 2)).min() > 0


def test_what_grad_cam_lacks_is_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier.load(package)
    manifest = classifier.package.manifest.model_copy(update={"network": {}})
    classifier.package = dataclasses.replace(classifier.package, manifest=manifest)
    with pytest.raises(DataError, match=r"needs a package that describes its network; .* was made before they did"):
        grad_cam(classifier)
    imported = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("captum"):
            raise ModuleNotFoundError("No module named 'captum'")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"needs the extra explain \(No module named 'captum'\)\. Run `pip install -e"):
        grad_cam(classifier)


def test_a_contact_sheet_lies_beside_the_answers(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    as_folder(tmp_path, {"photos/0.png": b"broken"})
    for place in range(1, 6):
        Image.fromarray(np.random.default_rng(place).integers(0, 256, (20, 20), np.uint8)).save(f"photos/{place}.png")
    assert main(["photos", "--model", str(package), "--out", "answers.csv", "--explain", "3"]) == 3
    assert "heat maps of 3 images: answers.heat_maps.png" in capsys.readouterr().err
    small = cv2.imread("answers.heat_maps.png")
    main(["photos", "--model", str(package), "--explain", "--explain-out", "sheets/all.png"])
    large = cv2.imread("sheets/all.png")
    assert small is not None and large is not None and large.shape[0] > small.shape[0]
    with pytest.raises(ConfigError, match="--explain-out must come with --explain"):
        main(["photos", "--model", str(package), "--explain-out", "x.png"])
