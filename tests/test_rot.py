"""A byte that has changed in a file under `build/` is noticed by whoever reads the file, and mended by the command it names."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefacts.package import FILES
from pipeline.errors import DamagedError
from pipeline.evaluation.accuracy import accuracy_on
from pipeline.storage import places
from tests.conftest import command_runner
from tests.records import flip_byte

READERS = {
    "audit": ("pipeline.audit",),
    "augment": ("pipeline.augment", "--config", "build/config.yaml"),
    "by hand": ("pipeline.augment", "augment.copies=1"),
    "changes": ("pipeline.changes",),
    "compare": ("pipeline.report", "--against", "build"),
    "confirm": (),  # of `cure`, which trains for minutes before: `accuracy_on` below
    "diagnose": ("pipeline.diagnose", "--config", "build/config.yaml"),
    "evaluate": ("pipeline.evaluate", "--config", "build/config.yaml"),
    "package": ("pipeline.package", "--config", "build/config.yaml"),
    "prepare": ("pipeline.prepare", "--config", "build/config.yaml"),
    "register": ("pipeline.register", "--config", "build/config.yaml"),
    "report": ("pipeline.report", "--config", "build/config.yaml"),
    "train": ("pipeline.train", "--config", "build/config.yaml"),
}
"""Commands by a name for them."""

READ = {
    "prepare/SHA256SUMS": "augment", "prepare/dataset.json": "augment", "prepare/fingerprint.txt": "by hand",
    "prepare/groups.csv": "audit",
    "prepare/issues.csv": "report", "prepare/issues.png": "report", "prepare/overview.png": "report",
    "prepare/train/images.npy": "augment", "prepare/train/labels.npy": "augment", "prepare/train/ids.parquet": "diagnose",
    "prepare/val/images.npy": "train", "prepare/val/labels.npy": "train", "prepare/val/ids.parquet": "diagnose",
    "prepare/confirm/images.npy": "confirm", "prepare/confirm/labels.npy": "confirm",
    "prepare/confirm/ids.parquet": "changes",
    "prepare/test/images.npy": "evaluate", "prepare/test/labels.npy": "evaluate", "prepare/test/ids.parquet": "evaluate",
    "augment/SHA256SUMS": "train", "augment/augment.json": "train", "augment/fingerprint.txt": "train",
    "augment/images.npy": "train", "augment/preview.png": "report",
    "train/SHA256SUMS": "evaluate", "train/fingerprint.txt": "evaluate", "train/history.csv": "evaluate",
    "train/model.ckpt": "evaluate", "train/run.json": "evaluate", "train/signals.json": "evaluate",
    "train/weights.csv": "report",
    "evaluate/SHA256SUMS": "report", "evaluate/confusion.csv": "report", "evaluate/fingerprint.txt": "report",
    "evaluate/details.json": "report", "evaluate/per_class.csv": "report", "evaluate/predictions.parquet": "compare",
    "evaluate/outputs/calibration.npz": "package", "evaluate/outputs/shuffled.npz": "package",
    "evaluate/outputs/training.npz": "package", "evaluate/outputs/evaluated.npz": "report",
    "evaluate/outputs/mistakes.npz": "report",
    **{f"package/{name}": "register" for name in (*FILES, "SHA256SUMS", "fingerprint.txt")},
    "diagnose/SHA256SUMS": "report", "diagnose/diagnosis.json": "report",
    "diagnose/fingerprint.txt": "report",
    "cache/reference-*/reference.json": "diagnose", "cache/label-noise-*/label_noise.json": "diagnose",
}  # fmt: skip
"""A reader of each file that some stage or command reads."""

MADE_AGAIN = {f"cache/decoded-*/{name}" for name in (
    "SHA256SUMS", "about.json", "content.npy", "images.npy", "inverted.npy", "keys.npy", "num_bytes.npy", "order.npy",
    "peak.npy", "problems.json", "shape.npy", "signature.npy", "spread.npy", "white_drawing.npy",
)}  # fmt: skip
"""Decoded images, which `prepare` makes again, and says so, where one of them is damaged."""

UNREAD = {
    "weights/SHA256SUMS", "weights/fingerprint.txt", "weights/weights.json",  # read where model.weights names some
    "augment/pipeline.json",  # for people and for albumentations
    "train/changes.patch",  # reproduce's, which compares it with its digest in run.json
    "evaluate/confusion.png", "evaluate/mistakes.csv", "evaluate/mistakes.png", "diagnose/curve.png",  # for people
    "evaluate/metrics.json", "diagnose/metrics.json",  # for DVC
    "register/SHA256SUMS", "register/fingerprint.txt", "register/receipt.json",  # for people
    "report/SHA256SUMS", "report/fingerprint.txt", "report/index.html", "report/summary.txt",  # nothing comes after
    "report/comment.md",
    "config.yaml",  # DVC's, whose hash of it stands in dvc.lock
    "spool/*/.lock", "spool/*/.order.lock",  # empty
    "cache/checked/*.json",  # hashes that were found; a wrong one costs a second look
}  # fmt: skip


@pytest.fixture(scope="module")
def intact(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project whose `dvc.lock` is committed; each test leaves it as it was."""
    folder = tmp_path_factory.mktemp("rot") / "project"
    shutil.copytree(finished_project, folder, symlinks=True)
    run = command_runner(folder)
    run("git", "add", "-A")
    run("git", "commit", "-qm", "Reproduce")
    return folder


