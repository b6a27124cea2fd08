"""The audit of labels: its table, its page and its comparison; and the way from a suspect to a corrected label."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.audit import main, table
from pipeline.errors import ConfigError
from pipeline.evaluation import label_audit
from pipeline.evaluation.audited import Audited, Seen
from pipeline.evaluation.edges import edges
from pipeline.evaluation.label_audit import Audit, Suspects, View
from pipeline.evaluation.probe import regression
from pipeline.evaluation.relabelling_gain import gain
from pipeline.page.audit import print_summary, render
from tests.conftest import command_runner
from tests.test_report import read

HOSTILE = "ring/<img src=x onerror=alert(1)>\x1b[2J.png"


def draw(path: Path, kind: str, seed: int) -> None:
    """A ring, a bar or a cross on noise."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 60, (48, 48, 3), dtype=np.uint8)
    x, y, reach = (*generator.integers(20, 28, 2).tolist(), int(generator.integers(10, 16)))
    colour = generator.integers(180, 255, 3).tolist()
    if kind == "ring":
        cv2.circle(image, (x, y), reach, colour, 3)
    else:
        cv2.line(image, (x - reach, y), (x + reach, y), colour, 4)
    if kind == "cross":
        cv2.line(image, (x, y - reach), (x, y + reach), colour, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def made_up(folder: Path, num_suspects: int = 3) -> tuple[Audited, Seen, Audit, Suspects]:
    """An audit of six images, the first of which has a hostile name."""
    (folder / "train").mkdir(parents=True)
    np.save(folder / "train" / "images.npy", np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8, 1))
    record = DatasetRecord(
        name="shapes", classes=["bar", "cross", "ring"], size=8, channels=1, counts={"train": [2, 2, 2]}, mean=[0.5],
        std=[0.5], source="made", licence="none", files={},
    )  # fmt: skip
    images = Audited(
        dataset=record, prepared=folder, paths=[HOSTILE, *(f"bar/{number}.png" for number in range(1, 6))],
        splits=np.repeat("train", 6), rows=np.arange(6), labels=np.array([2, 0, 0, 1, 1, 2]), groups=np.arange(6),
        corrected={"bar/2.png": "ring", "bar/9.png": "bar"}, now={"bar/2.png": "bar", "bar/9.png": "bar"},
    )  # fmt: skip
    found = Audit(
        ("the edges",), {"the edges": 0.75, "the pixels": 0.5}, 0.75, np.arange(3), images.labels, np.zeros((6, 3))
    )
    shown = np.arange(num_suspects)
    suspects = Suspects(shown, images.labels[shown], np.array([0, 1, 1])[shown], np.array([0.99, 0.8, 0.7])[shown],
                        np.array([0.9, 0.6, 0.5])[shown])  # fmt: skip
    return images, Seen([], folder), found, suspects


def test_the_table_has_the_surest_first_and_the_corrections_that_hold_last(tmp_path: Path) -> None:
    images, _, _, suspects = made_up(tmp_path)
    rows = list(csv.DictReader(table(images, suspects).splitlines()))
    assert [(row["path"], row["old"], row["new"], row["confidence"]) for row in rows] == [
        ("ring/<img src=x onerror=alert(1)>\\x1b[2J.png", "ring", "bar", "0.990"), ("bar/1.png", "bar", "cross", "0.800"),
        ("bar/2.png", "ring", "bar", ""), ("bar/9.png", "bar", "bar", ""),
    ], "bar/2.png, which a person corrected, is no suspect again"  # fmt: skip
    assert [row["note"] for row in rows] == ["", "", "of data.relabel", "of data.relabel"]


def test_page_and_terminal_show_the_suspects_and_never_run_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, seen, found, suspects = made_up(tmp_path)
    page = render(images, seen, found, suspects)
    reader = read(page)
    text = " ".join(reader.text.split())
    assert "3 of 6 labels look wrong (50.0%)." in text and "ring → bar 0.99, train" in text
    assert "a logistic regression on the edges, which predicts 0.750 of the labels" in text
    assert "<img src=x onerror" not in page and "<img src=x onerror" in text
    assert (
        sum(tag == "img" and attrs["src"].startswith("data:image/png;base64,") for tag, attrs in reader.elements) == 3
    )
    print_summary(images, found, suspects, 2)
    said = capsys.readouterr().out
    assert "shapes: 3 of 6 labels look wrong" in said and "bar/1.png" in said and "bar/2.png" not in said
    assert "\x1b" not in said


