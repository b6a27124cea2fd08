import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline import augment as stage
from pipeline.artefacts.augment import AugmentRecord
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.augment import IMAGES_PER_CHUNK, augment, copy_seed
from pipeline.augmentation.transforms import augment_batch
from pipeline.augmentation.veto import augmentation
from pipeline.config.schema import Augment
from pipeline.errors import ConfigError, DataError
from pipeline.plotting import preview
from pipeline.storage.processes import num_processes

PAD_AND_CROP: list[Any] = [{"Pad": {"padding": 2}}, {"RandomCrop": {"height": "size", "width": "size"}}]
Prepare = Callable[..., Path]
VETOES = {"free": {}, "vetoed": {"HorizontalFlip": ["class 1"]}}


def run(prepared: Path, out: Path, *, by_image: bool = False, **changes: Any) -> np.ndarray:
    """Run the stage into a new folder, and read the copies that it made."""
    choice: dict[str, Any] = {
        "name": "test", "mode": "materialized", "max_gigabytes": 4.0, "copies": 2, "strength": 1.0, "veto": {},
        "transforms": ["HorizontalFlip", *PAD_AND_CROP], "seed": 0, "workers": 1, "backend": "loky",
    }  # fmt: skip
    out.mkdir()
    augment(prepared, out, Augment.model_construct(**{**choice, **changes}), by_image=by_image)
    images: np.ndarray = np.load(out / "images.npy", mmap_mode="r")
    return images


def test_copies_differ_from_the_originals_and_from_each_other(make_prepared: Prepare, tmp_path: Path) -> None:
    prepared = make_prepared()
    originals = np.load(prepared / "train/images.npy")
    images = run(prepared, tmp_path / "out")
    assert images.shape == (2, *originals.shape) and images.dtype == np.uint8
    assert (images[0] != images[1]).any() and (images[0] != originals).any()
    differs = (images[0] != originals).any(axis=(1, 2, 3))
    assert differs.mean() > 0.8, "nearly every image moves"


def test_each_copy_shows_its_own_image(make_prepared: Prepare, tmp_path: Path) -> None:
    prepared = make_prepared(num_train=2 * IMAGES_PER_CHUNK + 3, size=32)
    originals = np.load(prepared / "train/images.npy")
    images = run(prepared, tmp_path / "out", transforms=["HorizontalFlip"])
    flipped = originals[:, :, ::-1]
    either = (images == originals).all(axis=(2, 3, 4)) | (images == flipped).all(axis=(2, 3, 4))
    assert either.all(), "also in the last chunk, which is not full"


def test_the_seed_changes_the_copies_and_nothing_else_does(make_prepared: Prepare, tmp_path: Path) -> None:
    prepared = make_prepared()
    first, again = run(prepared, tmp_path / "1"), run(prepared, tmp_path / "2", name="another")
    other, more = run(prepared, tmp_path / "3", seed=1), run(prepared, tmp_path / "4", copies=3)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(more[:2], first), "one more copy leaves the others as they were"


def test_labels_enter_by_a_veto_alone(make_prepared: Prepare, tmp_path: Path) -> None:
    prepared = make_prepared()
    labels = np.load(prepared / "train/labels.npy")
    first, vetoed = (np.array(run(prepared, tmp_path / name, veto=veto)) for name, veto in VETOES.items())
    np.save(prepared / "train/labels.npy", labels[::-1].copy())
    assert np.array_equal(run(prepared, tmp_path / "2"), first)
    assert (first == vetoed).all(axis=(2, 3, 4))[:, labels != 1].all() and (first != vetoed)[:, labels == 1].any()