@pytest.fixture
def own(intact: Path, tmp_path: Path) -> Path:
    """A copy of `intact` for one test."""
    return Path(shutil.copytree(intact, tmp_path / "project", symlinks=True))


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, intact: Path) -> Iterator[None]:
    """What runs in this process takes `intact` for its project."""
    monkeypatch.setattr(places, "PROJECT", intact)
    monkeypatch.setattr(places, "CACHE", intact / "build" / "cache")
    return


def located(project: Path, pattern: str) -> Path:
    (path,) = (project / "build").glob(pattern)
    return path


def use(project: Path, reader: str) -> subprocess.CompletedProcess[str]:
    return command_runner(project)(*READERS[reader], check=False)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that refused a file."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def mend(project: Path, sentence: str) -> None:
    """Run the command that a sentence names."""
    command = re.search("`([^`]+)`", sentence)
    assert command is not None, sentence
    done = command_runner(project)("sh", "-c", command[1], check=False)
    assert done.returncode == 0, f"{command[1]}\n{done.stdout}\n{done.stderr}"


def test_every_file_in_build_is_read_or_known_to_be_for_people(intact: Path) -> None:
    build = intact / "build"
    files = {path.relative_to(build) for path in build.rglob("*") if path.is_file() and path.suffix != ".lock"}
    patterns = {*READ, *MADE_AGAIN, *UNREAD}
    unknown = [str(file) for file in files if not any(file.match(pattern) for pattern in patterns)]
    assert not unknown, f"tell in this file who reads {unknown}, or that nobody does"
    assert not [pattern for pattern in patterns if not list(build.glob(pattern))]


def read_first() -> Iterator[Any]:
    """The files that commands read; all but the first of each reader are marked long."""
    known = {"confirm"}
    for name, reader in READ.items():
        if reader != "confirm":
            yield pytest.param(name, marks=[pytest.mark.long] if reader in known else [])
        known.add(reader)


@pytest.mark.parametrize("name", [*read_first()])
def test_a_changed_byte_is_noticed_by_the_reader(intact: Path, name: str) -> None:
    path = located(intact, name)
    flip_byte(path)
    try:
        sentence = told(use(intact, READ[name]))
    finally:
        flip_byte(path)
    assert path.relative_to(intact).as_posix() in sentence and "`" in sentence


@pytest.mark.parametrize("name", [name for name, reader in READ.items() if reader == "confirm"])
def test_a_changed_byte_of_the_confirm_split_is_noticed(intact: Path, at_home: None, name: str) -> None:
    path = located(intact, name)
    flip_byte(path)
    try:
        with pytest.raises(
            DamagedError, match=rf"{name} must be as it was written \(SHA-256 .* `rm -f .* dvc checkout"
        ):
            accuracy_on(intact / "build" / "train", intact / "build" / "prepare", "confirm")
    finally:
        flip_byte(path)
    assert accuracy_on(intact / "build" / "train", intact / "build" / "prepare", "confirm") > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, reader in READ.items() if reader != "confirm"])
def test_the_command_that_is_named_brings_the_file_back(own: Path, name: str) -> None:
    path = located(own, name)
    flip_byte(path)
    mend(own, told(use(own, READ[name])))
    done = use(own, READ[name])
    assert done.returncode == 0, done.stdout + done.stderr


