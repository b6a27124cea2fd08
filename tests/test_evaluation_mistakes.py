"""The list of mistakes and their heat maps."""

import csv
from pathlib import Path

import numpy as np
import pytest

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.mistakes import COLUMNS, Mistakes
from pipeline.artefacts.predictions import Predictions
from pipeline.evaluation import mistakes
from pipeline.evaluation.mistakes import write_mistakes
from pipeline.metrics.occlusion import occlusion
from pipeline.model import Network
from tests.page_artefacts import CLASSES, COUNTS, make_all


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_all(tmp_path_factory.mktemp("made"))


@pytest.fixture
def network(folders: dict[str, Path]) -> Network:
    return model.load(folders["training"] / "model.ckpt")[0]


def predictions(folders: dict[str, Path]) -> Predictions:
    """Every second image is called a square, with falling probability."""
    labels = np.load(folders["prepared"] / "test" / "labels.npy")
    sure = np.linspace(0.9, 0.5, len(labels), dtype=np.float32)
    probabilities = np.zeros((len(labels), 3), np.float32)
    guess = np.where(np.arange(len(labels)) % 2, 1, labels)
    probabilities[np.arange(len(labels)), guess] = sure
    probabilities[np.arange(len(labels)), (guess + 1) % 3] = 1 - sure
    return Predictions([f"test/{index:05d}" for index in range(len(labels))], labels, probabilities)


def written(folders: dict[str, Path], network: Network, out: Path) -> tuple[list[dict[str, str]], Mistakes]:
    write_mistakes(
        out, network, folders["prepared"], "test", predictions(folders), temperature=1.0, batch_size=30
    )  # fmt: skip
    with (out / "mistakes.csv").open(newline="") as file:
        return list(csv.DictReader(file)), Mistakes.read(out)


def test_the_table_lists_every_mistake_the_surest_first(
    folders: dict[str, Path], network: Network, tmp_path: Path
) -> None:
    rows, _ = written(folders, network, tmp_path)
    made = predictions(folders)
    wrong = np.flatnonzero(made.predicted != made.labels)
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(wrong) == 10
    assert [row["id"] for row in rows] == [f"test/{index:05d}" for index in wrong]
    for row, index in zip(rows, wrong, strict=True):
        assert row["path"] == row["id"], "the fixture's paths are its ids"
        assert (row["true"], row["predicted"]) == (CLASSES[made.labels[index]], "square")
        assert float(row["probability"]) == made.confidence[index]
        assert float(row["probability_of_true"]) == made.probabilities[index, made.labels[index]]


def test_the_page_gets_images_and_heat_maps_in_the_order_of_the_table(
    folders: dict[str, Path], network: Network, tmp_path: Path
) -> None:
    rows, stored = written(folders, network, tmp_path)
    assert stored.ids.tolist() == [row["id"] for row in rows] and len(stored) == 10
    images = np.load(folders["prepared"] / "test" / "images.npy")
    assert np.array_equal(stored.images, images[[int(row["id"][-5:]) for row in rows]])
    assert stored.heat.shape == (10, 8, 8) and np.abs(stored.heat).max() <= 1
    assert stored.heat.std() > 0


def test_a_heat_map_follows_the_probability_of_the_predicted_class(
    folders: dict[str, Path], network: Network, tmp_path: Path
) -> None:
    _, stored = written(folders, network, tmp_path)
    mean = round(255 * DatasetRecord.read(folders["prepared"]).mean[0])
    covered = np.array(stored.images[:1])
    covered[:, :4, :4] = mean  # the corner that one patch alone covers
    whole, without = (model.probabilities(network, each, batch_size=1)[0, 1] for each in (stored.images[:1], covered))
    assert stored.heat[0, 0, 0] == pytest.approx(whole - without, abs=1e-5)


@pytest.mark.parametrize(("limit", "cells", "least"), [(1e12, 8, 10), (10 * 26 * 12_000, 6, 10), (10 * 12_000, 4, 1)])
def test_heat_maps_of_large_networks_are_coarser_and_then_fewer(
    folders: dict[str, Path], network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, cells: int,
    least: int,
) -> None:  # fmt: skip
    cost = sum(layer.multiply_adds for layer in model.layer_table(network, (16, 16, 1)))
    monkeypatch.setattr(mistakes, "MOST_MULTIPLY_ADDS", limit * cost / 12_000)
    _, stored = written(folders, network, tmp_path)
    assert len(stored) == 10 and stored.heat.shape == (least, cells, cells)


def test_of_many_mistakes_each_pair_of_classes_is_shown(
    folders: dict[str, Path], network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mistakes, "NUM_SHOWN", 2)
    rows, stored = written(folders, network, tmp_path)
    assert len(rows) == 10 and len(stored) == 2
    assert {(int(label), int(guess)) for label, guess in zip(stored.labels, stored.predicted, strict=True)} == {
        (0, 1), (2, 1),
    }  # fmt: skip


def test_without_mistakes_both_files_are_empty(folders: dict[str, Path], network: Network, tmp_path: Path) -> None:
    labels = np.load(folders["prepared"] / "test" / "labels.npy")
    right = Predictions([str(index) for index in range(COUNTS["test"])], labels, np.eye(3, dtype=np.float32)[labels])
    write_mistakes(tmp_path, network, folders["prepared"], "test", right, temperature=1.0, batch_size=30)
    assert (tmp_path / "mistakes.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert len(Mistakes.read(tmp_path)) == 0


def test_occlusion_of_an_image_of_odd_size_covers_every_pixel() -> None:
    def light(images: np.ndarray) -> np.ndarray:
        share = images.reshape(len(images), -1).mean(axis=1) / 255
        return np.stack([1 - share, share], axis=1)

    heat = occlusion(np.full((1, 13, 9, 3), 255, np.uint8), [1], light, [0, 0, 0], positions=5)
    assert heat.shape == (1, 6, 6) and (heat > 0).all()