def test_a_vetoed_transform_never_touches_an_image_of_its_class(make_prepared: Prepare, tmp_path: Path) -> None:
    prepared = make_prepared(num_train=2 * IMAGES_PER_CHUNK + 3, size=24)
    originals, labels = (np.load(prepared / f"train/{name}.npy") for name in ("images", "labels"))
    images = run(
        prepared, tmp_path / "out", transforms=[{"HorizontalFlip": {"p": 1}}], veto={"HorizontalFlip": ["class 1"]}
    )
    flipped = np.where((labels == 1)[:, None, None, None], originals, originals[:, :, ::-1])
    assert np.array_equal(images, np.stack([flipped, flipped]))


@pytest.mark.parametrize("veto", VETOES.values(), ids=VETOES)
def test_folds_share_the_copies_of_the_images_that_they_share(
    veto: dict[str, Any], make_prepared: Prepare, tmp_path: Path
) -> None:
    prepared = make_prepared(num_train=IMAGES_PER_CHUNK + 30)
    one = run(prepared, tmp_path / "one", by_image=True, veto=veto)
    order = np.random.default_rng(0).permutation(IMAGES_PER_CHUNK + 30)[:90]
    for name in ("images", "labels"):
        np.save(prepared / "train" / f"{name}.npy", np.load(prepared / "train" / f"{name}.npy")[order])
    other = run(prepared, tmp_path / "other", by_image=True, veto=veto)
    assert (other == one[:, order]).all()
    assert (one[0] != one[1]).any(axis=(1, 2, 3)).mean() > 0.8, "its copies differ from each other"
    again = run(prepared, tmp_path / "again", by_image=True, veto=veto, seed=1)
    assert (again != other).any(axis=(2, 3, 4)).mean() > 0.8


def test_strength_0_is_no_augmentation(make_prepared: Prepare, tmp_path: Path) -> None:
    assert run(make_prepared(), tmp_path / "out", strength=0.0).shape == (0, 64, 32, 32, 1)
    record = json.loads((tmp_path / "out/augment.json").read_text())
    assert (record["copies"], record["transforms"], record["strength"]) == (0, [], 0.0)


def test_another_strength_is_the_list_that_it_stands_for(make_prepared: Prepare, tmp_path: Path) -> None:
    prepared, record = make_prepared(), tmp_path / "1/augment.json"
    images = run(
        prepared, tmp_path / "1", strength=2.0, transforms=[*PAD_AND_CROP, {"GaussNoise": {"std_range": [0, 0.1]}}]
    )
    stood_for = [{"Pad": {"padding": 4}}, PAD_AND_CROP[1], {"GaussNoise": {"std_range": [0, 0.2]}}]
    assert json.loads(record.read_text())["transforms"] == stood_for
    assert np.array_equal(run(prepared, tmp_path / "2", transforms=stood_for), images)


