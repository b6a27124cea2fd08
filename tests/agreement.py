"""A network that was trained, evaluated and packaged, with image files for it, and the ways to ask it about them."""

import base64
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline import model
from pipeline.artefacts.dataset import DatasetRecord
from pipeline.artefacts.package import ThresholdsRecord
from pipeline.artefacts.predictions import Predictions
from pipeline.artefacts.signals import OneBatch, SignalsRecord
from pipeline.config.schema import Package
from pipeline.delivery.building import Sources, build
from pipeline.evaluation.scoring import evaluate
from pipeline.predict import main as predict
from pipeline.prepare import prepare
from pipeline.stage import lineage
from tests.hidden import WITHOUT_TRAINING
from tests.networks import description, fit
from tests.package_server import BOUNDARY, PackageServer, form
from tests.records import CONFIG, rewrite_record
from tests.stores import training_folder
from tests.test_prepare import SETTINGS


class Answers(NamedTuple):
    """What was answered for n images.

    Attributes:
        probabilities: Shape (n, classes).
        labels: Names of their classes.
    """

    probabilities: NDArray[Any]
    labels: Sequence[str]


@dataclass(frozen=True)
class Asked:
    """A network that was trained, and files of its test images.

    Attributes:
        root: Folder with `prepared`, `training`, `evaluation` and `package`.
        folder: Folder with the files and no others.
        files: Files of the test images, in the order of the evaluation.
        classes: Names of its classes.
        expected: Probabilities that torch gave for them in `evaluate`, of shape (n, classes).
    """

    root: Path
    folder: Path
    files: Sequence[Path]
    classes: Sequence[str]
    expected: NDArray[np.float32]

    @classmethod
    def read(cls, root: Path, folder: Path, file: Callable[[int, str], Path]) -> Self:
        """Read what `make` wrote; `file` gives the path of a test image, by its number and its name in the evaluation."""
        told = Predictions.read(root / "evaluation")
        classes = DatasetRecord.read(root / "prepared").classes
        return cls(root, folder, list(starmap(file, enumerate(told.ids))), classes, told.probabilities)

    @property
    def package(self) -> Path:
        return self.root / "package"


def make(
    root: Path, raw: Path, *, network: str, options: Mapping[str, Any], steps: int, batch_size: int | None = None,
    **settings: Any,
) -> None:  # fmt: skip
    """Prepare a raw dataset, train a network on it for some steps, evaluate it without further views, and package it."""
    folders = {name: root / name for name in ("prepared", "training", "evaluation", "package")}
    for name in ("prepared", "evaluation", "package"):
        folders[name].mkdir(parents=True)
    prepare(raw, SETTINGS.model_copy(update=settings), folders["prepared"], root / "cache")
    dataset = DatasetRecord.read(folders["prepared"])
    shape = {"num_classes": len(dataset.classes), "channels": dataset.channels, "size": dataset.size}
    described = description(network, **shape, **options) | {"mean": dataset.mean, "std": dataset.std}
    trained = model.build(**described)
    fit(trained, folders["prepared"] / "train", steps=steps, batch_size=batch_size)
    weights = folders["training"] / "model.ckpt"
    training_folder(
        folders["training"], id="a9ee", name="agreement", prepare_fingerprint=lineage.content("prepare", folders["prepared"]),
        config={**CONFIG, "prepare": {"max_pixels": SETTINGS.max_pixels}, "model": {"name": network}},
    )  # fmt: skip
    one_batch = OneBatch(num_images=32, steps=20, loss_before=1.1, loss_after=0.0, accuracy_after=1.0, passed=True)
    num_val = sum(dataset.counts["val"])
    SignalsRecord(
        initial_loss=1.1, initial_loss_expected=1.1, one_batch=one_batch, num_classes=len(dataset.classes),
        num_train=sum(dataset.counts["train"]), num_probe=num_val, num_val=num_val,
    ).write(folders["training"])  # fmt: skip
    model.save(weights, described, trained.state_dict(), dataset.classes)
    rewrite_record(folders["training"] / "run.json", weights_sha256=lineage.hash_file(weights))
    evaluate(training=folders["training"], prepared=folders["prepared"], batch_size=100, out=folders["evaluation"])
    keys = {"training": None, "evaluation": None, "diagnosis": None, "coverage": 0.9, "operating_point": {}}
    sources = Sources(folders["training"], folders["prepared"], folders["evaluation"], None)
    build(sources, Package(**keys, confirm_chose=False), folders["package"], tta="none", batch_size=100)  # type: ignore[arg-type]


