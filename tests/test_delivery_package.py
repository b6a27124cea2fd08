"""A package that is not as it was written is refused with one sentence, whatever was done to it."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.artefacts.artefact import DIGEST
from pipeline.delivery import Classifier
from pipeline.errors import DataError
from pipeline.storage.digests import digest

REFUSED = "--model must be a package as `python -m pipeline.package` wrote it; got "


def zipped(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    return target


def listed_anew(folder: Path, name: str) -> None:
    """Give a changed file its place in the manifest, as one would who forges a package."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[DIGEST]
    data = (folder / name).read_bytes()
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}
    manifest[DIGEST] = digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def changed_byte(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def pickle_beside(folder: Path) -> None:
    (folder / "hook.pkl").write_bytes(b"cos\nsystem\n.")


def pickle_listed(folder: Path) -> None:
    pickle_beside(folder)
    listed_anew(folder, "hook.pkl")


def pickle_in_arrays(folder: Path) -> None:
    np.savez(folder / "clusters.npz", means=np.array([{}], object), precision=np.zeros(1))
    listed_anew(folder, "clusters.npz")


def missing(folder: Path) -> None:
    (folder / "calibration.json").unlink()


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def changed_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"shapes"', '"others"'))


def link(folder: Path) -> None:
    shutil.move(folder / "card.md", folder.parent / "card.md")
    (folder / "card.md").symlink_to(folder.parent / "card.md")


def no_network(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no network")
    listed_anew(folder, "model.onnx")


def external_data(folder: Path) -> None:
    """A network whose weights lie in a file outside."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    onnx.external_data_helper.convert_model_to_external_data(model, location="../../secret", size_threshold=0)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    listed_anew(folder, "model.onnx")


TAMPERED: list[tuple[Callable[[Path], None], str]] = [
    (changed_byte, "model.onnx has changed since it was written"),
    (pickle_beside, "it holds hook.pkl, which does not belong to a package"),
    (pickle_listed, "it holds hook.pkl, which does not belong to a package"),
    (pickle_in_arrays, "clusters.npz cannot be read (Object arrays cannot be loaded when allow_pickle=False)"),
    (missing, "calibration.json is missing"),
    (no_manifest, "it has no manifest.json"),
    (changed_manifest, "manifest.json cannot be read: it has changed since it was written, as its own digest tells"),
    (link, "card.md must be a file"),
]


@pytest.mark.parametrize(("change", "why"), TAMPERED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_folder_that_was_tampered_with_is_refused(
    package: Path, tmp_path: Path, change: Callable[[Path], None], why: str
) -> None:
    folder = tmp_path / "package"
    shutil.copytree(package, folder)
    change(folder)
    with pytest.raises(DataError) as error:
        Classifier.load(folder)
    assert str(error.value) == f"{REFUSED}{folder}: {why}. Copy it again, or make it again."


@pytest.mark.parametrize("change", [no_network, external_data])
def test_a_network_that_does_not_stand_by_itself_is_refused(
    package: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "package"
    shutil.copytree(package, folder)
    (tmp_path.parent / "secret").write_bytes(bytes(10_000_000))
    change(folder)
    with pytest.raises(DataError, match=r"package must hold a model that ONNX Runtime reads: ") as error:
        Classifier.load(folder)
    assert "\n" not in str(error.value)


def test_a_zip_file_is_read_where_its_files_lie_in_one_folder(package: Path, tmp_path: Path) -> None:
    for prefix in ("", "model/", "deep/er/"):
        assert Classifier.load(zipped(package, tmp_path / "model.zip", prefix)).classes


def outside(archive: zipfile.ZipFile) -> None:
    archive.writestr("../../etc/cron.d/job", b"x")


def twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("other/card.md", b"x")


@pytest.mark.parametrize(
    ("change", "why"),
    [(outside, "its files must lie in one folder"), (twice, "its files must lie in one folder")],
)
def test_a_zip_file_with_paths_elsewhere_is_refused(
    package: Path, tmp_path: Path, change: Callable[[zipfile.ZipFile], None], why: str
) -> None:
    path = zipped(package, tmp_path / "model.zip")
    with zipfile.ZipFile(path, "a") as archive:
        change(archive)
    with pytest.raises(DataError, match=re.escape(f"{REFUSED}{path}: {why}")):
        Classifier.load(path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.zip"], "nothing is unpacked"


def test_a_zip_bomb_is_refused_before_it_unfolds(package: Path, tmp_path: Path) -> None:
    import tracemalloc

    folder = tmp_path / "package"
    shutil.copytree(package, folder)
    for name in ("model.onnx", "manifest.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(bytes(60_000_000))
        path = zipped(folder, tmp_path / "bomb.zip")
        (folder / name).write_bytes(kept)
        assert path.stat().st_size < 1_000_000
        tracemalloc.start()
        with pytest.raises(DataError, match=re.escape(f"{REFUSED}{path}: {name}")):
            Classifier.load(path)
        assert tracemalloc.get_traced_memory()[1] < 25_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("end", [0, 100, -10])
def test_a_cut_zip_file_is_refused(package: Path, tmp_path: Path, end: int) -> None:
    path = zipped(package, tmp_path / "model.zip")
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match=r"it is no whole ZIP file"):
        Classifier.load(path)


def test_bytes_that_changed_anywhere_in_a_zip_file_never_go_unnoticed(package: Path, tmp_path: Path) -> None:
    path = zipped(package, tmp_path / "model.zip")
    whole, expected = path.read_bytes(), Classifier.load(path).package
    for place in np.random.default_rng(0).integers(0, len(whole), 100):
        data = bytearray(whole)
        data[place] ^= 255
        path.write_bytes(data)
        try:
            found = Classifier.load(path).package
            same = (
                found.model == expected.model and found.manifest == expected.manifest and found.drift == expected.drift
            )
            assert same, "only a byte that carries nothing, such as that of a date, may pass"
        except DataError as error:
            assert str(error).startswith(f"{REFUSED}{path}: ") and "\n" not in str(error)


def test_what_is_no_package_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--model must be a package: a folder or a ZIP file .*gone is not there"):
        Classifier.load(tmp_path / "gone")
    with pytest.raises(DataError, match=r"it has no manifest\.json"):
        Classifier.load(tmp_path)