def test_chunks_may_be_written_in_any_order(make_prepared: Prepare, tmp_path: Path, monkeypatch: Any) -> None:
    prepared = make_prepared(num_train=2 * IMAGES_PER_CHUNK + 3, size=8)
    expected = np.array(run(prepared, tmp_path / "1"))
    fill = stage._fill

    def fill_backwards(chunks: list[tuple[int, int]], write_chunk: Callable[[int, int], int], workers: int) -> None:
        fill(chunks[::-1], write_chunk, workers)

    monkeypatch.setattr(stage, "_fill", fill_backwards)
    assert np.array_equal(run(prepared, tmp_path / "2"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["materialized", "online"])
def test_shifts_continue_a_white_frame(make_prepared: Prepare, tmp_path: Path, mode: str) -> None:
    prepared = make_prepared()
    images = np.load(prepared / "train/images.npy")
    images[:, :3] = images[:, -3:] = images[:, :, :3] = images[:, :, -3:] = 255
    np.save(prepared / "train/images.npy", images)
    DatasetRecord.read(prepared).model_copy(update={"fill": "auto"}).write(prepared)
    copies = run(prepared, tmp_path / "out", mode=mode)
    assert mode == "online" or copies[:, :, [0, -1], :].min() == 255
    record = AugmentRecord.read(tmp_path / "out")
    assert record.transforms[1] == {"Pad": {"padding": 2, "border_mode": cv2.BORDER_REPLICATE}}


@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_two_processes_write_the_same_bytes_as_one_whoever_runs_them(
    make_prepared: Prepare, tmp_path: Path, backend: str, capsys: Any
) -> None:
    package = {"loky": "joblib", "ray": "ray", "dask": "distributed"}[backend]
    if find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed: pip install -e '.[{backend}]'")
    prepared = make_prepared(num_train=3 * IMAGES_PER_CHUNK + 7, size=16)
    transforms = [*PAD_AND_CROP, {"Affine": {"rotate": [-9, 9]}}, "GaussNoise", "ThinPlateSpline"]
    choice: dict[str, Any] = {"transforms": transforms, "veto": {"Affine": ["class 1"]}}
    run(prepared, tmp_path / "1", **choice)
    run(prepared, tmp_path / "2", workers=2, backend=backend, **choice)
    assert (tmp_path / "1/images.npy").read_bytes() == (tmp_path / "2/images.npy").read_bytes()
    assert re.search(r"augment: 1,514 images in .* s, \d+ process", capsys.readouterr().out)


def test_threads_that_share_a_pipeline_write_the_same_bytes_as_one(make_prepared: Prepare, tmp_path: Path) -> None:
    import joblib

    prepared = make_prepared(num_train=3 * IMAGES_PER_CHUNK + 7, size=16)
    run(prepared, tmp_path / "1")
    start, chunks = np.load(tmp_path / "1/images.npy", mmap_mode="r").offset, [(0, 0), (0, 1), (0, 2), (0, 3)]
    (tmp_path / "2.npy").write_bytes((tmp_path / "1/images.npy").read_bytes()[:start])
    classes = json.loads((prepared / "dataset.json").read_text())["classes"]
    pipeline = augmentation(["HorizontalFlip", *PAD_AND_CROP], {}, size=16, channels=1, classes=classes)
    arguments = (pipeline, prepared / "train", tmp_path / "2.npy", start, 0, False)
    with joblib.parallel_config(backend="threading", n_jobs=4):
        joblib.Parallel()(joblib.delayed(stage._write_chunk)(*arguments, *chunk) for chunk in chunks)
    size = (tmp_path / "2.npy").stat().st_size
    assert (tmp_path / "2.npy").read_bytes() == (tmp_path / "1/images.npy").read_bytes()[:size]


def test_more_processes_than_cores_are_as_many_as_cores(
    make_prepared: Prepare, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("joblib.effective_n_jobs", lambda number: 1 if number == -1 else number)
    run(make_prepared(), tmp_path / "out", workers=64)
    assert "1 process" in capsys.readouterr().out


def test_no_cluster_is_asked_for_where_there_are_no_copies(make_prepared: Prepare, tmp_path: Path) -> None:
    assert len(run(make_prepared(), tmp_path / "out", mode="online", backend="a cluster that is away")) == 0


def test_pipeline_json_and_the_recorded_seed_make_the_same_copies_again(make_prepared: Prepare, tmp_path: Path) -> None:
    import albumentations as A

    prepared = make_prepared(num_train=IMAGES_PER_CHUNK + 5)
    images = run(prepared, tmp_path / "out", seed=7)
    originals = np.load(prepared / "train/images.npy")
    pipeline = A.from_dict(json.loads((tmp_path / "out/pipeline.json").read_text()))
    seed = json.loads((tmp_path / "out/augment.json").read_text())["seed"]
    for chunk in range(2):
        part = slice(chunk * IMAGES_PER_CHUNK, (chunk + 1) * IMAGES_PER_CHUNK)
        replayed = augment_batch(pipeline, originals[part], copy_seed(seed, 1, chunk))
        assert np.array_equal(replayed, images[1, part])


def test_the_record_tells_the_choice_as_it_was_written(make_prepared: Prepare, tmp_path: Path) -> None:
    run(make_prepared(), tmp_path / "out", transforms=PAD_AND_CROP, seed=3, veto={"Pad": ["class 2"]})
    content = (tmp_path / "out/images.npy").read_bytes()
    record = json.loads((tmp_path / "out/augment.json").read_text())
    assert record.pop("digest") and record == {
        "version": 1, "name": "test", "mode": "materialized", "asked": "materialized", "reason": "augment.mode says so",
        "copies": 2, "strength": 1.0, "seed": 3, "transforms": PAD_AND_CROP, "veto": {"Pad": ["class 2"]},
        "images_sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip


# 2 copies of 64 images of 32×32×1 are 131,072 bytes
@pytest.mark.parametrize(("gigabytes", "mode", "compared"), [
    (131_072e-9, "materialized", "take 0.000131 GB, within augment.max_gigabytes=0.000131072"),
    (131_071e-9, "online", "would take 0.000131 GB, beyond augment.max_gigabytes=0.000131071"),
])  # fmt: skip
def test_auto_materializes_what_fits_and_says_why(
    make_prepared: Prepare, tmp_path: Path, capsys: Any, gigabytes: float, mode: str, compared: str
) -> None:
    prepared = make_prepared()
    images = run(prepared, tmp_path / "out", mode="auto", max_gigabytes=gigabytes)
    assert capsys.readouterr().out.splitlines()[0] == f"augment.mode=auto: {mode}, as the copies {compared}"
    record = json.loads((tmp_path / "out/augment.json").read_text())
    assert (record["mode"], record["asked"], record["reason"]) == (mode, "auto", f"the copies {compared}")
    asked = run(prepared, tmp_path / "asked", mode=mode)
    assert len(images) == record["copies"] == (2 if mode == "materialized" else 0) and np.array_equal(images, asked)


def test_auto_without_transforms_has_nothing_to_choose(make_prepared: Prepare, tmp_path: Path, capsys: Any) -> None:
    run(make_prepared(), tmp_path / "out", mode="auto", max_gigabytes=1e-9, transforms=[])
    assert json.loads((tmp_path / "out/augment.json").read_text())["mode"] == "materialized"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("changes", [{"transforms": []}, {"mode": "online"}, {"mode": "online", "transforms": []}])
def test_without_transforms_and_online_there_are_no_copies(
    make_prepared: Prepare, tmp_path: Path, changes: dict[str, Any]
) -> None:
    images = run(make_prepared(), tmp_path / "out", copies=4, **changes)
    assert images.shape == (0, 64, 32, 32, 1) and images.dtype == np.uint8
    assert json.loads((tmp_path / "out/augment.json").read_text())["copies"] == 0


@pytest.mark.parametrize(
    ("changes", "num_columns"), [({}, 3), ({"copies": 12}, 9), ({"mode": "online"}, 9), ({"transforms": []}, None)]
)
def test_the_preview_shows_each_class_beside_its_copies(
    make_prepared: Prepare, tmp_path: Path, monkeypatch: Any, changes: dict[str, Any], num_columns: int | None
) -> None:
    drawn: list[Any] = []
    draw = preview._draw

    def draw_and_remember(*arguments: Any) -> bytes:
        drawn.extend(arguments)
        return draw(*arguments)

    monkeypatch.setattr(preview, "_draw", draw_and_remember)
    prepared = make_prepared()
    run(prepared, tmp_path / "out", **changes)
    cells, row_names, column_names, title = drawn
    names, originals = ["class 0", "class 1", "class 2"], np.load(prepared / "train/images.npy")[:3]
    assert (tmp_path / "out/preview.png").read_bytes().startswith(b"\x89PNG")
    if num_columns is None:
        assert column_names == names and title.startswith("No augmentation") and np.array_equal(cells[0], originals)
    else:
        assert row_names == names and cells.shape[:2] == (3, num_columns) and column_names[0] == "original"
        assert np.array_equal(cells[:, 0], originals)
        assert (cells[:, 1:] != cells[:, :1]).any(axis=(0, 2, 3, 4)).all(), "every copy shown is augmented"
        assert title.startswith("test at strength 1: ")


@pytest.mark.parametrize("mode", ["materialized", "online"])
def test_the_preview_shows_a_veto(make_prepared: Prepare, tmp_path: Path, monkeypatch: Any, mode: str) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(preview, "_draw", lambda *arguments: drawn.extend(arguments) or b"")
    flip, veto = [{"HorizontalFlip": {"p": 1}}], {"HorizontalFlip": ["class 0", "class 2"]}
    run(make_prepared(), tmp_path / "out", mode=mode, transforms=flip, veto=veto)
    cells, _, _, title = drawn
    assert title.endswith("\nnever HorizontalFlip on class 0, class 2")
    assert [bool((row[1:] == row[:1]).all()) for row in cells] == [True, False, True]


def test_the_preview_shows_large_images_small_and_says_of_how_many_classes(
    make_prepared: Prepare, tmp_path: Path, monkeypatch: Any
) -> None:
    titles: list[str] = []
    draw = preview._draw
    monkeypatch.setattr(preview, "_draw", lambda *arguments: titles.append(arguments[-1]) or draw(*arguments))
    prepared = make_prepared(num_train=24, num_classes=12, size=224, channels=3)
    run(prepared, tmp_path / "out", mode="online")
    assert titles[0].endswith("\n10 of 12 classes")
    height, width = cv2.imread(str(tmp_path / "out/preview.png")).shape[:2]
    assert max(height, width) < 1200 and (tmp_path / "out/preview.png").stat().st_size < 1_500_000


def test_the_preview_takes_colours_and_a_class_without_images(make_prepared: Prepare, tmp_path: Path) -> None:
    prepared = make_prepared(num_train=2, num_classes=3, channels=3)
    assert run(prepared, tmp_path / "out").shape == (2, 2, 32, 32, 3)


def test_copies_that_do_not_fit_the_disk_are_refused_before_anything_is_written(
    make_prepared: Prepare, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(
        DataError, match=r"room for the 131,072 bytes of the copies; 1,000 are free\. Lower augment\.copies=…"
    ):
        run(make_prepared(), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_a_disk_that_fills_meanwhile_says_how_much_was_needed(
    make_prepared: Prepare, tmp_path: Path, monkeypatch: Any
) -> None:
    def fill(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stage, "_fill", fill)
    with pytest.raises(DataError, match=r"131,072 bytes of the copies; the disk is full\. .* augment\.mode=online"):
        run(make_prepared(), tmp_path / "out")


def test_another_failure_of_the_disk_is_not_taken_for_a_full_one(
    make_prepared: Prepare, tmp_path: Path, monkeypatch: Any
) -> None:
    def fill(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(stage, "_fill", fill)
    with pytest.raises(OSError, match="Input/output error"):
        run(make_prepared(), tmp_path / "out")


def test_a_wrong_transform_stops_before_anything_is_written(make_prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"augment\.transforms\[0\] \(Pad\) makes 36×36×1 uint8 of 32×32×1 uint8"):
        run(make_prepared(), tmp_path / "out", transforms=PAD_AND_CROP[:1])
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("seconds", "cores", "expected"), [(0.1, 8, 1), (9, 8, 1), (11, 8, 2), (600, 8, 8), (600, 1, 1)]
)
def test_no_more_processes_start_than_have_enough_to_do(
    seconds: float, cores: int, expected: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr("joblib.effective_n_jobs", lambda number: cores)
    assert num_processes(None, seconds, stage._WORKER_START_SECONDS) == expected


def test_a_run_that_is_not_watched_prints_one_line(make_prepared: Prepare, tmp_path: Path, capsys: Any) -> None:
    run(make_prepared(), tmp_path / "out")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 and printed[0].startswith("augment: 128 images in ") and printed[0].endswith("1 process")
