"""The evaluate stage: the test split, the best weights, and nothing else."""

import csv
import json
import shutil
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.evaluation import EvaluationRecord
from pipeline.artefacts.mistakes import Mistakes
from pipeline.artefacts.outputs import CALIBRATION, EVALUATED, SHUFFLED, TRAINING, NetworkOutputs
from pipeline.errors import DataError
from pipeline.evaluate import about_classes, evaluate
from pipeline.evaluation.accuracy import accuracy_on, right_on
from pipeline.metrics import history, scores
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.intervals import mean_of_proportions, newcombe, wilson
from pipeline.stage import lineage
from tests.page_artefacts import BEST_EPOCH, CLASSES, COUNTS, NETWORK, make_all, rows
from tests.records import rewrite_record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = make_all(tmp_path_factory.mktemp("made"))
    folders["evaluation"] = folders["training"].parent / "evaluation"
    evaluate(training=folders["training"], prepared=folders["prepared"], batch_size=7, out=folders["evaluation"])
    return folders


@pytest.fixture
def training(made: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made["training"], tmp_path / "training"))


@pytest.fixture
def evaluation(made: dict[str, Path]) -> Path:
    return made["evaluation"]


def expected_probabilities(made: dict[str, Path]) -> np.ndarray:
    """With the temperature of the evaluation."""
    classifier, _ = model.load(made["training"] / "model.ckpt")
    with torch.no_grad():
        images = torch.from_numpy(np.load(made["prepared"] / "test" / "images.npy"))
        temperature = EvaluationRecord.read(made["evaluation"]).calibration.temperature
        return (classifier(images) / temperature).softmax(dim=1).numpy()


def test_predictions_are_those_of_the_best_weights_in_order(made: dict[str, Path]) -> None:
    table = pq.read_table(made["evaluation"] / "predictions.parquet").to_pydict()
    expected = expected_probabilities(made)
    assert np.allclose(table["probabilities"], expected, atol=1e-6)
    assert table["predicted"] == expected.argmax(axis=1).tolist()
    assert np.allclose(table["confidence"], expected.max(axis=1), atol=1e-6)
    assert table["id"] == [f"test/{index:05d}" for index in range(COUNTS["test"])]
    assert table["label"] == np.load(made["prepared"] / "test" / "labels.npy").tolist()
    correct = [label == guess for label, guess in zip(table["label"], table["predicted"], strict=True)]
    assert table["correct"] == correct


def test_metrics_of_the_test_split_agree_with_the_predictions(evaluation: Path) -> None:
    metrics = json.loads((evaluation / "metrics.json").read_text())
    table = pq.read_table(evaluation / "predictions.parquet").to_pydict()
    right = [row[label] for row, label in zip(table["probabilities"], table["label"], strict=True)]
    assert metrics["test/accuracy"] == pytest.approx(np.mean(table["correct"]))
    assert metrics["test/accuracy_low"] < metrics["test/accuracy"] < metrics["test/accuracy_high"]
    assert metrics["test/loss"] == pytest.approx(-np.log(right).mean())


def test_details_hold_the_losses_and_accuracies_of_the_best_epoch(evaluation: Path) -> None:
    details = EvaluationRecord.read(evaluation)
    best = rows()[BEST_EPOCH - 1]
    keys = (history.CLEAN_ACCURACY, history.CLEAN_LOSS, history.VAL_ACCURACY, history.VAL_LOSS)
    assert details.kept_epoch == {key: best[key] for key in keys}
    assert details.gap.value == best[history.CLEAN_ACCURACY] - best[history.VAL_ACCURACY] == 0.0625
    assert (details.gap.low, details.gap.high) == newcombe(21, 24, 20, 24)


