"""The prepare stage on small raw datasets."""

import csv
import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipeline import prepare as prepare_module
from pipeline.artefacts.dataset import SPLITS, DatasetRecord
from pipeline.artefacts.source import SourceRecord
from pipeline.config.composition import compose
from pipeline.config.schema_data import OnIssue, Prepare
from pipeline.data import checks, preparation
from pipeline.data.pixel_files import IDX_PARTS
from pipeline.data.problems import UNDECODED
from pipeline.errors import ConfigError, DataError
from pipeline.prepare import main, prepare
from pipeline.stage.job import Job
from tests.conftest import ROOT
from tests.idx_files import CLASSES, NUM_TEST, NUM_TRAIN, SIZE, change_record, idx_files, write_raw
from tests.test_data_decoding import stored

SETTINGS = Prepare(
    size=8, channels=None, fit="pad", max_pixels=10_000, val_fraction=0.1, confirm_fraction=0.1, test_fraction=0.2,
    folds=None, fold=None, repeat=0, group=None, limit=None, random_labels=0.0, seed=0, near_duplicates=True, min_side=2,
    max_aspect=5.0, min_per_class=3, max_imbalance=10.0, white_level="auto", fill="auto", workers=1, backend="loky",
    on_issue=OnIssue(**{problem: "drop" if problem in UNDECODED else "keep" for problem in OnIssue.model_fields}),
)  # fmt: skip


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "data", idx_files())


@pytest.fixture
def raw_without_test(tmp_path: Path) -> Path:
    """50 images of each of 3 classes, in colour, 4 pixels high and 5 wide."""
    folder = write_raw(tmp_path / "arrays", {})
    change_record(folder, layout="arrays")
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (150, 4, 5, 3), np.uint8))
    np.save(folder / "labels.npy", np.arange(150) % 3)
    return folder


def made(source: Path, out: Path, **changed: Any) -> DatasetRecord:
    """Prepare, and read `dataset.json`."""
    out.mkdir()
    prepare(source, SETTINGS.model_copy(update=changed), out, out.parent / "cache")
    return DatasetRecord.read(out)


