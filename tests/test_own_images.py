"""A user's own images, from a folder of files to a trained model, and what becomes of them as they change."""

import csv
import io
import json
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from pipeline.artefacts.dataset import SPLITS, DatasetRecord
from pipeline.config.composition import compose
from pipeline.data.raw_dataset import read
from pipeline.fetch import fetch_own, main
from pipeline.prepare import prepare
from pipeline.stage.job import Job
from tests.conftest import ROOT, command_runner
from tests.mutations import Mutated, mutations
from tests.test_pipeline import edit, ran


def write_digits(folder: Path, limit: int | None = None) -> Path:
    """scikit-learn's digits as PNG files in folders of classes, the same pixels as `data=digits` has."""
    digits = load_digits()
    pixels = (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)
    for place, (image, label) in enumerate(zip(pixels[:limit], digits.target[:limit], strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / str(label) / f"{place:04d}.png"), image)
    return folder


def use(project: Path, source: str, **more: Any) -> None:
    """Make `params.yaml` say where the images are."""
    data = json.dumps({"name": "folder", "source": source, **more})
    path = project / "params.yaml"
    path.write_text(re.sub(r"^data:.*\n(  .*\n)*", f"data: {data}\n", path.read_text(), flags=re.MULTILINE))


def arrays(project: Path) -> dict[str, bytes]:
    names = [f"{split}/{name}.npy" for split in SPLITS for name in ("images", "labels")]
    return {name: (project / "build" / "prepare" / name).read_bytes() for name in names}


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.long
def test_a_folder_of_files_gives_what_the_arrays_gave(ready: Path) -> None:
    before, metrics = arrays(ready), read_json(ready / "build/evaluate/metrics.json")
    write_digits(ready / "photos")
    use(ready, "photos")
    done = command_runner(ready)("dvc", "repro")
    assert "photos: image folder with 10 classes, 1,797 images, no test split" in done.stdout
    assert arrays(ready) == before
    after = read_json(ready / "build/evaluate/metrics.json")
    assert after["test/accuracy"] == metrics["test/accuracy"] and after["test/loss"] == metrics["test/loss"]
    page = (ready / "build/report/index.html").read_text()
    assert "photos" in page


def packed(folder: Path, kind: str) -> str:
    """The images of `folder` in another form beside it; gives the source to name."""
    home = folder.parent
    files = sorted(folder.rglob("*.png"))
    if kind == "zip":
        with zipfile.ZipFile(home / "photos.zip", "w") as archive:
            for path in files:
                archive.write(path, f"my photos/{path.relative_to(folder)}")
        return "photos.zip"
    if kind == "tar":
        with tarfile.open(home / "photos.tar.gz", "w:gz") as archive:
            archive.add(folder, "photos")
        return "photos.tar.gz"
    if kind == "table":
        (home / "flat").mkdir()
        lines = io.StringIO()
        writer = csv.writer(lines)
        writer.writerow(["file", "label"])
        for path in files:
            shutil.copy(path, home / "flat" / path.name)
            writer.writerow([path.name, path.parent.name])
        (home / "flat" / "labels.csv").write_text(lines.getvalue())
        return "flat"
    if kind == "splits":
        for path in files:
            split = "Validation" if int(path.stem) % 5 == 0 else "train"
            (home / "parts" / split / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, home / "parts" / split / path.parent.name)
        return "parts"
    arrays = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files]
    labels = [int(path.parent.name) for path in files]
    np.savez(home / "digits.npz", x_train=np.stack(arrays), y_train=np.array(labels))
    return "digits.npz"


@pytest.mark.parametrize("kind", ["zip", "tar", "table", "splits", "npz"])
def test_every_layout_is_prepared(tmp_path: Path, kind: str) -> None:
    dataset = prepared(tmp_path, packed(write_digits(tmp_path / "photos", limit=300), kind))
    assert dataset.classes == [str(digit) for digit in range(10)]
    assert sum(map(sum, dataset.counts.values())) == 300
    if kind == "splits":
        assert sum(dataset.counts["val"]) == 60