def test_dvc_compares_five_numbers(evaluation: Path) -> None:
    metrics = json.loads((evaluation / "metrics.json").read_text())
    names = ("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "loss")
    assert list(metrics) == [f"test/{name}" for name in names]
    assert metrics.items() <= EvaluationRecord.read(evaluation).by_name().items()


def test_tables_count_every_test_image(evaluation: Path) -> None:
    with (evaluation / "confusion.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    with (evaluation / "per_class.csv").open(newline="") as file:
        per_class = list(csv.DictReader(file))
    assert [row["class"] for row in per_class] == CLASSES
    for row in per_class:
        actual = [pair for pair in pairs if pair["actual"] == row["class"]]
        predicted = [pair for pair in pairs if pair["predicted"] == row["class"]]
        found = sum(pair["predicted"] == row["class"] for pair in actual)
        assert int(row["count"]) == len(actual) == 10 and int(row["predicted"]) == len(predicted)
        assert float(row["recall"]) == found / 10
        assert (float(row["recall_low"]), float(row["recall_high"])) == wilson(found, 10)
        expected = wilson(found, len(predicted)) if predicted else (0, 1)
        assert (float(row["precision_low"]), float(row["precision_high"])) == expected


def test_a_class_without_test_images_is_left_out_of_means_over_classes(made: dict[str, Path], tmp_path: Path) -> None:
    prepared = Path(shutil.copytree(made["prepared"], tmp_path / "prepared"))
    labels = np.load(prepared / "test" / "labels.npy") // 2  # 20 images of the first class, 10 of the second, none else
    np.save(prepared / "test" / "labels.npy", labels)
    record = evaluate(training=made["training"], prepared=prepared, batch_size=16, out=tmp_path)
    predicted = expected_probabilities(made).argmax(axis=1)
    found = [int(((labels == label) & (predicted == label)).sum()) for label in (0, 1)]
    balanced = record.scores.balanced_accuracy
    assert balanced.value == pytest.approx((found[0] / 20 + found[1] / 10) / 2)
    assert (balanced.low, balanced.high) == mean_of_proportions(found, [20, 10])
    assert all(np.isfinite(value) for value in record.by_name().values())
    assert about_classes(CLASSES, [20, 10, 0], record) == [
        f"Balanced accuracy {balanced.value:.3f} [{balanced.low:.3f}, {balanced.high:.3f}]: "
        "the mean over classes of 10 to 20 test images.",
        "Without test images, and so left out of means over classes: <b>bold & sharp</b>.",
    ]


def test_nothing_is_said_of_classes_of_about_equal_size(evaluation: Path) -> None:
    record = EvaluationRecord.read(evaluation)
    assert about_classes(CLASSES, [14, 10, 12], record) == []
    assert len(about_classes(CLASSES, [15, 10, 12], record)) == 1


def test_mistakes_are_the_wrong_predictions_with_their_calibrated_probabilities(evaluation: Path) -> None:
    predictions = {row["id"]: row for row in pq.read_table(evaluation / "predictions.parquet").to_pylist()}
    with (evaluation / "mistakes.csv").open(newline="") as file:
        mistakes = list(csv.DictReader(file))
    assert {row["id"] for row in mistakes} == {name for name, row in predictions.items() if not row["correct"]} != set()
    sure = [float(row["probability"]) for row in mistakes]
    assert sure == sorted(sure, reverse=True) == [predictions[row["id"]]["confidence"] for row in mistakes]
    stored = Mistakes.read(evaluation)
    assert stored.ids.tolist() == [row["id"] for row in mistakes] and len(stored.heat) == len(stored) > 0


def test_pictures_are_written(evaluation: Path) -> None:
    for name in ("mistakes.png", "confusion.png"):
        assert (evaluation / name).read_bytes().startswith(b"\x89PNG")


def test_batch_size_changes_nothing(made: dict[str, Path], tmp_path: Path) -> None:
    again = evaluate(training=made["training"], prepared=made["prepared"], batch_size=1000, out=tmp_path)
    assert again.by_name() == pytest.approx(EvaluationRecord.read(made["evaluation"]).by_name(), abs=1e-6)


def test_the_test_split_chooses_nothing(made: dict[str, Path], tmp_path: Path) -> None:
    prepared = Path(shutil.copytree(made["prepared"], tmp_path / "prepared"))
    for name in ("images.npy", "labels.npy"):
        np.save(prepared / "test" / name, np.load(prepared / "test" / name)[::-1])
    record = evaluate(training=made["training"], prepared=prepared, batch_size=16, out=tmp_path)
    assert record.calibration == EvaluationRecord.read(made["evaluation"]).calibration
    for name in (CALIBRATION, SHUFFLED, TRAINING):
        mine, its = (NetworkOutputs.read(folder, name) for folder in (tmp_path, made["evaluation"]))
        assert all(
            np.allclose(ours, theirs) for ours, theirs in zip(vars(mine).values(), vars(its).values(), strict=True)
        )


def test_probabilities_are_calibrated_on_confirm_and_where_that_is_small_on_validation_too(
    made: dict[str, Path],
) -> None:
    record = EvaluationRecord.read(made["evaluation"])
    found = NetworkOutputs.read(made["evaluation"], CALIBRATION)
    assert record.calibration.splits == ["confirm", "val"] and record.calibration.num_images == len(found) == 36
    before, after = (calibrated(found.log_probabilities, value) for value in (1.0, record.calibration.temperature))
    assert scores.negative_log_likelihood(found.labels, after) < scores.negative_log_likelihood(found.labels, before)
    measured = NetworkOutputs.read(made["evaluation"], EVALUATED)
    plain = calibrated(measured.log_probabilities, 1.0)
    assert record.scores.loss_uncalibrated == scores.negative_log_likelihood(measured.labels, plain)
    assert record.scores.ece_uncalibrated == scores.expected_calibration_error(measured.labels, plain)


def test_balanced_all_classes_weigh_the_same(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    number = len(right_on(made["training"], made["prepared"], "confirm"))
    rare = np.arange(number) < 3
    monkeypatch.setattr("pipeline.evaluation.accuracy._are_right", lambda *_: ~rare | (np.arange(number) == 0))
    monkeypatch.setattr("pipeline.evaluation.accuracy.labels_of", lambda *_: rare.astype(np.int64))
    plain, balanced = (
        right_on(made["training"], made["prepared"], "confirm", balanced=balanced) for balanced in (False, True)
    )
    assert plain.keys() == balanced.keys() and fmean(plain.values()) == pytest.approx(1 - 2 / number)
    assert fmean(balanced.values()) == pytest.approx((1 + 1 / 3) / 2)


def test_the_accuracy_on_confirm_is_told_where_it_calibrates_alone(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EvaluationRecord.read(made["evaluation"]).confirm is None, (
        "18 images are calibrated on together with those of validation"
    )
    monkeypatch.setattr("pipeline.evaluation.outputs.ENOUGH", 1)
    enough = evaluate(training=made["training"], prepared=made["prepared"], batch_size=16, out=tmp_path)
    assert enough.confirm is not None
    assert enough.confirm.value == pytest.approx(accuracy_on(made["training"], made["prepared"], "confirm"))
    assert enough.confirm.low < enough.confirm.value < enough.confirm.high


def refuse(training: Path, prepared: Path, out: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(training=training, prepared=prepared, batch_size=16, out=out)
    assert not (out / "metrics.json").exists()


def test_missing_weights_are_refused(made: dict[str, Path], training: Path, tmp_path: Path) -> None:
    (training / "model.ckpt").unlink()
    refuse(training, made["prepared"], tmp_path, "a model must be a file; got .*model.ckpt")


def test_truncated_weights_are_refused(made: dict[str, Path], training: Path, tmp_path: Path) -> None:
    whole = (training / "model.ckpt").read_bytes()
    (training / "model.ckpt").write_bytes(whole[: len(whole) // 2])
    refuse(training, made["prepared"], tmp_path, "a model must be a model.ckpt .*, whole")


def test_weights_of_another_dataset_are_refused(made: dict[str, Path], training: Path, tmp_path: Path) -> None:
    model.save(training / "model.ckpt", NETWORK, model.build(**NETWORK).state_dict(), ["cat", "dog", "cow"])
    refuse(training, made["prepared"], tmp_path, "for the classes circle, square, .*; got one for cat, dog, cow")


def test_weights_of_another_network_are_refused(made: dict[str, Path], training: Path, tmp_path: Path) -> None:
    model.save(training / "model.ckpt", NETWORK, model.build(**NETWORK).state_dict(), CLASSES)
    refuse(training, made["prepared"], tmp_path, r"must hold the weights of its run.json \(SHA-256 .*…\); got")


def test_training_on_other_data_is_refused(made: dict[str, Path], training: Path, tmp_path: Path) -> None:
    run = json.loads((training / "run.json").read_text())
    rewrite_record(training / "run.json", prepare_fingerprint="prepare-2")
    needed = rf"a training on the output of prepare in .*fingerprint {run['prepare_fingerprint']}\)"
    message = rf"evaluate.training must be {needed}; got one on prepare-2"
    refuse(training, made["prepared"], tmp_path, message)


def test_folder_without_a_training_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    refuse(tmp_path, made["prepared"], tmp_path, "evaluate.training must be a folder that train finished; got")


def test_without_a_test_split_validation_is_measured(made: dict[str, Path], tmp_path: Path) -> None:
    prepared = Path(shutil.copytree(made["prepared"], tmp_path / "prepared"))
    dataset = DatasetRecord.read(prepared)
    dataset.model_copy(update={"counts": {**dataset.counts, "test": [0, 0, 0]}}).write(prepared)
    training = Path(shutil.copytree(made["training"], tmp_path / "training"))
    fingerprint = lineage.content("prepare", prepared)
    rewrite_record(training / "run.json", prepare_fingerprint=fingerprint)
    record = evaluate(training=training, prepared=prepared, batch_size=16, out=tmp_path)
    assert record.split == "val" and record.by_name() == {}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {}
    assert pq.read_table(tmp_path / "predictions.parquet").num_rows == COUNTS["val"]
