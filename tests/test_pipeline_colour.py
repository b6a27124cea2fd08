"""Images in three channels through every stage: a small archive of CIFAR-10's format, from a web address to the page."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import augment, fetch, prepare
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.source import SourceRecord
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.diagnose import course_of, examine, write
from pipeline.diagnosis import Thresholds
from pipeline.evaluate import evaluate
from pipeline.report import report
from pipeline.stage.job import Job
from tests.cifar_files import CLASSES, NUM_IN_BATCH, cifar_files, images_and_labels, published
from tests.conftest import ROOT
from tests.idx_files import sha256s
from tests.loopback import web_server


@dataclass
class Project:
    """Folders of the stages under `root`, and a configuration."""

    root: Path
    config: Config

    def run(self, stage: str, main: Callable[[Job], None]) -> Path:
        out = self.root / stage
        out.mkdir()
        main(Job(self.config, out, f"made-by-{stage}", self.root / "cache", lambda name: self.root / name))
        return out


def chosen(folder: Path, *overrides: str) -> Config:
    """The library's configuration with `data=cifar10`, for the files of the small archive."""
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text("{}")
    config = compose(ROOT / "conf", folder / "params.yaml", ["data=cifar10", "augment=strong", *overrides])
    return with_data(config, files=sha256s(cifar_files()))


def with_data(config: Config, **changed: Any) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=changed)})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The output of fetch, prepare and augment for the archive."""
    root = tmp_path_factory.mktemp("colour")
    made = Project(root, chosen(root / "configuration"))
    with web_server() as server:
        server.files["cifar-10-binary.tar.gz"] = published()
        mirrored = with_data(made.config, mirrors=[f"{server.url}/cifar-10-binary.tar.gz"])
        Project(root, mirrored).run("fetch", fetch.main)
    made.run("prepare", prepare.main)
    made.run("augment", augment.main)
    return made


def test_fetch_keeps_the_batches_and_says_what_they_are(project: Project) -> None:
    left = {path.name: path.read_bytes() for path in (project.root / "fetch").iterdir()}
    record = SourceRecord.from_json(left.pop("source.json"))
    assert left == cifar_files()
    assert (record.name, record.layout, record.classes) == ("cifar10", "cifar", CLASSES)


def test_prepared_images_are_those_of_the_batches(project: Project) -> None:
    dataset = DatasetRecord.read(project.root / "prepare")
    assert dataset.channels == 3 and dataset.size == 32
    assert "Krizhevsky 2009" in dataset.source and dataset.licence.startswith("none stated")
    counts = {name: sum(counts) for name, counts in dataset.counts.items()}
    assert counts["test"] == 40 and sum(counts.values()) == 240 and min(counts.values()) >= 10
    batches = {name: images_and_labels(seed) for seed, name in enumerate(cifar_files())}
    for split in ("train", "test"):
        folder = project.root / "prepare" / split
        rows = pq.read_table(folder / "ids.parquet").to_pylist()
        for row, image, label in zip(rows, np.load(folder / "images.npy"), np.load(folder / "labels.npy"), strict=True):
            images, labels = batches[row["path"]]
            position = int(row["id"].rpartition("-")[2]) % NUM_IN_BATCH
            assert label == labels[position]
            assert np.array_equal(image, images[position].transpose(1, 2, 0)), "red, green and blue come last"


def test_copies_are_augmented_in_colour(project: Project) -> None:
    copies = np.load(project.root / "augment" / "images.npy", mmap_mode="r")
    assert copies.shape == (4, *np.load(project.root / "prepare/train/images.npy", mmap_mode="r").shape)
    assert (copies[..., 0] != copies[..., 2]).any()
    assert (project.root / "augment" / "preview.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.long
@pytest.mark.parametrize(
    "network",
    [("model=resnet", "model.width=4", "model.depth=1"), ("model=convnet", "model.width=8"), ("model=lenet",)],
)
def test_networks_learn_colours_and_the_page_shows_them(
    project: Project, tmp_path: Path, network: tuple[str, ...]
) -> None:
    from pipeline import train

    quick = ("train.max_epochs=3", "train.batch_size=16", "optimizer.lr=0.01", "tracking.enabled=false")
    training, evaluation = tmp_path / "train", tmp_path / "evaluate"
    job = Job(chosen(tmp_path, *network, *quick), training, "trained", tmp_path / "cache", project.root.__truediv__)
    for folder in (training, evaluation, tmp_path / "report"):
        folder.mkdir()
    train.main(job)
    prepared, augmented = project.root / "prepare", project.root / "augment"
    evaluated = evaluate(training=training, prepared=prepared, batch_size=16, out=evaluation, tta="flip_shift")
    assert evaluated.scores.accuracy.value > 0.3, "three times as often right as by chance"
    course = course_of(training, prepared, None)
    run_id = json.loads((training / "run.json").read_text())["id"]
    write(tmp_path / "diagnosis", course, examine(course, Thresholds(), None, None, run_id))
    report(
        out=tmp_path / "report",
        training=training,
        evaluation=evaluation,
        diagnosis=tmp_path / "diagnosis",
        prepared=prepared,
        augmented=augmented,
    )
    assert "automobile" in (tmp_path / "report" / "index.html").read_text()