@pytest.mark.parametrize("number", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_bad_file_is_listed_and_every_good_one_kept(tmp_path: Path, number: int) -> None:
    files: dict[str, Mutated] = {}
    for place, mutated in enumerate(mutations(seed=number, count=number)):
        name = f"{'ab'[place % 2]}/{place:04d}-{mutated.name}"
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(mutated.data)
        files[name] = mutated
    for place in range(20):  # so that each class has enough to be split
        for label in "ab":
            write_noise(tmp_path / "photos" / label / f"good{place}.png", seed=place + 1000 * (label == "a"))
    before = {path for path in tmp_path.rglob("*")}
    prepared(tmp_path, "photos", "data.max_file_megabytes=1")
    listed = {row["path"]: (row["problem"], row["action"]) for row in issues(tmp_path / "out")}
    kept = set(where(tmp_path / "out"))
    assert {name for name, mutated in files.items() if mutated.must_fail} <= {
        name for name, (problem, action) in listed.items() if action == "dropped" or "left out" in action
    }
    assert {name for name, mutated in files.items() if mutated.must_fail is False} <= kept
    assert all((name in kept) != (listed.get(name, ("", ""))[1] in ("dropped", "left out by fetch")) for name in files)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")} - before
    assert {path.relative_to(tmp_path).parts[0] for path in outside} <= {"downloads", "cache"}


def write_noise(path: Path, seed: int) -> None:
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8))


def prepared(root: Path, source: str, *overrides: str) -> DatasetRecord:
    """Fetch and prepare within this process, and read `dataset.json`."""
    settings = ["data=folder", f"data.source={source}", "prepare.workers=1", *overrides]
    config = compose(ROOT / "conf", ROOT / "params.yaml", settings)
    (root / "downloads").mkdir()
    (root / "out").mkdir()
    fetch_own(data=config.data, out=root / "downloads", cache=root / "cache/fetch", root=root)
    prepare(root / "downloads", config.prepare, root / "out", root / "cache")
    return DatasetRecord.read(root / "out")


