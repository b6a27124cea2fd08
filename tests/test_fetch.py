"""The fetch stage: raw files and `source.json`, the same bytes whoever served them."""

import hashlib
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artefacts.source import SourceRecord
from pipeline.config.composition import compose
from pipeline.config.schema import Config
from pipeline.config.schema_data import Digits, Published
from pipeline.errors import DataError
from pipeline.fetch import fetch_digits, fetch_published, main
from pipeline.source.download import Patience
from pipeline.stage import entry, lineage
from pipeline.stage.job import Job
from tests.cifar_files import tarred
from tests.conftest import ROOT
from tests.idx_files import CLASSES, gzipped, idx_files, sha256s, write_files
from tests.loopback import web_server

CONTENT = idx_files()


def fetch(out: Path, cache: Path, mirrors: list[str], source: str | None = None) -> dict[str, bytes]:
    out.mkdir()
    data = Published.model_construct(
        name="sides", layout="idx", source=source, mirrors=mirrors, files=sha256s(CONTENT), classes=CLASSES, licence="MIT",
        origin="made on the spot",
    )  # fmt: skip
    patience = Patience(connect_seconds=1, read_seconds=1, retry_seconds=0)
    fetch_published(data=data, out=out, cache=cache, patience=patience)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_fetch_describes_what_it_got(tmp_path: Path) -> None:
    mirror = write_files(tmp_path / "mirror", gzipped(CONTENT))
    made = fetch(tmp_path / "out", tmp_path / "cache", [str(mirror)])
    record = SourceRecord.from_json(made.pop("source.json"))
    assert made == CONTENT
    assert record == SourceRecord(
        name="sides", layout="idx", found=None, asked=None, parts=None, columns=None, classes=CLASSES, licence="MIT",
        source="made on the spot", files=sha256s(CONTENT),
    )  # fmt: skip


def test_output_is_the_same_whichever_mirror_served(tmp_path: Path) -> None:
    mirror = write_files(tmp_path / "mirror", CONTENT)
    with web_server() as server:
        server.files = gzipped(CONTENT)
        from_web = fetch(tmp_path / "web", tmp_path / "cache", [server.url])
        server.files = {"sides.tar": tarred(CONTENT)}
        from_archive = fetch(tmp_path / "archive", tmp_path / "cache", [f"{server.url}/sides.tar"])
    assert fetch(tmp_path / "folder", tmp_path / "cache", [str(tmp_path / "none"), str(mirror)]) == from_web
    assert from_archive == from_web


def test_source_is_the_only_place_that_is_asked(tmp_path: Path) -> None:
    mirror = write_files(tmp_path / "mirror", CONTENT)
    with pytest.raises(DataError, match=r"data\.source must name .* got .*/none: there is no such folder"):
        fetch(tmp_path / "out", tmp_path / "cache", [str(mirror)], source=str(tmp_path / "none"))


def test_empty_source_is_refused_and_not_taken_for_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_files(tmp_path / "mirror", CONTENT))
    with pytest.raises(DataError, match=r"data\.source must name .*; got '': it must be a folder"):
        fetch(tmp_path / "out", tmp_path / "cache", [], source="")