# The ways


def of_onnx(asked: Asked, session: Any) -> Answers:
    """The bare model in ONNX Runtime, on the pixels of `prepare`."""
    images = np.load(asked.root / "prepared" / "test" / "images.npy")
    parts = [session.run(["logits"], {"images": part})[0] for part in np.array_split(images, 1 + len(images) // 500)]
    temperature = ThresholdsRecord.read(asked.package).calibration.temperature
    probabilities = softmax(np.concatenate(parts).astype(np.float64) / temperature, axis=1)
    return Answers(probabilities, [asked.classes[index] for index in probabilities.argmax(axis=1)])


def of_predict(asked: Asked, scratch: Path) -> Answers:
    """The command, on the folder of the files."""
    out = scratch / "answers.parquet"
    assert predict([str(asked.folder), "--model", str(asked.package), "--tta", "none", "--out", str(out)]) == 0
    frame = pd.read_parquet(out).set_index("image").loc[[str(path) for path in asked.files]]
    return _of_frame(frame, asked)


HIDDEN = (
    WITHOUT_TRAINING
    + """
from pipeline.delivery import Classifier
files = open(sys.argv[2]).read().splitlines()
Classifier.load(sys.argv[1]).predict(files, tta="none").to_parquet(sys.argv[3])
"""
)


def of_classifier(asked: Asked, scratch: Path) -> Answers:
    """The class, in a process where nothing of the training can be imported."""
    (scratch / "files").write_text("\n".join(map(str, asked.files)))
    out = scratch / "answers.parquet"
    subprocess.run([sys.executable, "-c", HIDDEN, asked.package, scratch / "files", out], check=True)
    return _of_frame(pd.read_parquet(out), asked)


def of_pyfunc(asked: Asked, model_: Any) -> Answers:
    """MLflow's model in Python, on the content of the files."""
    frame = model_.predict(pd.DataFrame({"image": [path.read_bytes() for path in asked.files]}))
    return _of_rows(frame.to_dict("records"), asked)


def of_models_serve(asked: Asked, url: str) -> Answers:
    """`mlflow models serve`, on the content of the files in base64."""
    rows: list[dict[str, Any]] = []
    for begin in range(0, len(asked.files), 500):
        images = [[base64.b64encode(path.read_bytes()).decode()] for path in asked.files[begin : begin + 500]]
        content = json.dumps({"dataframe_split": {"columns": ["image"], "data": images}}).encode()
        request = urllib.request.Request(f"{url}/invocations", content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            rows += json.load(answer)["predictions"]
    return _of_rows(rows, asked)


def of_serve(asked: Asked, server: PackageServer) -> Answers:
    """`pipeline.serve`, on the files in forms."""
    rows: list[dict[str, Any]] = []
    for begin in range(0, len(asked.files), 64):
        files = {path.name: path.read_bytes() for path in asked.files[begin : begin + 64]}
        answer = server.ask("POST", "/predict?tta=none", form(files), f"multipart/form-data; boundary={BOUNDARY}")
        rows += answer.json["predictions"]
    assert [row["name"] for row in rows] == [path.name for path in asked.files]
    return _of_rows(rows, asked)


def _of_frame(frame: pd.DataFrame, asked: Asked) -> Answers:
    assert frame["error"].isna().all()
    return Answers(frame[[f"p_{name}" for name in asked.classes]].to_numpy(), frame["label"].tolist())


def _of_rows(rows: Sequence[Mapping[str, Any]], asked: Asked) -> Answers:
    assert [row["error"] for row in rows] == [None] * len(asked.files)
    probabilities = np.array([[row["probabilities"][name] for name in asked.classes] for row in rows])
    return Answers(probabilities, [row["label"] for row in rows])
