"""The report stage: one page that holds everything, made of outputs that belong together."""

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline import source
from pipeline.artefacts.evaluation import EvaluationRecord
from pipeline.artefacts.package import ThresholdsRecord
from pipeline.artefacts.source import LEFT_OUT
from pipeline.config.schema import Config, Report
from pipeline.errors import DataError
from pipeline.page import summary
from pipeline.report import main, report
from pipeline.stage import lineage
from pipeline.stage.job import Job
from pipeline.storage.tables import read_csv
from tests.page_artefacts import CLASSES, make_evaluated
from tests.records import rewrite_record

VOID = {"meta", "img", "link", "input", "br", "line", "path", "circle", "polygon", "polyline", "rect"}


def section(page: str, identity: str) -> str:
    """The text of a section of a page."""
    (found,) = re.findall(rf'<section id="{identity}">(.*?)</section>', page, re.S)
    return " ".join(read(found).text.split())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_evaluated(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def page(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report")
    report(out=out, **folders)
    return (out / "index.html").read_text()


class Reader(HTMLParser):
    """Notes the elements of a page, and that each one is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data

    def close(self) -> None:
        super().close()
        assert self._open == []


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_page_needs_no_other_file(page: str) -> None:
    addresses = [value for _, attrs in read(page).elements for name, value in attrs.items() if name in ("src", "href")]
    assert len(addresses) > 8
    own = ("data:image/png;base64,", "data:image/webp;base64,", "#")
    assert all(address.startswith(own) or address == "data:," for address in addresses)  # the latter: no icon
    assert "url(" not in page.replace("url(#clip-", "") and "@import" not in page


def test_page_forbids_itself_the_network(page: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_page_is_small(page: str) -> None:
    assert len(page.encode()) < 2_000_000


def test_page_tells_the_fit_the_test_and_the_checks(page: str) -> None:
    text = " ".join(read(page).text.split())
    assert text.count("Inconclusive") == 1 and "Training 0.875, validation 0.812, gap 0.062" in text
    assert "because val/loss had not improved for 2 epochs." in text
    assert "On 30 test images: accuracy" in text
    assert page.count('<li class="passed">') == 2 and '<li class="failed">' not in page
    assert "trained in 1 min 15 s" in text
    assert "It was made with commit 0123abc. The command rebuilds it in a folder of its own" in text
    assert re.search(r"python -m pipeline.reproduce \S+", text)
    assert "one among every training image and its 4 copies, made by HorizontalFlip, Affine." in text


def test_page_tells_the_layers_with_their_formula(page: str) -> None:
    text = read(page).text
    assert "(16 + 2·1 − 3)/1 + 1 = 16" in text and "4×16×16" in text


def test_class_names_are_shown_as_text_and_never_run(page: str) -> None:
    assert CLASSES[2] not in page and CLASSES[2] in read(page).text


def test_problems_of_the_data_are_told_with_their_first_paths_and_never_run(page: str) -> None:
    (table,) = re.findall(r'<table class="issues">(.*?)</table>', page, re.S)
    assert "<img" not in table
    near, rare, other = (
        " ".join(read(row).text.split()) for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.S)
    )
    assert near.startswith(
        "near duplicatenearly the same picture as an image before it the first 5 circle/<img src=x onerror"
    )
    assert near.endswith("alert(4)>.png nearly the same picture as a & b7dropped")
    assert (
        rare == f"rare classa class with fewer than prepare.min_per_class images which class {CLASSES[2]} 9 images1kept"
    )
    assert other.endswith("by its name, a .txt file1left out by fetch")
    assert "build/prepare/issues.csv lists them all" in read(page).text


def test_data_without_a_problem_get_one_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    rewrite(mine["prepared"] / "issues.csv", ["path,problem,evidence,action"])
    (mine["prepared"] / "issues.png").unlink()
    report(out=tmp_path, **mine)
    page = (tmp_path / "index.html").read_text()
    assert "The checks of the data found nothing to look at." in page
    assert "issues.csv" not in page and "Images with a problem" not in page


def test_every_problem_that_a_stage_writes_has_a_meaning() -> None:
    written = set()
    for file in (Path(source.__file__).parent).glob("*.py"):
        written |= set(re.findall(r'Skipped\(\s*[^"]*"([a-z_]+)"', file.read_text()))
    assert {"link", "too_large", "unlisted"} <= written <= set(LEFT_OUT)


def test_confusion_table_counts_every_test_image(page: str) -> None:
    table = re.search(r'<table class="confusion">(.*?)</table>', page, re.S)
    assert table is not None
    assert sum(int(count) for count in re.findall(r"<td[^>]*>(\d+)</td>", table[1])) == 30


def test_mistakes_are_listed_by_name_with_their_classes_probability_and_heat_map(
    page: str, folders: dict[str, Path]
) -> None:
    items = re.findall(r'<li data-true="(\d)" data-predicted="(\d)">(.*?)</li>', page, re.S)
    rows = read_csv(folders["evaluation"] / "mistakes.csv")
    assert len(items) == len(rows) > 5
    for (label, guess, content), row in zip(items, rows, strict=True):
        item = read(content)
        names = CLASSES[int(guess)], CLASSES[int(label)]
        assert names == (row["predicted"], row["true"])
        numbers = [f"{float(row[name]):.3f}" for name in ("probability", "probability_of_true")]
        text = " ".join(item.text.split())
        assert text.startswith(f"{names[0]} {numbers[0]}truly {names[1]} {numbers[1]}") and row["id"] in text
        assert [attrs["alt"] for tag, attrs in item.elements if tag == "img"] == [row["id"], f"Heat map of {row['id']}"]


def test_each_wrong_cell_of_the_confusion_table_tells_its_classes(page: str) -> None:
    found = re.findall(r'<td class="wrong"[^>]* data-true="(\d)" data-predicted="(\d)">(\d+)</td>', page)
    items = re.findall(r'<li data-true="(\d)" data-predicted="(\d)">', page)
    assert {(label, guess): int(count) for label, guess, count in found} == Counter(items)


def rewrite(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


def class_table(page: str) -> list[str]:
    (table,) = re.findall(r'aria-label="Recall and precision of each class">(.*?)</table>', page, re.S)
    return re.findall(r'<tr><th scope="row">(.*?)</tr>', table, re.S)


def test_classes_stand_by_recall_with_their_intervals_and_those_without_images_last(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    mine = copied(folders, tmp_path)
    rewrite(mine["evaluation"] / "per_class.csv", [
        "class,count,recall,recall_low,recall_high,predicted,precision,precision_low,precision_high,f1",
        "circle,20,0.9,0.699,0.972,30,0.6,0.423,0.754,0.72",
        f"{CLASSES[2]},0,0.0,0.0,1.0,0,0.0,0.0,1.0,0.0",
        "square,10,0.7,0.397,0.892,10,0.7,0.397,0.892,0.7",
    ])  # fmt: skip
    report(out=tmp_path, **mine)
    page = (tmp_path / "index.html").read_text()
    square, circle, nothing = class_table(page)
    assert square.startswith("square") and "0.700" in square and "[0.397, 0.892]" in square
    assert circle.startswith("circle") and "--from:0.3;--low:0.699;--share:0.9;--high:0.972" in circle
    assert "no test images" in nothing and "never predicted" in nothing
    text = " ".join(read(page).text.split())
    assert f"Without test images, and so left out of these means: {CLASSES[2]}." in text


def test_page_of_many_classes_shows_some_of_them_and_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    made = {name: folder for name, folder in folders.items() if name != "package"}
    mine, names = copied(made, tmp_path), [f"class {index}" for index in range(200)]
    counts = {split: [5] * 200 for split in ("train", "val", "confirm", "test")}
    change_input(mine, "prepare", classes=names, counts=counts)
    wrong = {3, 150, 199}
    pairs = [f"{name},{names[0] if index in wrong else name}" for index, name in enumerate(names) for _ in range(5)]
    rewrite(mine["evaluation"] / "confusion.csv", ["actual,predicted", *pairs])
    header = "class,count,recall,recall_low,recall_high,predicted,precision,precision_low,precision_high,f1"
    lines = [f"{name},5,{int(index not in wrong)},0.2,0.9,5,1,0.5,1,0.8" for index, name in enumerate(names)]
    rewrite(mine["evaluation"] / "per_class.csv", [header, *lines])
    report(out=tmp_path, **mine)
    page = (tmp_path / "index.html").read_text()
    text = " ".join(read(page).text.split())
    assert "Shown are 40 of 200 classes, those with the lowest recall." in text
    assert "the first 40 of 200 classes" in text
    assert [row.split("<")[0] for row in class_table(page)[:3]] == ["class 3", "class 150", "class 199"]
    (confusion,) = re.findall(r'<table class="confusion">(.*?)</table>', page, re.S)
    rows = re.findall(r'<th scope="row">(.*?)</th>', confusion)
    assert len(rows) == 40 and {"class 3", "class 150", "class 199"} <= set(rows) and "another class" in confusion
    assert sum(int(count) for count in re.findall(r"<td[^>]*>(\d+)</td>", confusion)) == 200
    assert len(page.encode()) < 2_000_000


def test_page_tells_the_calibration_before_and_after(page: str, folders: dict[str, Path]) -> None:
    record, text = EvaluationRecord.read(folders["evaluation"]), section(page, "probabilities")
    assert (
        f"one temperature, {record.calibration.temperature:.3f}, which was fitted on 36 confirm and validation" in text
    )
    scores = record.scores
    assert f"cross-entropy{scores.loss_uncalibrated:.3f}{scores.loss:.3f}" in text
    assert f"calibration error{scores.ece_uncalibrated:.3f}{scores.ece:.3f}" in text


def test_page_states_what_the_operating_point_costs(page: str, folders: dict[str, Path]) -> None:
    text, point = section(page, "probabilities"), ThresholdsRecord.read(folders["package"]).operating_point
    assert point is not None and point.cost is not None
    assert f"square is named as soon as its probability reaches {point.threshold:.3f}, set on confirm" in text
    assert (
        f"recall {point.cost.recall}, precision {point.cost.precision}, and false alarms for {point.cost.false_alarms}"
        in text
    )


def test_page_tells_how_to_use_the_package_and_what_its_sets_hold(page: str) -> None:
    text = section(page, "use")
    assert "python -m pipeline.predict FOLDER" in text and "holds the true one in 80 of 100 images" in text
    assert re.search(r"whose set holds the true class\d\.\d{3}\[\d\.\d{3}, \d\.\d{3}\]at least 0.8", text)
    assert re.search(r"that are called unknown\d\.\d{3}\[\d\.\d{3}, \d\.\d{3}\]at most 0.01", text)


def test_without_a_package_the_page_says_nothing_of_its_use(folders: dict[str, Path], tmp_path: Path) -> None:
    inputs = report(out=tmp_path, **{name: folder for name, folder in folders.items() if name != "package"})
    page = (tmp_path / "index.html").read_text()
    assert 'id="use"' not in page and "pipeline.predict" not in page and "is named as soon as" not in page
    assert "Precision against recall" in page
    assert summary.closing_lines(inputs, "there")[-1].startswith("    dvc exp run")


def test_package_of_another_training_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    rewrite_record(mine["package"] / "manifest.json", training="another")
    with pytest.raises(
        DataError, match=r"report.package must be a package of the training that the page shows; got .*pack"
    ):
        report(out=tmp_path, **mine)


def test_pictures_have_texts_and_tables_have_headers(page: str) -> None:
    elements = read(page).elements
    assert all(attrs["alt"] for tag, attrs in elements if tag == "img")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in elements if tag == "th")
    identities = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(identities) == len(set(identities))


def test_passwords_in_addresses_stay_out_of_the_page(page: str) -> None:
    assert "example.org" in page and "secret" not in page and "ana:" not in page


def copied(folders: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in folders.items()}


def change_input(folders: dict[str, Path], stage: str, **changes: object) -> None:
    """Change the record of what the training was made from, as if it had been trained on that."""
    folder = folders["prepared" if stage == "prepare" else "augmented"]
    rewrite_record(folder / lineage.RECORDS[stage], **changes)
    rewrite_record(folders["training"] / "run.json", **{f"{stage}_fingerprint": lineage.content(stage, folder)})


def test_failed_check_is_shown_as_failed(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    rewrite_record(mine["training"] / "signals.json", initial_loss=9.0)
    report(out=tmp_path, **mine)
    assert '<li class="failed">' in (tmp_path / "index.html").read_text()


def test_training_without_augmentation_is_shown(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    change_input(mine, "augment", name="none", transforms=[], copies=0)
    report(out=tmp_path, **mine)
    assert "The training images are used as they are." in (tmp_path / "index.html").read_text()


def test_online_augmentation_is_told_as_such(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    change_input(mine, "augment", mode="online", transforms=["HorizontalFlip", {"Affine": {"rotate": 9}}])
    report(out=tmp_path, **mine)
    text = " ".join(read((tmp_path / "index.html").read_text()).text.split())
    assert "Each epoch draws every training image anew through HorizontalFlip, Affine." in text


def test_uncommitted_changes_are_told(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    rewrite_record(mine["training"] / "run.json", git_dirty=True)
    report(out=tmp_path, **mine)
    assert "Files had been changed since that commit" in (tmp_path / "index.html").read_text()


def test_evaluation_of_another_training_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    kept = json.loads((mine["evaluation"] / "details.json").read_text())["kept_epoch"]
    rewrite_record(mine["evaluation"] / "details.json", kept_epoch={**kept, "val/loss": 0.1})
    with pytest.raises(
        DataError, match=r"report.evaluation must be an evaluation of the training in .*; got .*evaluation"
    ):
        report(out=tmp_path, **mine)


def test_diagnosis_of_another_training_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    rewrite_record(mine["diagnosis"] / "diagnosis.json", training="another")
    with pytest.raises(DataError, match=r"report.diagnosis must be a diagnosis of the training in .*; got .*diagnosis"):
        report(out=tmp_path, **mine)


def test_folder_without_an_evaluation_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = copied(folders, tmp_path)
    (mine["evaluation"] / "details.json").unlink()
    with pytest.raises(DataError, match=r"report.evaluation must be a folder that evaluate finished; got"):
        report(out=tmp_path, **mine)


@pytest.mark.parametrize(("key", "stage"), [("prepare_fingerprint", "prepare"), ("augment_fingerprint", "augment")])
def test_inputs_of_another_training_are_refused(folders: dict[str, Path], tmp_path: Path, key: str, stage: str) -> None:
    mine = copied(folders, tmp_path)
    rewrite_record(mine["training"] / "run.json", **{key: "another"})
    with pytest.raises(
        DataError, match=f"report.training must be a training on the output of {stage} .*; got one on another"
    ):
        report(out=tmp_path, **mine)


def test_folder_without_a_training_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report.training must be a folder that train finished; got"):
        report(out=tmp_path, **{**folders, "training": tmp_path})


def test_closing_lines_say_how_it_fits_and_where_to_look(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = {"prepare": folders["prepared"], "augment": folders["augmented"]}
    monkeypatch.setattr("pipeline.report.input_folder", lambda run, stage: inputs[stage])
    chosen = Report(**{name: str(folders[name]) for name in ("training", "evaluation", "diagnosis", "package")})
    out = tmp_path / "build" / ".report.partial"
    out.mkdir(parents=True)

    def locate(stage: str) -> Path:
        raise AssertionError(f"{stage} is named by the configuration")

    main(Job(Config.model_construct(report=chosen), out, "report-1", tmp_path, locate))
    printed = capsys.readouterr().out
    first, second, third, fourth, last = printed.splitlines()
    assert first.startswith("Inconclusive: training 0.875") and second.startswith("Test accuracy: 0.")
    assert third == "Look at build/report/index.html, compare runs with `mlflow ui`, or try:"
    assert fourth == "    dvc exp run -S ++train.batch_size=4"
    assert last == f"Classify images: python -m pipeline.predict FOLDER --model {folders['package']}"
    assert (out / "summary.txt").read_text() == printed
    assert (out / "index.html").exists()
    assert (
        (out / "comment.md")
        .read_text()
        .startswith("<!-- goodfit -->\n### Inconclusive\n\nInconclusive: training 0.875")
    )