def test_digits_are_scaled_to_bytes(tmp_path: Path) -> None:
    fetch_digits(out=tmp_path)
    images, labels = np.load(tmp_path / "images.npy"), np.load(tmp_path / "labels.npy")
    assert images.dtype == np.uint8 and images.shape == (1797, 8, 8, 1)
    assert labels.dtype == np.int64 and labels.shape == (1797,)
    assert set(np.unique(images)) == {value * 255 // 16 for value in range(17)}
    record = SourceRecord.read(tmp_path)
    assert record.layout == "arrays" and record.classes == list("0123456789")
    assert record.files["images.npy"] == hashlib.sha256((tmp_path / "images.npy").read_bytes()).hexdigest()


def test_digits_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    fetch_digits(out=tmp_path)


def job(tmp_path: Path, data: Any) -> Job:
    (tmp_path / "out").mkdir()
    config = Config.model_construct(data=data)
    return Job(config, tmp_path / "out", "0123456789abcdef", tmp_path / "cache", lambda stage: tmp_path / stage)


def test_main_fetches_what_the_configuration_names(tmp_path: Path) -> None:
    mirror = write_files(tmp_path / "mirror", gzipped(CONTENT))
    data = Published(
        name="fashion_mnist", layout="idx", source=str(mirror), mirrors=[], files=sha256s(CONTENT), classes=CLASSES,
        licence="MIT", origin="made on the spot",
    )  # fmt: skip
    main(job(tmp_path, data))
    assert SourceRecord.read(tmp_path / "out").files == sha256s(CONTENT)
    assert (tmp_path / "out" / "train-labels-idx1-ubyte").read_bytes() == CONTENT["train-labels-idx1-ubyte"]


def test_main_fetches_digits(tmp_path: Path) -> None:
    main(job(tmp_path, Digits(name="digits", source=None)))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"images.npy", "labels.npy", "source.json"}


@pytest.fixture
def fetch_in_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Does what DVC calls for a folder `photos` of two classes; gives what it says."""
    monkeypatch.setattr(lineage, "ROOT", tmp_path)
    monkeypatch.setattr(lineage, "CACHE", tmp_path / "build" / "cache")
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for place in range(3):
            (tmp_path / "photos" / label / f"{place}.png").write_bytes(f"{label} {place}".encode())

    def run() -> str:
        lineage._version_of.cache_clear()  # each call stands for a process of its own
        config = compose(ROOT / "conf", ROOT / "params.yaml", ["data=folder", "data.source=photos"])
        entry._run_in_dvc("fetch", main, config, tmp_path / "build")
        return capsys.readouterr().out

    return run


def test_own_images_are_fetched_again_only_where_one_has_changed(tmp_path: Path, fetch_in_dvc: Any) -> None:
    photos = tmp_path / "photos"
    assert "photos: image folder with 2 classes, 6 images" in fetch_in_dvc()
    assert fetch_in_dvc() == fetch_in_dvc() == "fetch: nothing has changed\n"

    def after(change: Any) -> str:
        change()
        said = fetch_in_dvc()
        assert said != "fetch: nothing has changed\n" and fetch_in_dvc() == "fetch: nothing has changed\n"
        return lineage.hash_folder(tmp_path / "downloads")

    before = lineage.hash_folder(tmp_path / "downloads")
    assert after((photos / "ant/1.png").touch) == before, "touched, it is the same image"
    hashes = [
        after(lambda: (photos / "bee/new.png").write_bytes(b"new")),
        after(lambda: (photos / "bee/new.png").rename(photos / "ant/new.png")),
        after(lambda: (photos / "ant/new.png").write_bytes(b"wen")),
        after((photos / "ant/2.png").unlink),
    ]
    assert len({before, *hashes}) == 5


def test_own_images_are_fetched_again_where_the_output_is_not_whole(tmp_path: Path, fetch_in_dvc: Any) -> None:
    fetch_in_dvc()
    (tmp_path / "downloads" / "images-00.parquet").write_bytes(b"damaged")
    assert "photos: image folder with 2 classes" in fetch_in_dvc()
    assert fetch_in_dvc() == "fetch: nothing has changed\n"


def test_a_fetch_that_fails_leaves_what_was_there(tmp_path: Path, fetch_in_dvc: Any) -> None:
    fetch_in_dvc()
    before = {path.name: path.read_bytes() for path in (tmp_path / "downloads").iterdir()}
    shutil.rmtree(tmp_path / "photos" / "bee")
    with pytest.raises(DataError, match=r"at least two classes, each in a folder of its name; it has 'ant' alone"):
        fetch_in_dvc()
    assert {path.name: path.read_bytes() for path in (tmp_path / "downloads").iterdir()} == before
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name]
