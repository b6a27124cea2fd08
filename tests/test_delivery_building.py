"""The package of a training: its files, its thresholds, and its card."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline import model
from pipeline.artefacts.outputs import CALIBRATION, EVALUATED, SHUFFLED, NetworkOutputs
from pipeline.artefacts.package import CARD, FILES, IMAGES, WEIGHTS, ManifestRecord, ThresholdsRecord
from pipeline.config.schema import Package
from pipeline.delivery.building import Sources, build
from pipeline.delivery.classifier import Classifier
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.features import KeptFeatures
from pipeline.evaluation.outputs import reference
from pipeline.evaluation.scoring import evaluate
from pipeline.metrics import conformal
from pipeline.metrics.calibration import calibrated
from pipeline.model.checkpoint import load_content
from tests.page_artefacts import CLASSES, COUNTS, make_all
from tests.records import rewrite_record


def settings(**changes: object) -> Package:
    fields = {
        "training": None, "evaluation": None, "diagnosis": None, "coverage": 0.8, "operating_point": {},
        "confirm_chose": False,
    }  # fmt: skip
    return Package.model_validate(fields | changes)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    made = make_all(tmp_path_factory.mktemp("made"))
    evaluation = made["training"].parent / "evaluation"
    evaluate(training=made["training"], prepared=made["prepared"], batch_size=16, out=evaluation)
    return Sources(made["training"], made["prepared"], evaluation, made["diagnosis"])


@pytest.fixture(scope="module")
def package(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package")
    point = {"class": "square", "recall": 0.5}
    build(sources, settings(operating_point=point), out, tta="flip", batch_size=16)
    return out


def test_a_package_holds_what_its_manifest_signs_and_no_pickle(package: Path) -> None:
    manifest = ManifestRecord.read(package)
    assert {path.name for path in package.iterdir()} == {*manifest.files, ManifestRecord.FILE} <= set(FILES)
    for name, signature in manifest.files.items():
        content = (package / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (signature.sha256, signature.num_bytes)
        assert b"cpickle" not in content.lower() and content[:2] != b"\x80\x04"
    assert b"/pipeline/" not in (package / "model.onnx").read_bytes(), "paths of this machine"


def test_the_weights_are_those_of_the_training(package: Path, sources: Sources) -> None:
    network, _ = model.load(sources.training / "model.ckpt")
    weights = load_file(package / WEIGHTS)
    assert weights.keys() == network.state_dict().keys()
    assert all(np.array_equal(weights[name], tensor.numpy()) for name, tensor in network.state_dict().items())


def test_a_package_classifies_as_the_evaluation_did(package: Path, sources: Sources) -> None:
    assert sources.evaluation is not None
    classifier = Classifier.load(package)
    images = np.load(sources.prepared / "test" / "images.npy")
    measured = NetworkOutputs.read(sources.evaluation, EVALUATED)
    temperature = ThresholdsRecord.read(package).calibration.temperature
    frame = classifier.predict(list(images))
    found = frame[[f"p_{name}" for name in CLASSES]].to_numpy()
    assert np.abs(found - calibrated(measured.log_probabilities, temperature)).max() < 1e-5
    logits, features = classifier.outputs(images)
    assert np.abs(logits - measured.logits).max() < 1e-4 and np.abs(features - measured.features).max() < 1e-4


def test_thresholds_are_set_on_the_calibration_images(package: Path, sources: Sources) -> None:
    assert sources.evaluation is not None
    record, found = ThresholdsRecord.read(package), NetworkOutputs.read(sources.evaluation, CALIBRATION)
    probabilities = calibrated(found.log_probabilities, record.calibration.temperature)
    assert record.set_thresholds == conformal.thresholds(found.labels, probabilities, 0.8)
    inside = conformal.sets(probabilities, np.array(record.set_thresholds))[np.arange(len(found)), found.labels]
    assert inside.mean() >= 0.8
    point = record.operating_point
    assert point is not None and point.cost is not None and point.cost.split == "test"
    of_class = probabilities[found.labels == 1, 1]
    assert (of_class >= point.threshold).mean() >= 0.5
    measured = NetworkOutputs.read(sources.evaluation, EVALUATED)
    reached = calibrated(measured.log_probabilities, record.calibration.temperature)[:, 1] >= point.threshold
    assert point.cost.recall.value == pytest.approx(reached[measured.labels == 1].mean())
    assert point.cost.false_alarms.value == pytest.approx(reached[measured.labels != 1].mean())


def test_an_operating_point_names_its_class_from_its_threshold_on(package: Path, sources: Sources) -> None:
    point = ThresholdsRecord.read(package).operating_point
    assert point is not None
    frame = Classifier.load(package).predict(list(np.load(sources.prepared / "test" / "images.npy")))
    assert ((frame["label"] == "square") == (frame["p_square"] >= np.float32(point.threshold))).all()


def test_the_images_that_a_package_knows_can_be_told_again(package: Path, sources: Sources) -> None:
    with np.load(package / IMAGES) as arrays:
        assert len(arrays["test"]) == len(arrays["predicted"]) == COUNTS["test"]
        assert len(arrays["used"]) == COUNTS["train"] + COUNTS["val"] + COUNTS["confirm"]
        assert not np.isin(arrays["test"], arrays["used"]).any()
        assert arrays["labels"].tolist() == np.load(sources.prepared / "test" / "labels.npy").tolist()


def test_the_card_tells_data_accuracy_verdict_and_limits(package: Path, sources: Sources) -> None:
    card = (package / CARD).read_text()
    for text in (
        "convnet on shapes", "Licence: MIT", "40 train, 24 val, 12 confirm, 30 test", "| accuracy | 0.",
        r"\<b\>bold & sharp", "## Does it fit?", "temperature", "at least 80% of the images", "square is named as soon as",
        "On test images that gives", "## Limits of use", "python -m pipeline.predict FOLDER --model .",
        "Validation images, which chose the weights",
    ):  # fmt: skip
        assert text in card, text
    assert "not evaluated" not in card


def test_without_an_evaluation_the_test_split_stays_unread(sources: Sources, tmp_path: Path) -> None:
    prepared = Path(shutil.copytree(sources.prepared, tmp_path / "prepared"))
    (prepared / "test" / "images.npy").unlink()
    alone = Sources(sources.training, prepared, None, None)
    (tmp_path / "out").mkdir()
    manifest = build(alone, settings(confirm_chose=True), tmp_path / "out", tta="none", batch_size=16)
    assert manifest.scores is None and manifest.verdict is None
    card = (tmp_path / "out" / CARD).read_text()
    assert card.count("not evaluated") == 1 and "Not evaluated" in card and "A cure has chosen" in card
    assert Classifier.load(tmp_path / "out").predict([np.zeros((9, 9), np.uint8)])["set"].notna().all()


def test_an_evaluation_of_another_training_is_refused(sources: Sources, tmp_path: Path) -> None:
    assert sources.evaluation is not None
    other = Path(shutil.copytree(sources.evaluation, tmp_path / "other"))
    rewrite_record(other / "details.json", training="another")
    with pytest.raises(DataError, match="package.evaluation must be an evaluation of the training in .*; got .*other"):
        build(Sources(sources.training, sources.prepared, other, None), settings(), tmp_path, tta="none", batch_size=16)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            {"class": "squares", "recall": 0.9},
            r"class must be a class of the data; got 'squares'. Did you mean 'square'\?",
        ),
        ({"class": "square", "recall": 0.999}, "recall must be within reach .*; got 0.999, and 12 images of 'square'"),
    ],
)
def test_an_operating_point_out_of_reach_is_refused(
    sources: Sources, tmp_path: Path, point: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(sources, settings(operating_point=point), tmp_path, tta="none", batch_size=16)


@pytest.mark.parametrize(
    "point", [{"class": "a"}, {"class": 1, "recall": 0.5}, {"class": "a", "recall": 1.5}, {"clas": "a"}]
)
def test_an_operating_point_has_a_class_and_a_recall(point: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"package.operating_point must be \{\} or \{class: <name>, recall: .*got \{"):
        settings(operating_point=point)


def test_few_images_set_no_thresholds_and_the_card_says_why(sources: Sources, tmp_path: Path) -> None:
    prepared = Path(shutil.copytree(sources.prepared, tmp_path / "prepared"))
    counts = json.loads((prepared / "dataset.json").read_text())["counts"]
    for split in ("val", "confirm"):
        for name in ("images.npy", "labels.npy"):
            np.save(prepared / split / name, np.load(prepared / split / name)[:6])
        counts[split] = [2, 2, 2]
    rewrite_record(prepared / "dataset.json", counts=counts)
    training = Path(shutil.copytree(sources.training, tmp_path / "training"))
    from pipeline.stage import lineage

    rewrite_record(training / "run.json", prepare_fingerprint=lineage.content("prepare", prepared))
    (tmp_path / "out").mkdir()
    build(Sources(training, prepared, None, None), settings(), tmp_path / "out", tta="none", batch_size=16)
    record = ThresholdsRecord.read(tmp_path / "out")
    assert record.set_thresholds == [] and record.outlier_score is None and record.calibration.temperature == 1
    assert record.note == (
        "There are 12 images of confirm and val, and 20 are needed: nothing is calibrated, there are no sets, and no image is "
        "called unknown."
    )
    assert record.note in (tmp_path / "out" / CARD).read_text()
    frame = Classifier.load(tmp_path / "out").predict([np.zeros((9, 9), np.uint8)])
    assert frame["set"].isna().all() and frame["unknown"].isna().all() and frame["label"].notna().all()


def test_outputs_from_kept_features_are_those_from_images(sources: Sources, tmp_path: Path) -> None:
    path, prepared = sources.training / "model.ckpt", sources.prepared
    network, kept = model.load(path)[0], KeptFeatures(model.load(path)[0], load_content(path)["network"], tmp_path)
    of_images = reference(network, prepared, tta="none", batch_size=16)
    of_features = reference(network, prepared, tta="none", batch_size=16, kept=kept)
    assert of_images.calibration.temperature == pytest.approx(of_features.calibration.temperature, rel=1e-3)
    assert of_images.outputs.keys() == of_features.outputs.keys() and SHUFFLED in of_images.outputs
    for name, outputs in of_images.outputs.items():
        for field, values in vars(outputs).items():
            np.testing.assert_allclose(values, vars(of_features.outputs[name])[field], atol=1e-4, err_msg=name)
    assert kept.exist()


def test_a_package_takes_features_that_are_kept(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, path = Sources(sources.training, sources.prepared, None, None), sources.training / "model.ckpt"
    monkeypatch.setattr("pipeline.delivery.building.CACHE", tmp_path / "cache")
    (tmp_path / "first").mkdir()
    build(alone, settings(), tmp_path / "first", tta="none", batch_size=16)
    assert not (tmp_path / "cache").exists(), "a network that was not trained on features keeps none"
    images = np.load(sources.prepared / "train" / "images.npy")
    kept = KeptFeatures(model.load(path)[0], load_content(path)["network"], tmp_path / "cache")
    kept.file({"prepare": sources.prepared}, "train", images)
    capsys.readouterr()
    (tmp_path / "second").mkdir()
    build(alone, settings(), tmp_path / "second", tta="none", batch_size=16)
    printed = capsys.readouterr().out
    assert "shuffled tiles) are kept" in printed and "(train" not in printed
