"""A real server on loopback: what it answers, what it refuses and how, and that no request makes it grow or fall."""

import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.delivery import Classifier
from pipeline.errors import ConfigError
from pipeline.serve import main
from tests.loopback import free_port
from tests.package_server import BOUNDARY, PackageServer, answer, form, package_server

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
TIGHT = (
    "--max-megabytes", "0.2", "--max-pixels", "10000", "--max-files", "3", "--timeout-seconds", "1.5",
    "--allow-host", "Shoes.example", "--allow-host", "bags.example",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(package: Path) -> Iterator[PackageServer]:
    with package_server("serve", package) as running:
        yield running


@pytest.fixture(scope="module")
def tight(package: Path) -> Iterator[PackageServer]:
    with package_server("serve", package, *TIGHT) as running:
        yield running


def pixels(seed: int = 0, height: int = 24, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def png(seed: int = 0, height: int = 24, width: int = 20) -> bytes:
    return encoded("PNG", seed, height, width)


def encoded(kind: str, seed: int = 0, height: int = 24, width: int = 20) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels(seed, height, width)).save(content, kind)
    return content.getvalue()


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")


def test_a_form_is_answered_as_the_class_answers_in_every_format(server: PackageServer, package: Path) -> None:
    files = {f"{kind.lower()}/{kind}": encoded(kind, seed) for seed, kind in enumerate(FORMATS)}
    found = server.predict_files(files)
    assert found.status == 200
    expected = Classifier.load(package).predict(list(files.values()))
    assert [row["name"] for row in found.json["predictions"]] == list(files)
    for row, (_, told) in zip(found.json["predictions"], expected.iterrows(), strict=True):
        assert (row["label"], row["unknown"], row["set"], row["error"]) == (
            told["label"], told["unknown"], told["set"], None
        )  # fmt: skip
        assert row["probability"] == pytest.approx(told["probability"], abs=1e-6)
        assert row["probabilities"] == pytest.approx({name[2:]: told[name] for name in expected.columns[6:]}, abs=1e-6)


def test_a_body_is_one_image(server: PackageServer) -> None:
    for kind in ("image/png", "application/octet-stream", "image/whatever; q=1"):
        (row,) = server.predict(png(), kind).json["predictions"]
        assert row["name"] is None and row["error"] is None and sum(row["probabilities"].values()) == pytest.approx(1)
    whole, chunks = server.predict(png()), iter([png()[:100], png()[100:]])
    assert server.ask("POST", "/predict", chunks, "image/png", encode_chunked=True).json == whole.json


def test_a_damaged_file_of_a_form_is_its_own_error(server: PackageServer) -> None:
    found = server.predict_files({"good.png": png(), "cut.png": png()[:60], "note.txt": b"no image", "empty.png": b""})
    errors = [row["error"] for row in found.json["predictions"]]
    assert found.status == 200 and errors[0] is None
    assert "truncated" in errors[1] and "no known image format" in errors[2] and "empty" in errors[3]
    assert [row["label"] is None for row in found.json["predictions"]] == [False, True, True, True]


def test_other_views_are_averaged_on_request(server: PackageServer, package: Path) -> None:
    found = server.predict(png(), query="?tta=flip").json["predictions"][0]["probabilities"]
    expected = Classifier.load(package).predict([png()], tta="flip")
    assert found == pytest.approx({name[2:]: expected[name][0] for name in expected.columns[6:]}, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "sentence"),
    [
        (b"{}", "application/json", "", 415, "Content-Type must be multipart/form-data, image/… or"),
        (png(), "application/x-www-form-urlencoded", "", 415, "which curl --data-binary says unless -H names another"),
        (b"no image", "image/png", "", 422, "the body must be an image: not an image: it begins with b'no image'"),
        (png()[:70], "image/png", "", 422, "the body must be an image: unreadable: it is truncated"),
        (b"", "image/png", "", 422, "the body must hold an image; it is empty"),
        (png(), "image/png", "?tta=mirror", 422, "tta must be one of none, flip, flip_shift; got 'mirror'"),
        (form({"a": png()})[:-30], f"multipart/form-data; boundary={BOUNDARY}", "", 400, "it ends before its last"),
        (b"no form at all", f"multipart/form-data; boundary={BOUNDARY}", "", 400, "the form cannot be read"),
        (form({"a.png": png()}), "multipart/form-data", "", 400, "the form cannot be read: Missing boundary"),
        (form({}), f"multipart/form-data; boundary={BOUNDARY}", "", 422, "the form must hold a file at least; it has none"),
        (form({"a": b"x"}).replace(b'; filename="a"', b""), f"multipart/form-data; boundary={BOUNDARY}", "", 422,
         "the form must hold files alone; 'file' is none, as it has no filename"),
    ],
)  # fmt: skip
def test_a_bad_request_gets_one_sentence(
    server: PackageServer, body: bytes, kind: str, query: str, status: int, sentence: str
) -> None:
    found = server.predict(body, kind, query)
    assert found.status == status and sentence in found.json["detail"]
    assert found.json["detail"].endswith(".") and "\n" not in found.json["detail"]