LINKS = [pytest.param("hardlink"), *(pytest.param(link, marks=pytest.mark.slow) for link in ("copy", "symlink"))]
FILES = [pytest.param("prepare/test/images.npy"), pytest.param("train/model.ckpt", marks=pytest.mark.slow)]


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("link", LINKS)
def test_damage_is_mended_in_dvcs_cache_too(own: Path, name: str, link: str) -> None:
    run, path = command_runner(own), own / "build" / name
    run("dvc", "config", "cache.type", link)
    run("dvc", "checkout", "--relink", "--force")
    in_cache = cached(own, path)
    assert path.samefile(in_cache) == (link != "copy")
    flip_byte(in_cache)
    if link == "copy":
        flip_byte(path)
    sentence = told(use(own, "evaluate"))
    assert re.search(
        rf"The copy in DVC's cache is damaged too: `rm -f {in_cache.relative_to(own)} build/{name} && dvc", sentence
    )
    mend(own, sentence)
    assert hashlib.md5(in_cache.read_bytes()).hexdigest() == in_cache.parent.name + in_cache.name
    assert use(own, "evaluate").returncode == 0


def test_a_whole_copy_in_dvcs_cache_saves_the_work(own: Path) -> None:
    weights = own / "build" / "train" / "model.ckpt"
    before = weights.read_bytes()
    flip_byte(weights)
    sentence = told(use(own, "evaluate"))
    assert sentence.endswith(
        "`rm -f build/train/model.ckpt && dvc checkout --force build/train` brings it back from DVC's cache."
    )
    mend(own, sentence)
    assert weights.read_bytes() == before and use(own, "evaluate").returncode == 0


@pytest.mark.slow
def test_a_file_that_is_in_no_cache_is_made_again(own: Path) -> None:
    images = own / "build" / "prepare" / "test" / "images.npy"
    before = images.read_bytes()
    cached(own, images).unlink()
    images.unlink()
    sentence = told(use(own, "evaluate"))
    assert sentence.endswith("whole and readable; got no such file. `dvc repro -f -s prepare` makes it again.")
    mend(own, sentence)
    assert images.read_bytes() == before


@pytest.mark.slow
def test_a_remote_is_named_where_there_is_one(own: Path, tmp_path: Path) -> None:
    run, weights = command_runner(own), own / "build" / "train" / "model.ckpt"
    run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    run("dvc", "push", "-q")
    before = weights.read_bytes()
    flip_byte(cached(own, weights))
    flip_byte(weights)
    sentence = told(use(own, "evaluate"))
    fetching = re.search("or `([^`]+)` fetches it", sentence)
    assert fetching is not None, sentence
    run("sh", "-c", fetching[1])
    assert weights.read_bytes() == before and use(own, "evaluate").returncode == 0


@pytest.mark.slow
def test_raw_data_that_changed_are_noticed_and_mended(own: Path) -> None:
    images = own / "data" / "images.npy"
    flip_byte(cached(own, images))
    flip_byte(images)
    sentence = told(use(own, "prepare"))
    assert "data/images.npy must be as it was written" in sentence and "&& dvc repro -f -s data.dvc`" in sentence
    mend(own, sentence)
    assert use(own, "prepare").returncode == 0


@pytest.mark.parametrize("name", ["images", pytest.param("content", marks=pytest.mark.slow)])
def test_damaged_decoded_images_are_decoded_again(own: Path, name: str) -> None:
    split = own / "build" / "prepare" / "train" / "images.npy"
    before = split.read_bytes()
    flip_byte(located(own, f"cache/decoded-*/{name}.npy"))
    done = use(own, "prepare")
    assert done.returncode == 0 and re.search(r"decoded-\w+ is damaged; its images are decoded again", done.stdout)
    assert split.read_bytes() == before
    assert "is damaged" not in use(own, "prepare").stdout


@pytest.mark.slow
def test_an_output_without_checksums_is_refused(own: Path) -> None:
    (own / "build" / "prepare" / "SHA256SUMS").unlink()
    sentence = told(use(own, "augment"))
    assert "SHA256SUMS must be whole and readable; got no such file, as if an earlier version of goodfit" in sentence
    mend(own, sentence)
    assert use(own, "augment").returncode == 0


@pytest.mark.slow
def test_a_cached_output_is_removed_and_made_again(own: Path) -> None:
    changed = ("augment.copies=1", "prepare.val_fraction=0.2")
    run = command_runner(own)
    run("pipeline.augment", *changed)
    path = located(own, "cache/prepare-*/train/images.npy")
    before = path.read_bytes()
    flip_byte(path)
    sentence = told(run("pipeline.augment", *changed, check=False))
    assert re.search(r"`rm -r build/cache/prepare-\w+` removes the folder; it is made again when needed\.$", sentence)
    mend(own, sentence)
    run("pipeline.augment", *changed)
    assert path.read_bytes() == before


def cached(project: Path, path: Path) -> Path:
    """The object of DVC's cache with the content of a file."""
    name = hashlib.md5(path.read_bytes()).hexdigest()
    return project / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
