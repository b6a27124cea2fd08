"""The public face in Python: the same answers as torch gives, whatever an image is given as."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import model
from pipeline.delivery import Classifier
from pipeline.delivery.decisions import Wishes
from pipeline.errors import ConfigError
from pipeline.metrics.calibration import calibrated
from tests.hidden import WITHOUT_TRAINING
from tests.page_artefacts import CLASSES

P = [f"p_{name}" for name in CLASSES]


@pytest.fixture(scope="module")
def classifier(package: Path) -> Classifier:
    return Classifier.load(package, threads=1)


@pytest.mark.parametrize("tta", ["none", "flip", "flip_shift"])
def test_views_are_averaged_as_torch_does(classifier: Classifier, package: Path, tta: str) -> None:
    pixels = np.load(package.parent / "prepared" / "test" / "images.npy")
    network, _ = model.load(package.parent / "training" / "model.ckpt")
    outputs = model.outputs(network, pixels, tta=tta, batch_size=64)
    of_torch = calibrated(outputs.log_probabilities, classifier.package.thresholds.calibration.temperature)
    assert np.abs(classifier.predict(list(pixels), tta=tta)[P].to_numpy() - of_torch).max() < 1e-4


def test_a_picture_gets_the_same_answer_however_it_is_given(classifier: Classifier, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    (tmp_path / "1.png").write_bytes(data := _png(pixels))
    given = [tmp_path / "1.png", str(tmp_path / "1.png"), data, bytearray(data), pixels, Image.fromarray(pixels)]
    frame = classifier.predict(given)
    assert frame["error"].isna().all()
    assert (frame[P].to_numpy() == frame[P].to_numpy()[0]).all()
    assert frame["image"].tolist() == [str(tmp_path / "1.png")] * 2 + [None] * 4


def test_what_cannot_be_read_keeps_its_place(classifier: Classifier, tmp_path: Path) -> None:
    good = np.zeros((16, 16), np.uint8)
    bad = [b"", b"no image", _png(good)[:60], tmp_path / "gone.png", np.zeros((4, 4)), np.zeros((0, 4), np.uint8), 3]
    frame = classifier.predict([good, *bad, good])
    assert frame["error"].isna().tolist() == [True, *[False] * 7, True]
    reasons = frame["error"][1:8].tolist()
    assert reasons[0] == "unreadable: it is empty" and reasons[1].startswith("not an image: it begins with b'no image'")
    assert reasons[3] == "No such file or directory" and "must be uint8 of shape" in reasons[4]
    assert "must hold pixels" in reasons[5] and "must be a path, the bytes of a file" in reasons[6]
    assert frame[P].isna().all(axis=1).tolist() == [False, *[True] * 7, False]
    assert frame["label"].isna().sum() == frame["set"].isna().sum() == frame["unknown"].isna().sum() == 7


def test_no_image_gives_an_empty_table_with_all_columns(classifier: Classifier) -> None:
    frame = classifier.predict([])
    assert len(frame) == 0 and list(frame) == ["image", "label", "probability", "unknown", "set", "error", *P]


def test_a_threshold_makes_what_is_unsure_unknown(classifier: Classifier, package: Path) -> None:
    images = list(np.load(package.parent / "prepared" / "test" / "images.npy"))
    plain = classifier.predict(images)
    limit = float(plain["probability"].median())
    asked = classifier.predict(images, threshold=limit)
    assert (asked["unknown"].to_numpy(bool) == (plain["unknown"].to_numpy(bool) | (plain["probability"] < limit))).all()
    assert 0 < asked["unknown"].sum() < len(images) and (asked["label"] == plain["label"]).all()


def test_an_operating_point_names_its_class_from_its_threshold_on(classifier: Classifier, package: Path) -> None:
    images = list(np.load(package.parent / "prepared" / "test" / "images.npy"))
    plain = classifier.predict(images)
    limit = float(plain["p_square"].sort_values().iloc[3])
    asked = classifier.predict(images, operating_point=("square", limit))
    assert (asked["label"] == "square").tolist() == (plain["p_square"] >= np.float32(limit)).tolist()
    assert (asked["probability"] == asked.apply(lambda row: row[f"p_{row['label']}"], axis=1)).all()


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (Wishes(tta="rotate"), "tta must be one of none, flip, flip_shift; got 'rotate'."),
        (Wishes(least=1.5), "threshold must be a probability from 0 to 1; got 1.5."),
        (Wishes(point=("sqare", 0.5)), "threshold must name a class of the model, such as 'circle'; got 'sqare'. Did you mean "
         "'square'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_told(classifier: Classifier, wishes: Wishes, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        list(classifier.stream([], wishes))
    assert str(error.value) == message


HIDDEN = (
    WITHOUT_TRAINING
    + """
from pipeline.delivery import Classifier
frame = Classifier.load(sys.argv[1]).predict(sys.argv[2:])
from pipeline.predict import main
code = main([*sys.argv[2:], "--model", sys.argv[1], "--format", "csv"])
print(code, repr(float(frame["probability"][0])))
"""
)


def test_nothing_of_the_training_is_needed(classifier: Classifier, package: Path, tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    path.write_bytes(_png(np.zeros((20, 30, 3), np.uint8)))
    done = subprocess.run([sys.executable, "-c", HIDDEN, package, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, row, last = done.stdout.splitlines()
    assert last == f"0 {classifier.predict([path])['probability'][0].item()!r}" and row.startswith(f"{path},")


def _png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