def issues(out: Path) -> list[dict[str, str]]:
    with (out / "issues.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_changes_of_the_folder_are_noticed_and_only_new_images_are_decoded(ready: Path) -> None:
    photos = write_digits(ready / "photos", limit=400)
    use(ready, "photos")
    run = command_runner(ready)
    run("dvc", "repro", "prepare")
    assert ran(run("dvc", "repro", "prepare")) == {"fetch"}
    old = where(ready / "build/prepare")

    three = sorted((photos / "3").iterdir())
    three[0].rename(photos / "5" / three[0].name)  # another label
    three[1].unlink()
    fresh = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    cv2.imwrite(str(photos / "7" / "new.png"), fresh)
    done = run("dvc", "repro", "prepare")
    assert "399 of them known from another version of the data" in done.stdout
    new = where(ready / "build/prepare")
    assert set(old) - set(new) == {f"3/{three[0].name}", f"3/{three[1].name}"}
    assert set(new) - set(old) == {f"5/{three[0].name}", "7/new.png"}
    assert new[f"5/{three[0].name}"] == old[f"3/{three[0].name}"], "a new label moves no image"
    assert all(new[name] == old[name] for name in set(old) & set(new)), "a new image moves no old one"

    run("dvc", "repro", "augment")
    for path in photos.rglob("*.png"):
        path.touch()
    assert ran(run("dvc", "repro", "augment")) == {"fetch", "prepare"}, "the same images, touched, change nothing"


def where(prepared: Path) -> dict[str, str]:
    """The split of each image."""
    return {
        name: split for split in SPLITS for name in pq.read_table(prepared / split / "ids.parquet")["id"].to_pylist()
    }


@pytest.mark.slow
def test_old_images_and_their_model_come_back(ready: Path) -> None:
    run = command_runner(ready)
    photos = write_digits(ready / "photos", limit=300)
    use(ready, "photos")
    edit(ready / "params.yaml", "max_epochs: 2", "max_epochs: 1")
    run("dvc", "repro")
    run("git", "add", "dvc.lock", "data.dvc", "params.yaml")
    run("git", "commit", "-qm", "Train on 300 images")
    before, weights = arrays(ready), (ready / "build/train/model.ckpt").read_bytes()
    for path in sorted((photos / "4").iterdir())[:5]:
        path.unlink()
    run("dvc", "repro")
    assert arrays(ready) != before
    run("git", "checkout", "-q", "dvc.lock", "data.dvc")
    run("dvc", "checkout")
    assert arrays(ready) == before and (ready / "build/train/model.ckpt").read_bytes() == weights


@pytest.mark.slow
def test_folds_are_one_entry_with_its_spread(ready: Path) -> None:
    run = command_runner(ready)
    swept = ["prepare.folds=3", "prepare.fold=0,1,2", "prepare.limit=300", "train.max_epochs=1", "augment=none"]
    done = run("pipeline.train", "-m", *swept)
    ranking, *_ = ready.glob("multirun/train/*/leaderboard.csv")
    table = list(csv.DictReader(io.StringIO(ranking.read_text())))
    assert len(table) == 1 and table[0]["n"] == "3" and float(table[0]["val/loss_sd"]) > 0
    assert "prepare.fold" not in " ".join(line for line in done.stdout.splitlines() if "dvc exp run" in line)
    told = run("pipeline.diagnose", "--folds", str(ranking.parent.relative_to(ready))).stdout
    assert re.search(r"training 0\.\d+, validation 0\.\d+", told), told
    shutil.rmtree(ranking.parent / "2")
    refused = run("pipeline.diagnose", "--folds", str(ranking.parent.relative_to(ready)), check=False)
    assert refused.returncode == 1 and "has the folds: 0 of 3, 1 of 3. Make it with" in refused.stderr


@pytest.mark.long
def test_without_the_source_the_pinned_images_stay(ready: Path) -> None:
    run = command_runner(ready)
    photos = write_digits(ready / "photos", limit=300)
    use(ready, "photos")
    run("dvc", "repro", "prepare")
    before = arrays(ready)
    photos.rename(ready / "elsewhere")
    shutil.rmtree(ready / "downloads")
    done = run("dvc", "repro", "prepare")
    assert "photos is not to be had here: data/, which data.dvc pins, was made from it and stays" in done.stdout
    assert ran(done) == {"fetch"} and arrays(ready) == before
    use(ready, "elsewhere2")
    done = run("dvc", "repro", "prepare", check=False)
    assert done.returncode != 0 and "data.source must be a folder, an archive or a file that is there" in done.stderr


@pytest.mark.slow
def test_fashion_mnist_as_files_is_what_its_arrays_are(tmp_path: Path) -> None:
    """Needs one of the dataset's mirrors."""
    config = compose(ROOT / "conf", ROOT / "params.yaml", ["data=fashion_mnist"])
    (tmp_path / "raw").mkdir()
    (tmp_path / "arrays").mkdir()
    main(Job(config, tmp_path / "raw", "f", tmp_path / "cache", {}.__getitem__))
    prepare(tmp_path / "raw", config.prepare, tmp_path / "arrays", tmp_path / "cache")
    raw = read(tmp_path / "raw")
    place = 0
    for block in raw.blocks:
        for image in block.read():
            name = raw.classes[raw.labels[place]].replace("/", "∕")
            folder = tmp_path / "photos" / raw.splits[place] / name
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{place:05d}.png"), np.asarray(image))
            place += 1
    classes = json.dumps([name.replace("/", "∕") for name in raw.classes], ensure_ascii=False)
    prepared(tmp_path, "photos", f"data.classes={classes}")
    for split in SPLITS:
        for array in ("images.npy", "labels.npy"):
            assert (tmp_path / "out" / split / array).read_bytes() == (tmp_path / "arrays" / split / array).read_bytes()


def test_a_sweep_over_sources_prepares_each(project: Path) -> None:
    for name, count in (("jung", 12), ("größer", 16)):
        for label in "ab":
            (project / name / label).mkdir(parents=True)
            for number in range(count):
                write_noise(project / name / label / f"{number}.png", seed=100 * number + len(label))
    run = command_runner(project)
    printed = run(
        "pipeline.prepare", "-m", "data=folder", "data.source=jung,größer", "prepare.near_duplicates=false"
    ).stdout
    assert re.findall(r"^prepare: (\d+) images", printed, re.MULTILINE) == ["24", "32"]
