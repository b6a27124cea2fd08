"""The command that classifies: its exit codes, its order, its files, and what it says."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import predict
from pipeline.delivery import Classifier, selection
from pipeline.errors import ConfigError, DataError
from pipeline.predict import main
from pipeline.tracking import addresses
from tests.conftest import ROOT
from tests.image_files import image_files
from tests.test_source_hostile import as_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_folder(
        tmp_path_factory.mktemp("predict"), {f"photos/{name}": data for name, data in image_files(90).items()}
    )


@pytest.fixture(autouse=True)
def here(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(photos)
    return photos


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_a_folder_is_classified_in_order(package: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["photos", "--model", str(package), "--threads", "2"]) == 0
    printed = capsys.readouterr()
    found = list(csv.DictReader(io.StringIO(printed.out)))
    names = sorted(path.name for path in (photos / "photos").iterdir())
    assert [row["image"] for row in found] == [f"photos/{name}" for name in names]
    frame = Classifier.load(package).predict([f"photos/{name}" for name in names])
    assert [row["label"] for row in found] == frame["label"].tolist()
    assert np.abs(np.array([float(row["probability"]) for row in found]) - frame["probability"]).max() < 1e-6
    assert printed.err.startswith("90 images in ") and printed.err.endswith(" 0 unreadable\n")


def test_a_broken_file_is_a_row_and_the_exit_code_tells(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_folder(tmp_path, {"1.png": b"", "2.png": image_files(5)["004.png"][:50], "3.jpg": image_files(1)["000.jpg"]})
    assert main([str(tmp_path), "--model", str(package)]) == predict.UNREADABLE == 3
    found = rows(capsys)
    assert [bool(row["error"]) for row in found] == [True, True, False]
    assert found[0]["error"] == "unreadable: it is empty" and found[0]["label"] == ""


def test_the_images_to_label_next_are_named(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "next.csv"
    assert main(["photos", "--model", str(package), "--select", "7", "--select-out", str(out)]) == 0
    printed = capsys.readouterr()
    assert f"7 of 90 images to label next: {out}\n" in printed.err
    chosen = list(csv.DictReader(io.StringIO(out.read_text())))
    uncertain = [float(row["uncertainty"]) for row in chosen]
    assert len({row["path"] for row in chosen}) == 7 and uncertain == sorted(uncertain, reverse=True)
    assert {row["path"] for row in chosen} <= {row["image"] for row in csv.DictReader(io.StringIO(printed.out))}


def test_few_kept_images_are_chosen_from_as_from_all(package: Path) -> None:
    generator = np.random.default_rng(0)
    unsure, features = generator.random(300).astype(np.float32), generator.random((300, 5)).astype(np.float32)
    kept = np.sort(np.argsort(-unsure, kind="stable")[: selection.MOST_CLUSTERED * 4])
    of_all, of_kept = selection.choose(unsure, features, 4), kept[selection.choose(unsure[kept], features[kept], 4)]
    assert of_all.tolist() == of_kept.tolist()
    assert selection.choose(unsure[:3], features[:3], 4).tolist() == np.argsort(-unsure[:3]).tolist()


def test_an_archive_and_the_folder_get_the_same_answers(
    package: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for each in sorted((photos / "photos").iterdir()):
            archive.write(each, each.name)
    main(["photos", "--model", str(package)])
    expected = rows(capsys)
    main([str(path), "--model", str(package)])
    found = rows(capsys)
    assert [row["image"] for row in found] == [f"{path}/{row['image'].removeprefix('photos/')}" for row in expected]
    assert [{**row, "image": ""} for row in found] == [{**row, "image": ""} for row in expected]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "txt"])
def test_answers_go_whole_into_a_file(
    package: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / f"answers.{ending}"
    assert main(["photos", "--model", str(package), "--out", str(out), "--top", "2"]) == 0
    assert capsys.readouterr().out == ""
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if ending == "jsonl":
        assert len([json.loads(line) for line in out.read_text().splitlines()]) == 90


def test_a_failure_leaves_the_file_as_it_was(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "answers.csv"
    out.write_text("before")
    as_folder(tmp_path, {"notes/1.txt": b"x"})
    with pytest.raises(
        DataError, match=r"PATH must hold images; .*notes holds none that may be one \(left out: 1 \.txt"
    ):
        main([str(tmp_path / "notes"), "--model", str(package), "--out", str(out)])
    monkeypatch.setattr(Classifier, "decisions", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(["photos", "--model", str(package), "--out", str(out)])
    assert out.read_text() == "before" and sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "notes"]


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_what_is_left_out_is_told_in_one_line(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_folder(tmp_path, {"1.jpg": image_files(1)["000.jpg"], "a.txt": b"x", "b.txt": b"y", ".hidden/1.png": b""})
    assert main([str(tmp_path), "--model", str(package)]) == 0
    assert "left out: 2 .txt (no image)\n1 image in " in capsys.readouterr().err


def test_thresholds_reach_the_answers(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["photos", "--model", str(package), "--threshold", "1", "--threshold", "square=0"])
    assert {(row["label"], row["unknown"]) for row in rows(capsys)} == {("square", "True")}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--threshold", "high"], "--threshold must be P or CLASS=P, with P from 0 to 1; got 'high'."),
        (["--threshold", "0.1", "--threshold", "0.2"],
         "--threshold must be given once as P and once as CLASS=P; got '0.2' too."),
        (["--threshold", "2"], "threshold must be a probability from 0 to 1; got 2."),
        (["--threshold", "sqare=0.5"], "threshold must name a class of the model, such as 'circle'; got 'sqare'. Did you mean "
         "'square'?"),
        (["--out", "x.xlsx"], "--out must end in .csv, .jsonl, .ndjson, .parquet, .txt, or --format must tell the format; got "
         "'x.xlsx'."),
    ],
)  # fmt: skip
def test_wrong_options_are_told(package: Path, given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        main(["photos", "--model", str(package), *given])
    assert str(error.value) == message


@pytest.mark.parametrize("given", [["--top", "0"], ["--threads", "-1"], ["--tta", "rotate"], []])
def test_a_wrong_command_line_ends_with_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*(["photos"] if given else []), *given])
    assert ended.value.code == 2 and "usage: python -m pipeline.predict" in capsys.readouterr().err


def test_a_missing_package_names_the_command_that_makes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(addresses, "DEFAULT_PACKAGE", addresses.places.PROJECT / "build" / "gone")
    with pytest.raises(
        DataError, match=r"--model must name a package where build/gone holds none\. Make it with `dvc repro`"
    ):
        main(["photos"])
    with pytest.raises(DataError, match="--model must be a package: a folder or a ZIP file .*nowhere is not there"):
        main(["photos", "--model", str(tmp_path / "nowhere")])


def test_an_address_of_the_store_is_asked_for_its_package(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def package_folder(settings: object, address: str, scratch: Path) -> Path:
        asked.append((type(settings).__name__, address, scratch.is_dir()))
        return package

    monkeypatch.setattr("pipeline.tracking.retrieval.package_folder", package_folder)
    assert main(["photos/000.jpg", "--model", "models:/shapes/1"]) == 0
    assert asked == [("Tracking", "models:/shapes/1", True)] and len(rows(capsys)) == 1


def command(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    given = [sys.executable, "-m", "pipeline.predict", *map(str, arguments)]
    return subprocess.Popen(given, env=environment, **options)  # type: ignore[call-overload,no-any-return]


def test_a_table_with_the_name_of_a_picture_is_one_sentence(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_text("path,label\n1.png,a\n")
    assert main([str(tmp_path / "x.png"), "--model", str(package)]) == predict.UNREADABLE
    (row,) = rows(capsys)
    assert row["error"] == r"not an image: it begins with b'path,label\n1.png', as no known image format does"
    (tmp_path / "x.csv").write_bytes(_noisy_png())
    assert main([str(tmp_path / "x.csv"), "--model", str(package)]) == 0
    (row,) = rows(capsys)
    assert row["image"] == str(tmp_path / "x.csv") and row["label"] and not row["error"]


def test_the_standard_input_may_list_names_that_end_with_nul(package: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = command("-0", "-", "--model", package, "--format", "jsonl", **pipes)
    out, _ = process.communicate(b"photos/003.turned.jpg\0photos/gone\nodd.png\0photos/000.jpg\0")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["image"] for record in records] == [
        "photos/003.turned.jpg",
        "photos/gone\nodd.png",
        "photos/000.jpg",
    ]
    assert process.returncode == 3 and records[1]["error"] == "No such file or directory"


def test_libraries_print_nothing_and_a_terminal_gets_a_table(package: Path, tmp_path: Path) -> None:
    png = bytearray(_noisy_png())
    png[-20] ^= 255  # libpng tells a wrong checksum
    as_folder(tmp_path, {"1.png": bytes(png), "2.jpg": image_files(1)["000.jpg"]})
    main_end, program_end = pty.openpty()
    process = command(tmp_path, "--model", package, stdout=program_end, stderr=program_end)
    os.close(program_end)
    text = b""
    while True:
        try:
            text += os.read(main_end, 1000)
        except OSError:
            break
    os.close(main_end)
    assert process.wait() == 3
    lines = text.decode().splitlines()
    assert lines[0].split() == ["image", "label", "probability", "next", "set", "note"]
    assert "unreadable: " in lines[2] and "2.jpg" in lines[3] and "2 images in" in lines[4]
    assert len(lines) == 5, "nothing else, such as a warning of libpng"


def test_a_stopped_run_leaves_no_half_file(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    process = command("-", "--model", package, "--out", out, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b"photos/000.jpg\n" * 500)
    process.stdin.flush()
    begin = time.monotonic()
    while not list(tmp_path.iterdir()) and time.monotonic() < begin + 60:
        time.sleep(0.05)
    assert [path.name.startswith(".answers.csv.") for path in tmp_path.iterdir()] == [True]
    process.send_signal(signal.SIGINT)
    with process.stdin, process.stderr:
        assert (process.wait(60), process.stderr.read()) == (130, b"stopped; nothing half-written was kept\n")
    assert not list(tmp_path.iterdir())


def test_a_reader_that_ends_early_is_no_error(package: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = command("photos", "--model", package, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.communicate()[1] == b"" and process.returncode == predict.PIPE_CLOSED


def _noisy_png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()
