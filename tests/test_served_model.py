"""The model in MLflow answers as the evaluation did, refuses what is no image in one sentence, and needs only its own code."""

import base64
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import grimp
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from pipeline.artefacts.outputs import EVALUATED, NetworkOutputs
from pipeline.artefacts.package import ThresholdsRecord
from pipeline.config.schema import Tracking
from pipeline.delivery import Classifier
from pipeline.metrics.calibration import calibrated
from pipeline.tracking.model import CODE
from pipeline.tracking.store import connect
from tests.conftest import environment
from tests.loopback import free_port
from tests.page_artefacts import CLASSES
from tests.registered import Candidate, Made, log, made, served_by_mlflow
from tests.stores import training_folder

pytestmark = pytest.mark.slow

LOSSLESS = ("PNG", "BMP", "TIFF", "GIF", "WEBP")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory)


@pytest.fixture(scope="module")
def logged(packages: Made, made_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Addresses of a store, and of the trained network in it as a registered champion."""
    folder = tmp_path_factory.mktemp("logged")
    settings = Tracking(enabled=True, uri=f"sqlite:///{folder}/mlflow.db", experiment="goodfit", tags={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.tracking.spool.SPOOL", folder / "spool")
        log(settings, Candidate(packages.trained, training_folder(folder / "training", id="7d1f", name="trained")))
    client = connect(settings).client
    (model,) = client.search_logged_models(["1"])
    client.create_registered_model("shapes")
    client.create_model_version("shapes", f"models:/{model.model_id}", model.source_run_id)
    client.set_registered_model_alias("shapes", "champion", "1")
    return str(settings.uri), f"models:/{model.model_id}"


@pytest.fixture(scope="module")
def served(logged: tuple[str, str]) -> Iterator[str]:
    """Address of MLflow's scoring app around the model, in this process."""
    import mlflow
    import uvicorn
    from mlflow.pyfunc.scoring_server import init

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(logged[0])
        patch.setenv("__pyfunc_model_path__", "as in a server")
        patch.syspath_prepend(".")  # so that what MLflow adds is taken off again
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(init(mlflow.pyfunc.load_model(logged[1])), port=port, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    content = BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(content, kind, **options)
    return content.getvalue()


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def body(*rows: dict[str, Any]) -> str:
    """A request with these rows."""
    columns = sorted({name for row in rows for name in row})
    return json.dumps(
        {"dataframe_split": {"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]}}
    )


def ask(url: str, content: str | bytes, kind: str = "application/json") -> tuple[int, Any]:
    data = content.encode() if isinstance(content, str) else content
    request = urllib.request.Request(f"{url}/invocations", data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def probabilities_of(rows: list[dict[str, Any]]) -> Any:
    return np.array([[row["probabilities"][name] for name in CLASSES] for row in rows])


def test_torch_onnx_classifier_and_the_served_model_agree(served: str, packages: Made) -> None:
    images = np.load(packages.folders["prepared"] / "test" / "images.npy")[..., 0]
    measured = NetworkOutputs.read(packages.evaluation, EVALUATED)
    temperature = ThresholdsRecord.read(packages.trained).calibration.temperature
    torch_ones = calibrated(measured.log_probabilities, temperature)
    classifier = Classifier.load(packages.trained)
    for kind in LOSSLESS:
        options = {"lossless": True} if kind == "WEBP" else {}
        files = [encoded(image, kind, **options) for image in images]
        frame = classifier.predict(files)
        status, answer = ask(served, body(*({"image": text_of(file)} for file in files)))
        rows = answer["predictions"]
        assert status == 200 and [row["error"] for row in rows] == [None] * len(images)
        by_classifier = frame[[f"p_{name}" for name in CLASSES]].to_numpy()
        assert np.abs(by_classifier - torch_ones).max() < 1e-4, kind
        assert np.abs(probabilities_of(rows) - torch_ones).max() < 1e-4, kind
        assert [row["label"] for row in rows] == frame["label"].tolist()
        assert [row["set"] for row in rows] == frame["set"].tolist()
        assert [row["unknown"] for row in rows] == frame["unknown"].tolist()
    jpeg = [encoded(image, "JPEG") for image in images]  # these lose something, the same for all
    rows = ask(served, body(*({"image": text_of(file)} for file in jpeg)))[1]["predictions"]
    expected = classifier.predict(jpeg)[[f"p_{name}" for name in CLASSES]].to_numpy()
    assert np.abs(probabilities_of(rows) - expected).max() < 1e-4
    rows = ask(served, body(*({"array": image.tolist()} for image in images)))[1]["predictions"]
    assert np.abs(probabilities_of(rows) - torch_ones).max() < 1e-4


def pixels(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"image": text_of(b"hello")}, "not an image"),
    "cut off": ({"image": text_of(encoded(pixels(40, 40))[:200])}, "unreadable"),
    "path": ({"path": "/etc/passwd"}, "a server reads no files; send the content of the file as image, in base64"),
    "floats": ({"array": [[0.5, 0.25], [1.0, 0.0]]}, "an array must hold whole numbers from 0 to 255, in rows of equal"),
    "outside": ({"array": [[300, 1], [2, 3]]}, "got numbers outside of these"),
    "ragged": ({"array": [[1, 2], [3]]}, "an array must hold whole numbers"),
    "text": ({"array": "pixels"}, "an array must hold whole numbers"),
    "two channels": ({"array": pixels(4, 4, 2).tolist()}, "with 1, 3 or 4 channels; got uint8 of shape"),
    "several": ({"array": [[1, 2], [3, 4]], "image": text_of(encoded(pixels(4, 4)))}, "one of image, array and path; got"),
    "nothing": ({"image": None}, "a row must have one of image, array and path; got none of them"),
    "empty": ({"image": ""}, ""),
    "no base64": ({"image": "*"}, "an image must be the content of a file, in base64; got something else"),
    "a number": ({"image": 7}, "an image must be the content of a file, in base64; got something else"),
    "another column": ({"picture": 7}, "a row must have one of image, array and path; got none of them"),
}  # fmt: skip

BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"hello", "application/json"),
    "not UTF-8": (b"\xff\xfe{", "application/json"),
    "other JSON": (b'{"picture": "x"}', "application/json"),
    "no object": (b"[1, 2]", "application/json"),
    "a form": (b"--x", "multipart/form-data; boundary=x"),
    "broken CSV": (b'"', "text/csv"),
    "empty": (b"", "application/json"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_what_is_no_image_is_an_error_in_its_row_and_the_others_are_answered(served: str, name: str) -> None:
    row, message = BAD_ROWS[name]
    good = {"image": text_of(encoded(pixels(30, 20, 3)))}
    status, answer = ask(served, body(good, row, good))
    assert status == 200, answer
    first, bad, last = answer["predictions"]
    assert first == last and first["label"] in CLASSES and first["error"] is None
    assert message in bad["error"] and "\n" not in bad["error"] and bad["label"] is None
    assert bad["probabilities"] is None and bad["unknown"] is None


@pytest.mark.parametrize("name", BAD_BODIES)
def test_what_is_no_request_is_refused_without_a_server_error(served: str, name: str) -> None:
    status, answer = ask(served, *BAD_BODIES[name])
    assert 400 <= status < 500, (status, answer)


def test_of_rows_without_any_known_column_mlflow_leaves_nothing(served: str) -> None:
    assert ask(served, body({"picture": 1}, {"picture": 2})) == (200, {"predictions": []})


def test_a_bomb_costs_a_sentence(served: str) -> None:
    image = Image.new("L", (12_000, 12_000))
    content = BytesIO()
    image.save(content, "PNG")
    status, answer = ask(served, body({"image": text_of(content.getvalue())}))
    assert status == 200 and answer["predictions"][0]["error"].startswith("bomb: ")


def test_colours_and_transparency_are_taken(served: str) -> None:
    rows = [{"array": pixels(9, 7, channels).tolist()} for channels in (1, 3, 4)] + [{"array": pixels(9, 7).tolist()}]
    status, answer = ask(served, body(*rows))
    assert status == 200 and [row["error"] for row in answer["predictions"]] == [None] * 4


def mixed(number: int) -> list[tuple[str | bytes, str, bool]]:
    """Requests, good ones and bad ones, with their type and whether they are good."""
    found: list[tuple[str | bytes, str, bool]] = []
    bad_rows, bad_bodies = list(BAD_ROWS.values()), list(BAD_BODIES.values())
    for index in range(number):
        if index % 3 == 0:
            found.append((body({"image": text_of(encoded(pixels(16 + index % 50, 20)))}), "application/json", True))
        elif index % 3 == 1:
            found.append((body(bad_rows[index % len(bad_rows)][0]), "application/json", False))
        else:
            content, kind = bad_bodies[index % len(bad_bodies)]
            found.append((content, kind, False))
    return found


def test_of_many_mixed_requests_none_is_lost_and_none_is_a_server_error(served: str) -> None:
    for content, kind, is_good in mixed(100):
        status, answer = ask(served, content, kind)
        assert status < 500, (content, answer)
        assert not is_good or (status == 200 and answer["predictions"][0]["label"] in CLASSES)


def test_the_model_in_python_takes_bytes_arrays_and_paths(
    logged: tuple[str, str], packages: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("__pyfunc_model_path__", raising=False)
    monkeypatch.syspath_prepend(".")
    mlflow.set_tracking_uri(logged[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mlflow.pyfunc.load_model("models:/shapes@champion")
    content = encoded(pixels(16, 16))
    (tmp_path / "image.png").write_bytes(content)
    expected = Classifier.load(packages.trained).predict([content])
    for frame in (
        pd.DataFrame({"image": [content]}), pd.DataFrame({"array": [pixels(16, 16).tolist()]}),
        pd.DataFrame({"path": [str(tmp_path / "image.png")]}),
    ):  # fmt: skip
        found = model.predict(frame)
        assert found["error"].tolist() == [None] and found["label"].tolist() == expected["label"].tolist()
        assert found["probabilities"][0] == pytest.approx(
            {name: expected[f"p_{name}"][0] for name in CLASSES}, abs=1e-4
        )


ALONE = """
import importlib, sys
sys.path[:] = [path for path in sys.path if "goodfit" not in path]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", str(finder))]
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "editable" not in str(getattr(hook, "__module__", ""))]
try:
    import pipeline
    sys.exit(f"pipeline is here before the model: {pipeline.__path__}")
except ImportError:
    pass
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pandas.DataFrame({"image": [open(sys.argv[2], "rb").read()]}))
import pipeline.delivery.classifier
print(pipeline.delivery.classifier.__file__)
print([name for name in ("torch", "pytorch_lightning", "albumentations", "hydra", "dvc") if name in sys.modules])
print(answer["label"][0], answer["error"][0])
"""


def test_the_model_runs_where_goodfit_is_not_installed(logged: tuple[str, str], tmp_path: Path) -> None:
    model = MlflowClient(logged[0]).get_logged_model(logged[1].removeprefix("models:/"))
    place = model.artifact_location.removeprefix("file://")
    (tmp_path / "image.png").write_bytes(encoded(pixels(16, 16)))
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", ALONE, place, str(tmp_path / "image.png")], cwd=tmp_path,
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where, heavy, answer = done.stdout.splitlines()[-3:]
    assert where.startswith(place) and heavy == "[]" and answer.endswith(" None")


def test_the_model_carries_the_modules_that_a_prediction_imports_and_no_others() -> None:
    graph = grimp.build_graph("pipeline", exclude_type_checking_imports=True)
    roots = {"pipeline.delivery", "pipeline.delivery.classifier", "pipeline.errors"}
    needed = roots.union(*(graph.find_upstream_modules(root) for root in roots))
    own = graph.find_modules_directly_imported_by("pipeline.tracking.served_model")
    assert own <= needed, "served_model imports something else"
    assert {
        f"pipeline.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}" for name in CODE
    } == needed


# The server as a user starts it


def rss_bytes(process: subprocess.Popen[bytes]) -> int:
    """Memory of the processes in a process's session."""
    listed = subprocess.run(
        ["ps", "-o", "rss=", "-s", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout
    return 1024 * sum(map(int, listed.split()))


@pytest.mark.slow
def test_mlflow_models_serve_answers_2000_mixed_requests(
    logged: tuple[str, str], tmp_path: Path, packages: Made
) -> None:
    with served_by_mlflow("models:/shapes@champion", logged[0], tmp_path) as (url, process):
        content = encoded(pixels(16, 16))
        status, answer = ask(url, body({"image": text_of(content)}), "application/json")
        (row,) = answer["predictions"]
        expected = Classifier.load(packages.trained).predict([content])
        assert status == 200 and row["label"] == expected["label"][0] and row["set"] == expected["set"][0]
        assert row["probabilities"] == pytest.approx({name: expected[f"p_{name}"][0] for name in CLASSES}, abs=1e-4)
        (row,) = ask(url, body({"path": "/etc/passwd"}), "application/json")[1]["predictions"]
        assert row["error"].startswith("a server reads no files")
        before = 0
        for index, (request, kind, is_good) in enumerate(mixed(2000)):
            status, answer = ask(url, request, kind)
            assert status < 500, (request, answer)
            assert not is_good or answer["predictions"][0]["label"] in CLASSES
            if index == 500:
                before = rss_bytes(process)
        assert 0 < rss_bytes(process) < before + 30_000_000
