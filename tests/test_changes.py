"""Tests the command that compares two versions of the prepared data: page, table, errors, and a run in a project."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.changes import at_revision, in_workspace
from pipeline.data.versions import Version, compare, count, pixels
from pipeline.errors import ConfigError, DataError
from pipeline.page.changes import print_table, render
from tests.conftest import command_runner
from tests.test_report import read

Row = tuple[str, str, str, str]
"""Name, SHA-256, label and split."""

HOSTILE = "cat/<img src=x onerror=alert(1)>\x1b[2J.png"


def prepared(root: Path, classes: list[str], rows: list[Row]) -> Version:
    """`build/prepare` below `root`, each image in one grey."""
    counts = {}
    for split in ("train", "val", "confirm", "test"):
        folder = root / "build" / "prepare" / split
        folder.mkdir(parents=True)
        mine = [row for row in rows if row[3] == split]
        labels = np.array([classes.index(label) for _, _, label, _ in mine], dtype=np.int64)
        greys = np.array([int(sha256, 16) for _, sha256, _, _ in mine], dtype=np.uint8)
        np.save(folder / "images.npy", np.broadcast_to(greys[:, None, None, None], (len(mine), 8, 8, 1)))
        np.save(folder / "labels.npy", labels)
        ids = {"id": [row[0] for row in mine], "sha256": [row[1] for row in mine]}
        pq.write_table(pa.table(ids, pa.schema([("id", pa.string()), ("sha256", pa.string())])), folder / "ids.parquet")
        counts[split] = np.bincount(labels, minlength=len(classes)).tolist()
    DatasetRecord(
        name="pets", classes=classes, size=8, channels=1, counts=counts, mean=[0.5], std=[0.5], source="here",
        licence="none", files={},
    ).write(root / "build" / "prepare")  # fmt: skip
    return in_workspace(root)


def two_versions(root: Path) -> tuple[Version, Version]:
    common = [(f"cat/{number}.png", f"{number:02x}", "cat", "train") for number in range(3)]
    gone = [(f"dog/{number}.png", f"{number:02x}", "dog", "val") for number in range(20, 35)]
    old = [*common, *gone, ("cat/moved.png", "50", "cat", "train"), ("cat/other.png", "51", "cat", "test")]
    new = [*common, ("cat/moved.png", "50", "cat", "val"), ("dog/other.png", "51", "dog", "test")]
    new.append((HOSTILE, "52", "cat", "train"))
    return prepared(root / "old", ["cat", "dog"], old), prepared(root / "new", ["cat", "dog"], new)


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Version, Version]:
    return two_versions(tmp_path)


def test_page_shows_what_changed_and_never_runs_a_name(versions: tuple[Version, Version]) -> None:
    old, new = versions
    page = render(old, new, count(old, new), compare(old.images, new.images))
    reader = read(page)
    text = " ".join(reader.text.split())
    assert "1 added, 15 removed, 1 relabelled, 1 moved." in text and "The first 10:" in text
    assert "cat → dog, test" in text and "cat, train → val" in text
    assert "<img src=x onerror" not in page and "<img src=x onerror" in text
    pictures = [attrs for tag, attrs in reader.elements if tag == "img"]
    assert len(pictures) == 13 and all(attrs["src"].startswith("data:image/png;base64,") for attrs in pictures)
    assert "dog</th><td>0</td><td>15 → 0</td>" in page


def test_page_of_two_equal_versions_says_so(versions: tuple[Version, Version]) -> None:
    page = render(versions[0], versions[0], count(versions[0], versions[0]), compare(*2 * [versions[0].images]))
    assert "No image was added, removed, relabelled or moved." in page and "<img" not in page


def test_table_tells_what_changed_and_nothing_that_a_terminal_obeys(
    versions: tuple[Version, Version], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = versions
    print_table(old, new, count(old, new), compare(old.images, new.images))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert re.search(r"dog +0 +15 → 0 +0 +0 → 1 +15 → 1", said)
    assert "removed 15: dog/20.png: dog, val; dog/21.png: dog, val; dog/22.png: dog, val; …" in said
    assert "relabelled 1: dog/other.png: cat → dog, test" in said


def test_a_workspace_without_prepared_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"build/prepare must hold prepared data; .*dataset.json is not there. Run `dvc rep"
    ):
        in_workspace(tmp_path)


def test_prepared_data_that_another_version_wrote_are_told(tmp_path: Path) -> None:
    prepared(tmp_path, ["cat"], [("cat/1.png", "01", "cat", "train")])
    (tmp_path / "build" / "prepare" / "dataset.json").write_text('{"name": "pets", "classes": ["cat"]}')
    match = r"of the workspace must be readable; dataset\.json is damaged, or another .* \(its version must be 1; got None\)"
    with pytest.raises(DataError, match=match):
        in_workspace(tmp_path)


def test_a_revision_is_read_from_what_dvc_keeps_and_its_lack_is_told(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    prepared(root, ["cat", "dog"], [("cat/1.png", "01", "cat", "train"), ("dog/2.png", "02", "dog", "test")])
    run = command_runner(root)
    run("git", "init", "-q", ".")
    run("dvc", "init", "-q")
    run("git", "config", "user.name", "Test")
    run("git", "config", "user.email", "test@example.org")
    run("git", "commit", "-qm", "Begin")
    run("dvc", "add", "-q", "build/prepare")
    run("git", "add", ".")
    run("git", "commit", "-qm", "Prepare")
    shutil.rmtree(root / "build" / "prepare")

    version = at_revision("HEAD", root)
    assert re.fullmatch(r"HEAD \([0-9a-f]{7}\)", version.title)
    assert [(each.name, each.label, each.split) for each in version.images] == [
        ("cat/1.png", "cat", "train"), ("dog/2.png", "dog", "test"),
    ]  # fmt: skip
    assert pixels(version, version.images[1:])[0].tolist() == np.full((8, 8, 1), 2).tolist()
    with pytest.raises(ConfigError, match="REV must be a commit, branch, tag or DVC experiment of .*; got 'v9'"):
        at_revision("v9", root)
    with pytest.raises(
        DataError, match=r"HEAD~1 \(.*\) must have prepared data; its dvc.lock has none of build/prepare"
    ):
        at_revision("HEAD~1", root)
    run("git", "clone", "-q", str(root), str(tmp_path / "clone"))
    with pytest.raises(DataError, match=r"prepared data of HEAD \(.*\) must be in DVC's cache .* Run `dvc pull`"):
        at_revision("HEAD", tmp_path / "clone")
    shutil.rmtree(root / ".dvc" / "cache")
    with pytest.raises(DataError, match=r"prepared data of HEAD \(.*\) must be in DVC's cache .* Run `dvc pull`"):
        at_revision("HEAD", root)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (32, 32), interpolation=cv2.INTER_CUBIC))


@pytest.mark.slow
def test_images_added_removed_and_relabelled_are_told_after_a_repro(project: Path, tmp_path: Path) -> None:
    source, run = tmp_path / "pets", command_runner(project)
    for place, name in enumerate(("cat", "dog", "猫")):
        for number in range(30):
            draw(source / name / f"{number:02d}.png", 100 * place + number)
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("name: digits\n  source: null", f"name: folder\n  source: {source}"))
    run("dvc", "repro", "prepare")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Prepare")
    assert "added 0\nremoved 0\nrelabelled 0\nmoved 0" in run("pipeline.changes").stdout

    draw(source / "cat" / "new.png", 1000)
    (source / "dog" / "07.png").unlink()
    (source / "dog" / "08.png").rename(source / "猫" / "from-dog.png")
    (source / "dog" / "09.png").rename(source / "dog" / "renamed.png")
    done = run("dvc", "repro", "prepare")
    assert "89 of them known from another version of the data" in done.stdout
    said = run("pipeline.changes", "HEAD").stdout
    assert "added 1: cat/new.png: cat, " in said and "removed 1: dog/07.png: dog, " in said
    assert "relabelled 1: 猫/from-dog.png: dog → 猫, " in said and "moved 0" in said
    page = (project / "build" / "changes" / "index.html").read_text(encoding="utf-8")
    assert "1 added, 1 removed, 1 relabelled, 0 moved." in page and page.count("<img ") == 3

    run("git", "commit", "-qam", "Change the data")
    assert run("pipeline.changes", "HEAD~1", "HEAD").stdout.splitlines()[1:] == said.splitlines()[1:]
    run("git", "checkout", "-q", "HEAD~1")
    run("dvc", "checkout", "-q", "data", "build/prepare")
    assert "added 0\nremoved 0\nrelabelled 0\nmoved 0" in run("pipeline.changes").stdout
