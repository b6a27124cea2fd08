"""Answers against labels of new images: figures, labels by table and by folder, and the page."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.delivery import Classifier
from pipeline.delivery.agreement import NUM_MISTAKES, Comparison, Labels
from pipeline.errors import ConfigError, DataError
from pipeline.predict import main
from tests.page_artefacts import CLASSES
from tests.test_source_hostile import as_folder


@pytest.fixture(scope="module")
def labelled(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images in folders named by their class, and one image of none."""
    root, prepared = tmp_path_factory.mktemp("labelled"), package.parent / "prepared" / "test"
    pictures = zip(np.load(prepared / "images.npy"), np.load(prepared / "labels.npy"), strict=True)
    for place, (pixels, label) in enumerate(pictures):
        folder = root / "new" / CLASSES[label].replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(folder / f"{place:02d}.png")
    Image.fromarray(pixels[..., 0]).save(root / "new" / "stray.png")
    return root


def test_figures_are_those_of_a_plain_count(package: Path, labelled: Path) -> None:
    paths = sorted((labelled / "new").rglob("*.png"))
    classes = ["circle", "square"]  # the third one's name is no name of a folder
    comparison, classifier = Comparison(Labels("folders", CLASSES)), Classifier.load(package)
    for batch in classifier.stream((str(path), path) for path in paths):
        comparison.add(batch)
    found = comparison.result()
    frame = classifier.predict(paths)
    frame["true"] = [path.parent.name for path in paths]
    known = frame[frame["true"].isin(classes)]
    assert found.num_images == len(known) == 40 and found.without_label == 21
    right = known["label"] == known["true"]
    assert found.accuracy.value == right.mean() and found.accuracy.low < right.mean() < found.accuracy.high
    assert found.balanced_accuracy.value == pytest.approx(right.groupby(known["true"]).mean().mean())
    of_label = [row[f"p_{row['true']}"] for _, row in known.iterrows()]
    assert found.loss == pytest.approx(-np.log(np.array(of_label, float)).mean(), rel=1e-5)
    covered = [row["true"] in row["set"] for _, row in known.iterrows()]
    assert found.coverage is not None and found.coverage.value == np.mean(covered)
    assert found.set_size == pytest.approx(known["set"].map(len).mean())
    wrong = known[~right].sort_values("probability", ascending=False)[:NUM_MISTAKES]
    assert [each.image for each in found.mistakes] == wrong["image"].tolist()
    assert found.mistakes[0].pixels.shape == (16, 16, 1)
    assert found.matrix.sum() == 40 and found.matrix[2].sum() == 0


def test_labels_are_found_by_the_whole_path_or_by_its_end(tmp_path: Path) -> None:
    as_folder(tmp_path, {"l.csv": "file,label\ncat/1.jpg,a\ndog/1.jpg,b\n/data/x/2.jpg,a\n", "photos/3.jpg": b""})
    labels = Labels(str(tmp_path / "l.csv"), ["a", "b"])
    names = ("photos.zip/cat/1.jpg", "dog/1.jpg", "new/2.jpg", "elsewhere/1.jpg", "3.jpg", str(tmp_path / "cat/1.jpg"))
    assert [labels.index(name) for name in names] == [0, 1, 0, None, None, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\n1.jpg,cta\n", "must name classes of the model; got 'cta' for 1.jpg. Did you mean 'cat'?"),
        ("file,size\n1.jpg,3\n", "--against must be a table with a column of paths, such as `path`, and one of labels, such as "
         "`label`;"),
        (b"\xff\xfe\x00", "--against must be a table with paths and labels;"),
    ],
)  # fmt: skip
def test_a_table_without_labels_of_the_model_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    as_folder(tmp_path, {"l.csv": content})
    with pytest.raises(DataError) as error:
        Labels(str(tmp_path / "l.csv"), ["cat", "dog"])
    assert message in str(error.value)


def test_what_tells_no_label_is_refused(package: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(labelled)
    with pytest.raises(
        DataError, match="--against must be a table with paths and labels, or 'folders'; gone is no file"
    ):
        main(["new", "--model", str(package), "--against", "gone"])
    with pytest.raises(DataError, match="--against must tell labels of the images; it tells none of them"):
        main(["new/stray.png", "--model", str(package), "--against", "folders"])
    with pytest.raises(ConfigError, match="--page must come with --against"):
        main(["new", "--model", str(package), "--page", "x.html"])


def test_the_page_shows_figures_and_mistakes_by_name(
    package: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(labelled)
    page = tmp_path / "new.html"
    (tmp_path / "labels.csv").write_text(
        "path,label\n" + "".join(f'{path},"{CLASSES[2]}"\n' for path in (labelled / "new").rglob("*.png"))
    )
    given = ["new", "--model", str(package), "--page", str(page), "--against", str(tmp_path / "labels.csv")]
    assert main(given) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("image,label") and "coverage of the sets" in printed.err and str(page) in printed.err
    text = page.read_text()
    assert (
        "<b>bold" not in text
        and "&lt;b&gt;bold &amp; sharp&lt;/b&gt;" in text
        and text.count('src="data:image/png') == 2
    )
    assert "Accuracy here" in text and "new/circle/00.png" in text
    Strict().feed(text)


class Strict(HTMLParser):
    """Refuses an image without words and a script."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script" and (tag != "img" or dict(attrs)["alt"])