def test_other_addresses_say_what_there_is(server: PackageServer) -> None:
    assert server.ask("GET", "/").json["predict"] == "POST /predict"
    assert server.ask("GET", "/health").json["classes"] == ["circle", "square", "<b>bold & sharp</b>"]
    assert server.ask("GET", "/predict").status == 405 and server.ask("GET", "/predict").json["detail"].endswith(".")
    assert server.ask("GET", "/admin").status == 404 and "see /docs" in server.ask("GET", "/admin").json["detail"]
    described = server.ask("GET", "/openapi.json").json
    assert set(described["paths"]) == {"/predict", "/health"}
    assert {"200", "400", "408", "413", "415", "421", "422", "503"} == set(
        described["paths"]["/predict"]["post"]["responses"]
    )
    page = server.ask("GET", "/docs").json
    assert "<code>POST /predict</code>" in page and "32 MB" in page
    assert "//" not in page.replace(f"http://127.0.0.1:{server.port}", ""), "the page asks another server for something"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "192.168.0.7", "localhost@evil.example", "[::2]"]
)
def test_a_page_with_another_name_for_this_machine_gets_nothing(server: PackageServer, host: str) -> None:
    for method, path, body in (("GET", "/health", None), ("GET", "/docs", None), ("POST", "/predict", png())):
        found = server.ask(method, path, body, "image/png", host=host)
        assert found.status == 421
        assert found.json == {
            "detail": f"Host must name this machine, or a host given with --allow-host; got {host!r}."
        }


def test_names_of_this_machine_and_those_that_were_allowed_are_answered(
    server: PackageServer, tight: PackageServer
) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.5.5.5:80", "[::1]:8000", "shoes.localhost"):
        assert server.ask("GET", "/health", host=host).status == 200
    for host in ("shoes.example", "Shoes.Example:443", "bags.example", "localhost"):
        assert tight.ask("GET", "/health", host=host).status == 200
    assert tight.ask("GET", "/health", host="hats.example").status == 421
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 200"), "no browser leaves Host out"


def test_what_is_too_large_is_refused_before_it_has_arrived(tight: PackageServer) -> None:
    with tight.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 9000000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    with tight.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            connection.sendall(b"c350\r\n" + bytes(50_000) + b"\r\n")  # and no end
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    found = tight.predict_files({"a": bytes(150_000), "b": bytes(150_000)})
    assert found.status == 413 and found.json["detail"] == "a request must have at most 0.2 MB; this one has more."


