"""Tests the command diagnose: trainings of this pipeline, histories of other tools, and error messages."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.diagnose import command, course_of, examine
from pipeline.diagnosis import Thresholds
from pipeline.diagnosis.loading import duplicates
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.reference import reference_accuracy
from tests.page_artefacts import make_all

EXPORTED = Path(__file__).parent / "histories"
"""Written by keras.callbacks.CSVLogger of Keras 3.15.1 and by fastai.callback.progress.CSVLogger of fastai 2.8.12, on
scikit-learn's digits; fastai.csv after `learn.recorder.train_metrics = True`, fastai_default.csv as it comes."""

COUNTS = ("--num-train", "2000", "--num-val", "2000", "--num-classes", "10")


def keras_log(path: Path, train: float = 1.0, val: float = 0.82, epochs: int = 30) -> Path:
    """As Keras' `CSVLogger` writes it."""
    lines = ["epoch,accuracy,loss,val_accuracy,val_loss"]
    for epoch in range(epochs):
        rise = 1 - 2.0**-epoch
        lines.append(f"{epoch},{train * rise},{2.3 - 2.2 * train * rise},{val * rise},{2.3 - 2 * val * rise}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_history_of_another_tool_is_diagnosed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = keras_log(tmp_path / "log.csv")
    assert command(["--history", str(log), *COUNTS, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("overfitting: training 1.000, validation 0.820, gap 0.180 [0.164, 0.197]\n")
    assert "training was measured while learning" in told and "Try augment=standard" in told
    record = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert record["verdict"] == "overfitting" and record["evidence"]["gap"]["low"] == pytest.approx(0.164, abs=1e-3)
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_keras_and_fastai_wrote_is_diagnosed(capsys: pytest.CaptureFixture[str]) -> None:
    of_digits = ("--num-classes", "10", "--reference", "0.95")
    command(["--history", str(EXPORTED / "keras.csv"), "--num-train", "100", "--num-val", "1000", *of_digits])
    assert capsys.readouterr().out.startswith(
        "overfitting: training 1.000, validation 0.911, gap 0.089 [0.049, 0.108]\n"
    )
    command(["--history", str(EXPORTED / "fastai.csv"), "--num-train", "1100", "--num-val", "697", *of_digits])
    assert capsys.readouterr().out.startswith("good fit: training 0.990, validation 0.973, gap 0.017 [0.005, 0.033]\n")
    with pytest.raises(DataError, match="the training accuracy is missing .* `learn.recorder.train_metrics = True`"):
        command(
            ["--history", str(EXPORTED / "fastai_default.csv"), "--num-train", "1100", "--num-val", "697", *of_digits]
        )


def test_folds_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^--folds must be a sweep with one finished training of each fold; .* has the folds: none\."
    ):
        command(["--folds", str(tmp_path)])


def test_a_verdict_can_fail_a_build(tmp_path: Path) -> None:
    log = keras_log(tmp_path / "log.csv")
    assert command(["--history", str(log), *COUNTS, "--fail-on", "underfitting,overfitting"]) == 3
    assert command(["--history", str(log), *COUNTS, "--fail-on", "underfitting"]) == 0


def test_thresholds_of_the_configuration_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = keras_log(tmp_path / "log.csv", train=0.9, val=0.85)
    command(["--history", str(log), *COUNTS, "diagnose.thresholds={gap: 0.2, relative_gap: 0.3, good_gap: 0.2}"])
    assert capsys.readouterr().out.startswith("good fit")


def test_what_a_fitted_network_ought_to_reach_tells_underfitting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = keras_log(tmp_path / "log.csv", train=0.6, val=0.6)
    command(["--history", str(log), *COUNTS, "--reference", "0.9"])
    assert (
        "underfitting: training 0.600, validation 0.600, on these data 0.900 [0.886, 0.912] can be reached"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history", "log.csv"], "--history needs --num-train, --num-val, --num-classes too"),
        (["--history", "log.csv", *COUNTS, "--kept-epoch", "31"], "kept_epoch must be one of the 30 epochs; got 31"),
        (["--history", "missing.csv", *COUNTS], "missing.csv"),
        (["--history", "log.csv", *COUNTS, "--fail-on", "overfit"], "got 'overfit'. Did you mean 'overfitting'?"),
        (["--history", "log.csv", *COUNTS, "diagnose.thresholds.gop=1"], "gop is none of the thresholds ahead"),
        (["--history", "log.csv", *COUNTS, "diagnose.thresholds.gap=0"], "gap must be above 0; got 0"),
        (["--history", "log.csv", *COUNTS, "diagnose.reference=90"], "diagnose.reference must be a number in"),
        (["--training", "nowhere"], "diagnose.training must be a folder that train finished; got 'nowhere'"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    keras_log(Path("log.csv"))
    with pytest.raises((ConfigError, DataError)) as refused:
        command(arguments)
    assert message in str(refused.value)


def test_a_training_is_judged_against_what_simple_methods_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stage.lineage.CACHE", tmp_path / "cache")
    folders = make_all(tmp_path)
    course = course_of(folders["training"], folders["prepared"], None)
    accuracy, images = reference_accuracy(folders["prepared"])
    assert (course.reference, course.num_reference) == (accuracy, images) and images == 24
    record = examine(course, Thresholds(), None)
    assert record.interval("reference").value == accuracy and "underfitting" not in record.not_judged


def test_simple_methods_learn_what_is_there_and_nothing_else(tmp_path: Path) -> None:
    folder = make_all(tmp_path)["prepared"]
    assert reference_accuracy(folder)[0] > 0.8
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        labels = np.load(folder / split / "labels.npy")
        np.save(folder / split / "labels.npy", draw.permutation(labels))
    assert reference_accuracy(folder)[0] < 0.7


def test_images_in_both_splits_are_counted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split, digests in {"train": ["a", "b", "c", "d"], "val": ["x", "b", "y", "b"]}.items():
        (tmp_path / split).mkdir()
        pq.write_table(pa.table({"sha256": digests}), tmp_path / split / "ids.parquet")
    assert duplicates(tmp_path) == 0.5


def test_the_diagnosis_is_importable_without_torch_and_mlflow() -> None:
    import subprocess
    import sys

    code = "import sys, pipeline.diagnosis; print({'torch', 'mlflow', 'pytorch_lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