def encoded(place: int) -> bytes:
    """A PNG of 12×10 pixels of noise in colour."""
    image = np.random.default_rng(place).integers(0, 256, (10, 12, 3), np.uint8)
    return bytes(cv2.imencode(".png", image)[1])


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Sixty images of three classes in colour, as `fetch` packs a folder."""
    labels = [["ant", "bee", "cow"][place % 3] for place in range(60)]
    return write_packed(
        tmp_path / "packed", [(f"{label}/{place:02d}.png", label, encoded(place)) for place, label in enumerate(labels)]
    )


def write_packed(folder: Path, rows: list[tuple[str, str, bytes]], splits: list[str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    image = pa.array([{"bytes": data, "path": path} for path, _, data in rows])
    columns = {"path": [path for path, _, _ in rows], "label": [label for _, label, _ in rows], "image": image}
    columns |= {} if splits is None else {"split": splits}
    pq.write_table(pa.table(columns), folder / "images-00.parquet", row_group_size=16)
    digest = hashlib.sha256((folder / "images-00.parquet").read_bytes()).hexdigest()
    SourceRecord(
        name="animals", layout="parquet", found=None, asked=None, parts=None, columns=None, classes=None, licence="none",
        source="here", files={"images-00.parquet": digest},
    ).write(folder)  # fmt: skip
    return folder


def issues(out: Path) -> list[tuple[str, str, str]]:
    with (out / "issues.csv").open(newline="") as file:
        return [(row["path"], row["problem"], row["action"]) for row in csv.DictReader(file)]


def kinds_of_issues(out: Path) -> dict[str, int]:
    return dict(Counter(problem for _, problem, _ in issues(out)))


def ids(out: Path, split: str) -> list[str]:
    column: list[str] = pq.read_table(out / split / "ids.parquet")["id"].to_pylist()
    return column


def test_every_split_has_images_labels_and_ids(raw: Path, tmp_path: Path) -> None:
    dataset = made(raw, tmp_path / "out")
    for split in SPLITS:
        images = np.load(tmp_path / "out" / split / "images.npy", mmap_mode="r")
        labels = np.load(tmp_path / "out" / split / "labels.npy")
        assert images.dtype == np.uint8 and images.shape == (len(labels), 8, 8, 1)
        assert labels.dtype == np.int64
        assert np.bincount(labels).tolist() == dataset.counts[split]
        assert len(ids(tmp_path / "out", split)) == len(labels)
    assert dataset.counts["test"] == [5] * 3
    assert np.sum([dataset.counts[split] for split in ("train", "val", "confirm")], axis=0).tolist() == [20] * 3
    assert all(min(counts) >= 1 for counts in dataset.counts.values())


def test_ids_lead_back_to_the_raw_pixels(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "out")
    seen = []
    for split in SPLITS:
        images = np.load(tmp_path / "out" / split / "images.npy")
        labels = np.load(tmp_path / "out" / split / "labels.npy")
        table = pq.read_table(tmp_path / "out" / split / "ids.parquet").to_pylist()
        for row, image, label in zip(table, images, labels, strict=True):
            part, position = row["id"].split("-")
            assert row["path"] == {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}[part]
            pixels = idx_files()[row["path"]][16:][int(position) * SIZE**2 :][: SIZE**2]
            assert row["sha256"] == hashlib.sha256(pixels).hexdigest()
            assert image[1:7, 1:7, 0].tobytes() == pixels and (row["width"], row["height"]) == (SIZE, SIZE)
            assert label == int(position) % len(CLASSES)
            seen.append(row["id"])
    assert len(set(seen)) == len(seen) == NUM_TRAIN + NUM_TEST
    assert sorted(ids(tmp_path / "out", "test")) == [f"test-{position:06d}" for position in range(NUM_TEST)]


def test_dataset_is_described(raw: Path, tmp_path: Path) -> None:
    dataset = made(raw, tmp_path / "out")
    values = np.load(tmp_path / "out" / "train" / "images.npy") / 255
    assert dataset.mean == pytest.approx([values.mean()]) and dataset.std == pytest.approx([values.std()])
    assert (dataset.name, dataset.classes, dataset.size, dataset.channels) == ("sides", CLASSES, 8, 1)
    assert (dataset.source, dataset.licence) == ("made on the spot", "none")
    files = [f"{split}/{file}" for split in SPLITS for file in ("images.npy", "labels.npy", "ids.parquet")]
    assert dataset.files == {file: hashlib.sha256((tmp_path / "out" / file).read_bytes()).hexdigest() for file in files}
    assert issues(tmp_path / "out") == []
    assert (tmp_path / "out" / "overview.png").read_bytes()[:4] == b"\x89PNG"


def test_source_without_test_images_gets_a_test_split(raw_without_test: Path, tmp_path: Path) -> None:
    dataset = made(raw_without_test, tmp_path / "out")
    assert sum(map(sum, dataset.counts.values())) == 150 and 15 <= sum(dataset.counts["test"]) <= 45
    assert dataset.channels == 3 and len(dataset.mean) == len(dataset.std) == 3
    row = pq.read_table(tmp_path / "out" / "test" / "ids.parquet").to_pylist()[0]
    assert row["path"] == "images.npy" and (row["width"], row["height"]) == (5, 4)


def test_same_settings_give_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "one")
    made(raw, tmp_path / "two")
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 16
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_limit_is_nested_and_leaves_the_other_splits_alone(raw: Path, tmp_path: Path) -> None:
    limits = {"all": None, "twenty": 20, "ten": 10}
    counts = {name: made(raw, tmp_path / name, limit=limit).counts for name, limit in limits.items()}
    assert [sum(count["train"]) for count in counts.values()][1:] == [20, 10]
    chosen = [set(ids(tmp_path / name, "train")) for name in limits]
    assert chosen[0] > chosen[1] > chosen[2]
    for split in ("val", "confirm", "test"):
        pictures = {(tmp_path / name / split / "images.npy").read_bytes() for name in limits}
        assert len(pictures) == 1 and ids(tmp_path / "all", split) == ids(tmp_path / "ten", split)


def test_seed_changes_the_split_of_training_images_only(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "one")
    made(raw, tmp_path / "two", seed=1)
    assert ids(tmp_path / "one", "val") != ids(tmp_path / "two", "val")
    assert ids(tmp_path / "one", "test") == ids(tmp_path / "two", "test")


def test_stretch_fills_the_whole_image(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "out", fit="stretch", size=12)
    images = np.load(tmp_path / "out" / "train" / "images.npy")
    assert images.shape[1:] == (12, 12, 1) and images[:, 0].any()


def test_no_confirm_split_leaves_it_empty(raw: Path, tmp_path: Path) -> None:
    dataset = made(raw, tmp_path / "out", confirm_fraction=0.0)
    assert dataset.counts["confirm"] == [0, 0, 0]
    assert np.load(tmp_path / "out" / "confirm" / "images.npy").shape == (0, 8, 8, 1)


def test_terminal_shows_what_was_made(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {split: sum(count) for split, count in made(raw, tmp_path / "out").counts.items()}
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"prepare: 75 images in \d+\.\d s, 1 process", lines[0])
    sizes = f"train {counts['train']}, val {counts['val']}, confirm {counts['confirm']}, test 15"
    assert lines[1:] == [f"sides: 3 classes, 8×8×1; images: {sizes}"]


def test_errors_of_the_rooms_reach_the_user(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prepare\.limit must be >= 3"):
        made(raw, tmp_path / "one", limit=2)
    (raw / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="train-images-idx3-ubyte must be there"):
        made(raw, tmp_path / "two")


def test_main_prepares_what_fetch_left(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    config = compose(ROOT / "conf", ROOT / "params.yaml", []).model_copy(update={"prepare": SETTINGS})
    main(Job(config, tmp_path / "out", "fedcba9876543210", tmp_path / "cache", {"fetch": raw}.__getitem__))
    assert DatasetRecord.read(tmp_path / "out").name == "sides"


def test_another_picture_or_another_word_of_a_check_leaves_the_record_as_it_is(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.frombuffer((raw / IDX_PARTS[0].images[0]).read_bytes(), np.uint8).copy()
    pixels[16 + SIZE**2 :][: SIZE**2] = pixels[16:][: SIZE**2]  # the second image is now the first one's copy
    (raw / IDX_PARTS[0].images[0]).write_bytes(pixels.tobytes())

    def record(name: str, fingerprint: str) -> bytes:
        out = tmp_path / name
        out.mkdir()
        config = compose(ROOT / "conf", ROOT / "params.yaml", []).model_copy(update={"prepare": SETTINGS})
        main(Job(config, out, fingerprint, tmp_path / "cache", {"fetch": raw}.__getitem__))
        return (out / "dataset.json").read_bytes()

    before = record("one", "0123456789abcdef")
    alike = checks._alike
    monkeypatch.setattr(checks, "_alike", lambda images, rows, problem, words: alike(images, rows, problem, "like"))
    monkeypatch.setattr(prepare_module, "overview", lambda *arguments, **options: Figure())
    assert record("two", "fedcba9876543210") == before
    for name in ("overview.png", "issues.csv"):
        assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()


def test_same_images_give_the_same_arrays_in_any_layout_and_order(raw: Path, tmp_path: Path) -> None:
    made(raw, tmp_path / "idx")
    rows = []
    for split, images, labels in (("train", "train-images-idx3-ubyte", "train-labels-idx1-ubyte"),):
        pixels = np.frombuffer(idx_files()[images][16:], np.uint8).reshape(-1, SIZE, SIZE)
        for place, label in enumerate(idx_files()[labels][8:]):
            rows.append(
                (f"{CLASSES[label]}/{split}{place}.png", CLASSES[label], bytes(cv2.imencode(".png", pixels[place])[1]))
            )
    folder = write_packed(tmp_path / "png", rows[::-1])
    change_record(folder, classes=CLASSES)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (raw / name).unlink()
    change_record(raw, parts=IDX_PARTS[:1])
    made(raw, tmp_path / "one")
    made(folder, tmp_path / "two", fill=0)
    for split in SPLITS:
        for array in ("images.npy", "labels.npy"):
            assert (tmp_path / "one" / split / array).read_bytes() == (tmp_path / "two" / split / array).read_bytes()


def test_encoded_images_are_decoded_and_their_size_is_kept(packed: Path, tmp_path: Path) -> None:
    dataset = made(packed, tmp_path / "out", size=16)
    assert dataset.classes == ["ant", "bee", "cow"] and dataset.channels == 3
    for row, image in zip(
        pq.read_table(tmp_path / "out/train/ids.parquet").to_pylist(), np.load(tmp_path / "out/train/images.npy"), strict=True
    ):  # fmt: skip
        pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded(int(row["id"][4:6])), np.uint8), 1), cv2.COLOR_BGR2RGB)
        assert np.array_equal(image[3:13, 2:14], pixels) and (row["width"], row["height"]) == (12, 10)
        assert row["sha256"] == hashlib.sha256(encoded(int(row["id"][4:6]))).hexdigest()
        assert row["path"] == "images-00.parquet"


@pytest.mark.parametrize(("channels", "expected"), [(None, 3), (1, 1), (3, 3)])
def test_channels_are_those_of_the_data_or_those_asked_for(
    packed: Path, tmp_path: Path, channels: int | None, expected: int
) -> None:
    assert made(packed, tmp_path / "out", channels=channels).channels == expected


def test_bad_images_are_left_out_and_listed(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [(f"{label}/{place:02d}.png", label, encoded(place)) for place, label in enumerate("ab" * 20)]
    bad = [("a/cut.png", "a", encoded(50)[:150]), ("a/text.png", "a", b"hello"), ("b/empty.png", "b", b""),
           ("b/large.png", "b", bytes(cv2.imencode(".png", np.zeros((200, 200), np.uint8))[1]))]  # fmt: skip
    dataset = made(write_packed(packed, [*bad, *good]), tmp_path / "out")
    assert sum(map(sum, dataset.counts.values())) == 40
    assert issues(tmp_path / "out") == [
        ("a/cut.png", "unreadable", "dropped"), ("b/empty.png", "unreadable", "dropped"),
        ("a/text.png", "not_an_image", "dropped"), ("b/large.png", "bomb", "dropped"),
    ]  # fmt: skip
    assert "issues: 2 × unreadable (dropped), 1 × not_an_image (dropped), 1 × bomb (dropped)" in capsys.readouterr().out


def twelve_bit(place: int, peak: int = 4095) -> bytes:
    """A PNG of 16 bits whose values rise to `peak`."""
    values = np.random.default_rng(place).integers(0, peak, (8, 8))
    values[0, 0] = peak
    return stored(Image.fromarray(values.astype(np.uint16)), "PNG")


def test_the_level_of_white_is_that_of_all_images_together(packed: Path, tmp_path: Path) -> None:
    rows = [(f"{label}/{place:02d}.png", label, twelve_bit(place)) for place, label in enumerate("ab" * 20)]
    write_packed(packed, rows)
    dataset = made(packed, tmp_path / "auto", near_duplicates=False)
    assert dataset.white_level == 4095
    images = np.load(tmp_path / "auto" / "train" / "images.npy")
    assert (images.max(axis=(1, 2, 3)) == 255).all() and np.unique(images).size > 200
    assert made(packed, tmp_path / "given", near_duplicates=False, white_level=8190).white_level == 8190
    assert np.load(tmp_path / "given" / "train" / "images.npy").max() == 128


def test_images_of_another_range_are_told(packed: Path, tmp_path: Path) -> None:
    rows = [(f"{label}/{place:02d}.png", label, twelve_bit(place, 65535)) for place, label in enumerate("ab" * 20)]
    turned = stored(Image.fromarray(np.full((8, 8), 9, np.uint16)), "TIFF", tiffinfo={262: 0})
    write_packed(packed, [*rows, ("a/dark.png", "a", twelve_bit(99, 4000)), ("b/turned.tif", "b", turned)])
    made(packed, tmp_path / "out", near_duplicates=False)
    assert {("a/dark.png", "low_range", "kept"), ("b/turned.tif", "inverted", "kept")} <= set(issues(tmp_path / "out"))


def test_problem_that_must_not_be_stops_the_preparation(packed: Path, tmp_path: Path) -> None:
    rows = [(f"{label}/{place:02d}.png", label, encoded(place)) for place, label in enumerate("ab" * 20)]
    write_packed(packed, [*rows, ("a/cut.png", "a", b"")])
    with pytest.raises(
        DataError, match=r"free of unreadable, as prepare\.on_issue says fail; got 1 × unreadable: a/cut\.png"
    ):
        made(packed, tmp_path / "out", on_issue=SETTINGS.on_issue.model_copy(update={"unreadable": "fail"}))


def test_copies_stay_in_one_split_or_are_dropped(packed: Path, tmp_path: Path) -> None:
    rows = [(f"{label}/{place:02d}.png", label, encoded(place // 4)) for place, label in enumerate("aaaabbbb" * 20)]
    write_packed(packed, rows)
    made(packed, tmp_path / "kept", near_duplicates=False)
    digests = [set(pq.read_table(tmp_path / "kept" / split / "ids.parquet")["sha256"].to_pylist()) for split in SPLITS]
    assert sum(map(len, digests)) == len(set.union(*digests)) == 40
    assert (tmp_path / "kept" / "issues.png").read_bytes()[:4] == b"\x89PNG"
    dataset = made(packed, tmp_path / "out", on_issue=SETTINGS.on_issue.model_copy(update={"duplicate": "drop"}))
    assert sum(map(sum, dataset.counts.values())) == 40 and kinds_of_issues(tmp_path / "out") == {"duplicate": 120}


def test_re_encoded_copies_stay_in_one_split(packed: Path, tmp_path: Path) -> None:
    rows = []
    for place, label in enumerate("ab" * 20):
        smooth = cv2.resize(np.random.default_rng(place).integers(0, 256, (6, 6, 3), np.uint8), (48, 48))
        for quality in (95, 70):
            data = bytes(cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
            rows.append((f"{label}/{place:02d}-{quality}.jpg", label, data))
    made(write_packed(packed, rows), tmp_path / "out", size=48)
    assert kinds_of_issues(tmp_path / "out") == {"near_duplicate": 40}
    for split in SPLITS:
        names = [name[:4] for name in ids(tmp_path / "out", split)]
        assert all(names.count(name) == 2 for name in names)
    told = {row["id"]: row["group"] for row in csv.DictReader((tmp_path / "out" / "groups.csv").read_text().split())}
    assert len(told) == 80 and len(set(told.values())) == 40
    assert all(told[name] == told[name.replace("-95", "-70")] for name in told), "later folds keep them together too"


def test_pattern_keeps_the_images_of_a_group_together(packed: Path, tmp_path: Path) -> None:
    rows = [(f"{label}/p{place // 4}_{place}.png", label, encoded(place)) for place, label in enumerate("ab" * 40)]
    made(write_packed(packed, rows), tmp_path / "out", group=r"p\d+_")
    patients = [{name.split("_")[0][2:] for name in ids(tmp_path / "out", split)} for split in SPLITS]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 20


def test_folds_cover_all_images_once(packed: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    for fold in range(4):
        made(packed, tmp_path / str(fold), folds=4, fold=fold, test_fraction=0.0, confirm_fraction=0.0)
        seen += ids(tmp_path / str(fold), "val")
    assert len(seen) == len(set(seen)) == 60


def test_images_of_an_earlier_version_are_not_decoded_again(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(packed, tmp_path / "one")
    rows = [
        (f"{label}/{place:02d}.png", label, encoded(place)) for place, label in enumerate(["ant", "bee", "cow"] * 21)
    ]
    write_packed(packed, rows)
    capsys.readouterr()
    made(packed, tmp_path / "two")
    assert "prepare: 63 images in" in (told := capsys.readouterr().out)
    assert "60 of them known from another version of the data" in told
    shutil.rmtree(tmp_path / "cache")
    made(packed, tmp_path / "afresh")
    for split in SPLITS:
        for file in ("images.npy", "labels.npy", "ids.parquet"):
            assert (tmp_path / "two" / split / file).read_bytes() == (tmp_path / "afresh" / split / file).read_bytes()


def test_another_split_of_the_same_data_decodes_nothing(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(packed, tmp_path / "one")
    capsys.readouterr()
    made(packed, tmp_path / "two", seed=1)
    assert "images in" not in capsys.readouterr().out


def test_a_stopped_preparation_goes_on_where_it_was(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, calls = preparation.decode, []

    def stop_after_forty(data: bytes, *arguments: Any) -> Any:
        calls.append(data)
        if len(calls) > 40:
            raise KeyboardInterrupt
        return decode(data, *arguments)

    monkeypatch.setattr(preparation, "decode", stop_after_forty)
    with pytest.raises(KeyboardInterrupt):
        made(packed, tmp_path / "stopped", channels=3)
    monkeypatch.setattr(preparation, "decode", decode)
    capsys.readouterr()
    made(packed, tmp_path / "resumed", channels=3)
    assert "prepare: 32 of 60 images were decoded before it was stopped" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache")
    made(packed, tmp_path / "afresh", channels=3)
    for split in SPLITS:
        images = [(tmp_path / name / split / "images.npy").read_bytes() for name in ("resumed", "afresh")]
        assert images[0] == images[1]


def test_full_disk_is_told_and_the_number_of_workers_changes_nothing(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(packed, tmp_path / "one")
    shutil.rmtree(tmp_path / "cache")
    made(packed, tmp_path / "two", workers=2)
    assert (tmp_path / "one/train/images.npy").read_bytes() == (tmp_path / "two/train/images.npy").read_bytes()
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    match = r"cache must have room for the 11,520 bytes of the decoded images; 1,000 are free\. Free some space"
    with pytest.raises(DataError, match=match):
        made(packed, tmp_path / "full")


def test_folds_without_a_choice_are_told(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"prepare\.fold must be .* 0\.\.2, as prepare\.folds=3; got None\. .*fold=0,1,2 -m"
    ):
        made(packed, tmp_path / "out", folds=3)


def test_a_stage_that_issues_stop_leaves_their_list(packed: Path, tmp_path: Path) -> None:
    on_issue = SETTINGS.on_issue.model_copy(update={"rare_class": "fail"})
    with pytest.raises(
        DataError, match=r"must be free of rare_class.*cache/issues\.csv lists what was found: 3 × rare_class\."
    ):
        made(packed, tmp_path / "out", on_issue=on_issue, min_per_class=100)
    found = issues(tmp_path / "cache")
    assert [row for row in found if row[1] == "rare_class"] == [
        (f"class {name}", "rare_class", "not settled") for name in ("ant", "bee", "cow")
    ]


def test_a_class_of_damaged_files_alone_is_told_with_what_was_found(tmp_path: Path) -> None:
    rows = [(f"{label}/{place}.png", label, encoded(place)) for place in range(30) for label in ("ant", "bee")]
    rows += [(f"cow/{place}.png", "cow", b"\x89PNG of noise") for place in range(30)]
    with pytest.raises(
        DataError, match=r"'cow' has none\. .*issues\.csv lists what was found: 30 × (unreadable|not_an_image)"
    ):
        made(write_packed(tmp_path / "packed", rows), tmp_path / "out")


def test_names_in_the_list_of_issues_are_no_formulas_and_no_commands(tmp_path: Path) -> None:
    rows = [(f"{label}/{place}.png", label, encoded(place)) for place in range(30) for label in ("ant", "bee")]
    rows += [(name, "ant", b"") for name in ('=HYPERLINK("x").png', "\x1b[2J.png")]
    made(write_packed(tmp_path / "packed", rows), tmp_path / "out")
    assert {name for name, problem, _ in issues(tmp_path / "out") if problem == "unreadable"} == {
        "'=HYPERLINK(\"x\").png", "\\x1b[2J.png",
    }  # fmt: skip


def test_a_split_with_other_class_shares_is_told(tmp_path: Path) -> None:
    labels = [("train", ("ant", "bee")[place % 2]) for place in range(120)]
    labels += [("test", "ant" if place < 2 else "bee") for place in range(40)]
    rows = [(f"{split}/{label}/{place}.png", label, encoded(place)) for place, (split, label) in enumerate(labels)]
    made(write_packed(tmp_path / "packed", rows, [split for split, _ in labels]), tmp_path / "out")
    with (tmp_path / "out/issues.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["problem"] == "split_shift"]
    assert re.match(
        r"(95\.0|5\.0)% of test and \d\d\.\d% of train, a difference that chance gives with p = ", row["evidence"]
    )