def test_number_of_files_and_pixels_are_limited(tight: PackageServer) -> None:
    found = tight.predict_files({f"{index}.png": png() for index in range(4)})
    assert found.status == 413 and found.json["detail"] == "a request must hold at most 3 files; this one holds more."
    bomb = cv2.imencode(".png", np.zeros((101, 100, 1), np.uint8))[1].tobytes()
    found = tight.predict_files({"good.png": png(), "bomb.png": bomb})
    assert found.status == 200 and found.json["predictions"][0]["error"] is None
    error = found.json["predictions"][1]["error"]
    assert error == "bomb: its header promises 100×101 pixels, more than 10,000"
    assert tight.predict(bomb).status == 422


def test_the_limit_of_the_package_holds_where_it_is_lower(server: PackageServer) -> None:
    bomb = cv2.imencode(".png", np.zeros((1001, 1000, 1), np.uint8))[1].tobytes()
    assert "more than 1,000,000" in server.predict(bomb).json["detail"]


def test_a_client_that_sends_slowly_is_cut_off(tight: PackageServer) -> None:
    with tight.connect() as slow_body:
        slow_body.sendall(HEAD + b"Content-Length: 100\r\n\r\n12")
        begun = time.monotonic()
        assert tight.predict(png()).status == 200, "a slow client keeps others waiting"
        said = slow_body.recv(1000)
        assert said.startswith(b"HTTP/1.1 408") and time.monotonic() - begun < 10
    assert tight.ask("GET", "/health").status == 200


@pytest.mark.slow
def test_a_connection_that_never_finishes_a_head_or_a_refused_body_is_closed(tight: PackageServer) -> None:
    with tight.connect() as head, tight.connect() as body:
        body.sendall(HEAD + b"Content-Length: 900000\r\n\r\n")
        assert body.recv(1000).startswith(b"HTTP/1.1 413")
        begun = time.monotonic()
        for connection in (head, body):
            with pytest.raises(OSError):
                while time.monotonic() - begun < 60:
                    connection.sendall(b"x")
                    time.sleep(0.1)
        assert time.monotonic() - begun < 40
    assert tight.ask("GET", "/health").status == 200


def test_more_bodies_than_fit_are_answered_with_503(tight: PackageServer) -> None:
    """Each of 8 clients sends 0.15 of 0.2 MB and waits; at most 4 × 0.2 MB are held."""
    head = HEAD + b"Content-Length: 150001\r\n\r\n"
    connections = [tight.connect() for _ in range(8)]
    for connection in connections:
        connection.sendall(head + bytes(150_000))
    answers = [connection.recv(1000) for connection in connections]
    for connection in connections:
        connection.close()
    statuses = Counter(answer.split()[1] for answer in answers)
    assert set(statuses) == {b"503", b"408"} and statuses[b"503"] == 3
    assert all(b"retry-after: 1" in answer for answer in answers if answer.split()[1] == b"503")
    assert tight.predict(png()).status == 200


def mixed(server: PackageServer, number: int) -> int:
    """Send one of several good and bad requests; its status, or 0 where the client itself broke off."""
    chosen = random.Random(number)
    kind = number % 10
    if kind == 0:
        return server.predict_files({"a.png": png(number), "b.jpg": encoded("JPEG", number), "c.txt": b"text"}).status
    if kind == 1:
        return server.predict(chosen.randbytes(chosen.randrange(2000))).status
    if kind == 2:
        return server.predict(png(number)[: chosen.randrange(1, 300)]).status
    if kind == 3:
        return server.predict(cv2.imencode(".png", np.zeros((2000, 1000), np.uint8))[1].tobytes()).status  # a bomb
    if kind == 4:
        return server.predict(png(number), "text/html").status
    if kind == 5:
        with server.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\nabc")
        return 0
    if kind == 6:
        return server.predict_files({"../../etc/passwd\x00": encoded("JPEG", number, 300, 400)}).status
    return server.predict(encoded(chosen.choice(FORMATS), number, chosen.randrange(1, 200), 50)).status