def test_page_without_suspects_says_so(tmp_path: Path) -> None:
    page = render(*made_up(tmp_path, 0))
    assert "No label looks wrong." in page and "<img" not in page


def test_edges_tell_shapes_of_any_brightness_apart(tmp_path: Path) -> None:
    for number in range(40):
        draw(tmp_path / f"{number}.png", ("ring", "cross")[number % 2], number)
    images = np.array([cv2.imread(str(tmp_path / f"{number}.png")) for number in range(40)])
    np.save(tmp_path / "images.npy", images)
    found = label_audit.audit([View("the edges", edges(tmp_path), regression)], np.arange(40) % 2)
    assert found.accuracy > 0.9


def test_a_comparison_finds_what_right_labels_bring() -> None:
    generator = np.random.default_rng(0)
    right = np.arange(600) % 3
    rows = np.eye(3)[right] * 1.5 + generator.normal(size=(600, 3))
    wrong = np.where(generator.random(600) < 0.4, (right + 1) % 3, right)
    found, used = gain([View("the pixels", rows, regression)], wrong, right, np.arange(600), seed=0)
    assert used == "the pixels" and found.corrected == int((wrong != right).sum())
    assert found.all.difference > 0.05 and found.all.is_clear
    assert found.untouched is not None and found.untouched.n == 600 - found.corrected and found.untouched.difference > 0
    assert found.measured_before < 0.6
    same, _ = gain([View("the pixels", rows, regression)], right, right, np.arange(600), seed=0)
    assert same.all.gained == same.all.lost == same.corrected == 0


def test_labels_that_are_made_wrong_on_purpose_are_not_audited() -> None:
    with pytest.raises(ConfigError, match=r"prepare.random_labels must be 0 for an audit, .*; got 0.5"):
        main(["data=digits", "prepare.random_labels=0.5"])


@pytest.mark.long
def test_a_suspect_is_found_corrected_and_compared(project: Path) -> None:
    """By hand, as a person does it: audit, look, name the table, prepare, see the change, compare."""
    for kind in ("bar", "cross", "ring"):
        for number in range(24):
            draw(project / "photos" / kind / f"{number:02}.png", kind, 100 * len(kind) + number)
    draw(project / "photos" / "bar" / "wrong.png", "ring", 7)
    run = command_runner(project)
    mine = ("data=folder", "data.source=photos", "prepare.test_fraction=0", "prepare.size=32")
    said = run("pipeline.audit", *mine).stdout
    suspects = next(project.glob("outputs/audit/*/suspects.csv"))
    rows = list(csv.DictReader(suspects.read_text().splitlines()))
    assert (rows[0]["path"], rows[0]["old"], rows[0]["new"]) == ("bar/wrong.png", "bar", "ring")
    name = suspects.relative_to(project).as_posix()
    assert f"dvc exp run -S ++data.relabel={name}" in said and suspects.with_name("index.html").exists()
    suspects.write_text("".join(suspects.read_text().splitlines(keepends=True)[:2]))

    relabelled = (*mine, f"data.relabel={name}")
    run("pipeline.prepare", *relabelled, "hydra.run.dir=prepared")
    record = DatasetRecord.read(project / "prepared")
    assert [sum(counts) for counts in zip(*record.counts.values(), strict=True)] == [24, 24, 25]
    told = run("pipeline.audit", "--compare", *relabelled).stdout
    assert "1 of 73 labels are corrected." in told and "on images whose label stayed (72) accuracy" in told
    refused = run("pipeline.audit", "--compare", *mine, check=False)
    assert refused.returncode == 1 and "data.relabel must correct labels outside of the test split" in refused.stderr
