"""What the demo answers: a look into the network for picked and given images, and a convolution by hand."""

import base64
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.delivery import Classifier
from pipeline.demo import compute, read_kernel, read_samples
from pipeline.errors import DataError
from tests.package_server import PackageServer, package_server
from tests.page_artefacts import CLASSES, SIZE


@pytest.fixture(scope="module")
def classifier(package: Path) -> Classifier:
    return Classifier.load(package, threads=1)


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[PackageServer]:
    options = ("--prepared", str(package.parent / "prepared"), "--max-megabytes", "0.1")
    with package_server("demo", package, *options) as running:
        yield running


def pixels_of(uri: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_picked_image_is_looked_at_with_its_true_class(
    server: PackageServer, classifier: Classifier, package: Path
) -> None:
    images = np.load(package.parent / "prepared" / "test" / "images.npy")
    answer = server.ask("GET", "/look/4").json
    expected = classifier.predict([images[4]])
    assert answer["truth"] == CLASSES[4 % 3] and answer["prediction"]["label"] == expected["label"][0]
    np.testing.assert_array_equal(answer["grey"], images[4, :, :, 0])
    np.testing.assert_array_equal(pixels_of(answer["picture"])[:, :, :1], images[4])
    assert [(layer["name"], layer["shape"]) for layer in answer["layers"] if layer["name"]] == [
        ("block 1 convolution", "4 × 16 × 16"), ("block 1 normalization", "4 × 16 × 16"),
        ("block 2 convolution", "8 × 8 × 8"), ("block 2 normalization", "8 × 8 × 8"),
    ]  # fmt: skip
    assert answer["layers"][0]["formula"] == f"({SIZE} + 2·1 − 3)/1 + 1 = {SIZE}"
    assert all(pixels_of(layer["picture"]).size for layer in answer["layers"]) and pixels_of(answer["heat"]).size
    shown = server.ask("GET", "/samples/4")
    assert shown.headers["Content-Type"] == "image/png" and shown.content == base64.b64decode(answer["picture"][22:])


def test_a_given_image_is_prepared_as_every_other(server: PackageServer, classifier: Classifier) -> None:
    content = cv2.imencode(".png", np.random.default_rng(1).integers(0, 255, (40, 30, 3), dtype=np.uint8))[1].tobytes()
    answer = server.ask("POST", "/look", content, "image/png").json
    expected = classifier.predict([content])
    assert answer["truth"] is None
    assert answer["prediction"]["probability"] == pytest.approx(expected["probability"][0], abs=1e-6)
    assert server.predict(content).json["predictions"][0]["label"] == expected["label"][0]


def test_a_page_with_another_name_for_this_machine_sees_no_image(server: PackageServer) -> None:
    for path in ("/", "/samples/4", "/look/4", "/health"):
        assert server.ask("GET", path).status == server.ask("GET", path, host="localhost:80").status == 200
        found = server.ask("GET", path, host=f"evil.example:{server.port}")
        assert found.status == 421 and found.json["detail"].startswith(
            "Host must name this machine, or a host given with"
        )
    assert server.ask("POST", "/look", b"x", "image/png", host="evil.example").status == 421


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    [
        ("GET", "/look/60", None, 404, "there is no such image to pick."),
        ("GET", "/samples/-1", None, 404, "there is no such image to pick."),
        ("POST", "/look", b"text", 422, "the file must be an image: not an image: it begins with b'text'"),
        ("POST", "/look", bytes(100_001), 413, "a request must have at most 0.1 MB"),
        ("POST", "/by-hand?weights=1,2&padding=0&stride=1&pooling=1", bytes(256), 422, "there must be nine numbers, and 3"),
        ("POST", "/by-hand?weights=1,2,3,4,5,6,7,8,nan&padding=0&stride=1&pooling=1", bytes(256), 422, "there must be nine"),
        ("POST", "/by-hand?weights=1,2,3,4,5,6,7,8,9&padding=0&stride=1&pooling=1", bytes(255), 422, "3 to 64 rows"),
        ("POST", "/by-hand?weights=1,2,3,4,5,6,7,8,9&padding=0&stride=3&pooling=4", bytes(64), 422,
         "max-pooling must fit on what the filter leaves, 2×2; got 4."),
        ("POST", "/by-hand?weights=1,2,3,4,5,6,7,8,9&padding=4&stride=1&pooling=1", bytes(256), 422, "query.padding must be"),
    ],
)  # fmt: skip
def test_a_bad_question_gets_one_sentence(
    server: PackageServer, method: str, path: str, body: bytes | None, status: int, sentence: str
) -> None:
    answer = server.ask(method, path, body, "application/octet-stream")
    assert answer.status == status and sentence in answer.json["detail"]


@pytest.mark.parametrize(
    ("padding", "stride", "pooling"), [(0, 1, 1), (1, 1, 2), (0, 2, 2), (2, 3, 4), (3, 3, 1), (1, 2, 3)]
)
def test_steps_by_hand_are_those_of_torch(padding: int, stride: int, pooling: int) -> None:
    generator = np.random.default_rng(0)
    grey, kernel = generator.integers(0, 256, (17, 17), dtype=np.uint8), generator.integers(-9, 9, (3, 3))
    found = compute(grey, kernel.astype(float), padding, stride, pooling)
    image = torch.from_numpy(grey.astype(np.float64))[None, None]
    convolved = torch.nn.functional.conv2d(
        image, torch.from_numpy(kernel.astype(np.float64))[None, None], stride=stride, padding=padding
    )
    np.testing.assert_allclose(found.convolved, convolved[0, 0])
    np.testing.assert_allclose(found.pooled, torch.nn.functional.max_pool2d(convolved, pooling)[0, 0])
    assert found.formula.endswith(f"= {convolved.shape[2]}") and found.pooled_formula.endswith(f"= {len(found.pooled)}")


def test_numbers_that_are_no_filter_are_told() -> None:
    assert read_kernel("1,2,3") is None and read_kernel("a,b,c,d,e,f,g,h,i") is None


def test_images_of_another_package_are_refused_only_where_they_were_named(
    classifier: Classifier, package: Path, tmp_path: Path
) -> None:
    DatasetRecord.read(package.parent / "prepared").model_copy(update={"size": 8}).write(tmp_path)
    with pytest.raises(DataError, match=r"for the package: 16 pixels, channels: 1, classes: 3; got"):
        read_samples(str(tmp_path), classifier, is_given=True)
    assert read_samples(str(tmp_path), classifier, is_given=False) is None
    assert read_samples(str(tmp_path / "nothing"), classifier, is_given=False) is None
    assert read_samples("", classifier, is_given=True) is None