EXPECTED = {0: {200}, 1: {422}, 2: {422}, 3: {422}, 4: {415}, 5: {0}, 6: {200}, 7: {200}, 8: {200}, 9: {200}}


@pytest.mark.parametrize("num_requests", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_good_and_bad_requests_at_once_are_all_answered_in_flat_memory(package: Path, num_requests: int) -> None:
    with package_server("serve", package) as server, ThreadPoolExecutor(16) as clients:
        process = psutil.Process(server.process.pid)
        list(clients.map(lambda number: mixed(server, number), range(60)))
        before = process.memory_info().rss
        statuses = list(clients.map(lambda number: mixed(server, number), range(num_requests)))
        grown = process.memory_info().rss - before
        assert [(n, status) for n, status in enumerate(statuses) if status not in EXPECTED[n % 10]] == []
        assert server.predict(png()).status == 200 and server.process.poll() is None
        print(f"{num_requests} requests: from {before / 1e6:.0f} MB by {grown / 1e6:+.1f} MB")
        assert grown < 60e6
        assert len(process.net_connections()) < 10, "connections were left open"


def test_a_signal_lets_requests_that_are_under_way_finish(package: Path, tmp_path: Path) -> None:
    with (
        (tmp_path / "errors").open("w+") as errors,
        package_server("serve", package, "--access-log", errors=errors) as server,
    ):
        body = form({f"{index}.png": png(index) for index in range(8)})
        head = (
            f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with server.connect() as connection:
            connection.sendall(head.encode() + body[:1000])
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(OSError):
                server.connect()
            connection.sendall(body[1000:])
            response = HTTPResponse(connection)
            response.begin()
            assert len(answer(response).json["predictions"]) == 8
        assert server.process.wait(30) == 128 + signal.SIGTERM
        errors.seek(0)
        assert errors.read().splitlines()[0].endswith('"POST /predict HTTP/1.1" 200')


def test_it_says_where_it_listens_and_that_it_is_alone(server: PackageServer) -> None:
    assert server.greeting.startswith("Serving convnet on shapes. POST images to http://127.0.0.1:")


def test_a_port_that_is_taken_is_one_sentence(package: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        with pytest.raises(ConfigError, match=f"this machine that is free; got 127.0.0.1 {port}: Address"):
            main(["--model", str(package), "--port", port])


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--port", "70000", "it must be a whole number from 0 to 65,535; got '70000'"),
        ("--threads", "none", "it must be a whole number from 1"),
        ("--max-megabytes", "-1", "it must be a number above 0 and below 1,000,000; got '-1'"),
    ],
)
def test_an_option_out_of_range_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, sentence: str
) -> None:
    with pytest.raises(SystemExit):
        main([f"{option}={value}"])
    assert sentence in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.command.find_spec", lambda name: None if name == "python_multipart" else name)
    with pytest.raises(ConfigError, match=r"python_multipart, which is not installed. Run `pip install -e .\[serve\]`"):
        main([])


def test_listening_beyond_this_machine_is_told(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.serving.server.run", lambda app, listener, **options: listener.close())
    main(["--model", str(package), "--host", "0.0.0.0", "--port", str(free_port())])
    assert capsys.readouterr().err == "Anybody who reaches 0.0.0.0 can use it: there is no password.\n"


def test_requests_are_answered_beside_each_other(server: PackageServer) -> None:
    """Thirty-two at once come back right, each with its own answer."""
    images = [png(seed) for seed in range(32)]
    one_by_one = [server.predict(image).json for image in images]
    found: dict[int, object] = {}

    def send(index: int) -> None:
        found[index] = server.predict(images[index]).json

    threads = [threading.Thread(target=send, args=(index,)) for index in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, expected in enumerate(one_by_one):
        (told,), (row,) = expected["predictions"], found[index]["predictions"]  # type: ignore[index]
        assert row["label"] == told["label"]
        assert row["probabilities"] == pytest.approx(told["probabilities"], abs=1e-6)
