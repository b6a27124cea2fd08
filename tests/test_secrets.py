"""Secrets planted in every place that takes one, through every door: they work, and no file and no line holds one."""

import io
import json
import re
import subprocess
import time
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow import MlflowClient

from tests.conftest import command_runner
from tests.loopback import WebServer, free_port, web_server
from tests.test_own_images import write_digits
from tests.test_pipeline import edit
from tests.test_tracking import mlflow_server

PLANTED = {
    name: f"planted{number}{name}"
    for number, name in enumerate(
        ("sourcepw", "token", "proxypw", "secret", "key", "tagpw", "storepw", "envpw", "mirrorpw")
    )
}
"""The secrets, each with a word of its own, so that a leak tells where it came from."""

HOST = "http://images.invalid"
SMALL = ("train.max_epochs=1", "augment=none", "prepare.near_duplicates=false")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A zip archive with 300 images in folders of classes."""
    folder, buffer = write_digits(tmp_path_factory.mktemp("photos"), 300), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


@pytest.fixture
def proxy(photos: bytes) -> Iterator[WebServer]:
    """A proxy through which `HOST` is reached; it hands out the images for the right token."""
    with web_server() as server:
        server.files[f"{HOST}/photos.zip?token={PLANTED['token']}&v=2"[1:]] = photos
        yield server


def leaks(folder: Path, *outputs: subprocess.CompletedProcess[str]) -> list[str]:
    """Each planted secret that stands in a file below `folder`, in an object of its git repository, or in an output."""
    places = {f"output {number}": (done.stdout + done.stderr).encode() for number, done in enumerate(outputs)}
    if (folder / ".git").exists():
        git = ["git", "-C", str(folder), "cat-file", "--batch-all-objects", "--batch"]
        places["git"] = subprocess.run(git, capture_output=True, check=True).stdout
    places |= {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [
        f"{name} in {place}"
        for place, content in places.items()
        for name, secret in PLANTED.items()
        if any(form in content for form in (secret.encode(), quote(secret).encode(), b64encode(secret.encode())[:-4]))
    ]


def of_proxy(proxy: WebServer) -> dict[str, str]:
    return {"HTTP_PROXY": proxy.url.replace("//", f"//me:{PLANTED['proxypw']}@"), "NO_PROXY": "127.0.0.1"}


@pytest.mark.slow
def test_secrets_that_are_typed_work_in_a_sweep_and_are_in_no_record(ready: Path, proxy: WebServer) -> None:
    source = f"{HOST.replace('//', '//me:' + PLANTED['sourcepw'] + '@')}/photos.zip?token={PLANTED['token']}&v=2"
    typed = (
        "data=folder", f"data.source='{source}'",
        f"data.storage_options={{key:{PLANTED['key']},client_kwargs:{{secret:{PLANTED['secret']},anon:false}}}}",
        f"tracking.tags.wiki='https://me:{PLANTED['tagpw']}@wiki.invalid/x'", "hydra.output_subdir=.hydra", *SMALL,
    )  # fmt: skip
    run = command_runner(ready)
    done = run("pipeline.train", "-m", "seed=1,2", *typed, **of_proxy(proxy))
    assert f"me:{PLANTED['proxypw']}" in proxy.credentials and f"me:{PLANTED['sourcepw']}" in proxy.credentials
    (sweep,) = ready.glob("multirun/train/[0-9]*")
    again = run("pipeline.train", "--resume", str(sweep), check=False, **of_proxy(proxy))
    assert "GOODFIT_SECRET_1 must be set in the environment, as data.source=" in again.stderr
    one = run("pipeline.train", "seed=1", *typed, **of_proxy(proxy))
    by_hand = json.loads(next(ready.glob("outputs/train/*/run.json")).read_text())
    hidden = {f"images.invalid/photos.zip?token=${{oc.env:GOODFIT_SECRET_{number}}}&v=2" for number in range(1, 9)}
    assert by_hand["config"]["data"]["source"].partition("@")[2] in hidden
    assert by_hand["dataset"]["source"] == "http://***@images.invalid/photos.zip?token=***&v=2"
    assert "GOODFIT_SECRET_" in by_hand["overrides"] and (sweep / "multirun.yaml").exists()
    assert leaks(ready, done, again, one) == []
    runs = MlflowClient(f"sqlite:///{ready / 'mlflow.db'}").search_runs(["1"])
    assert {run.data.tags["wiki"] for run in runs if "wiki" in run.data.tags} <= {
        f"https://${{oc.env:GOODFIT_SECRET_{number}}}@wiki.invalid/x" for number in range(1, 9)
    }
    proxy.files = {}
    failing = run("pipeline.fetch", *typed, check=False, **of_proxy(proxy))
    assert "http://***@images.invalid/photos.zip?token=***&v=2 cannot: HTTP 404." in failing.stderr
    assert list(ready.rglob(".hydra/overrides.yaml")), "what Hydra writes is looked at too"
    assert leaks(ready, failing) == []


def test_a_file_with_a_secret_is_refused_and_git_gets_rid_of_what_dvc_had_stored(ready: Path) -> None:
    run, address = command_runner(ready), f"http://me:{PLANTED['storepw']}@127.0.0.1:9/"
    refused = run("dvc", "exp", "run", "-S", f"++tracking.uri={address}", check=False)
    assert (
        "tracking.uri must hold no secret in params.yaml, which git and DVC keep; got 'http://***@1" in refused.stderr
    )
    assert "Write tracking.uri=http://127.0.0.1:9/, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TR" in refused.stderr
    assert "take it out of params.yaml" in refused.stderr and "git gc --prune=now" in refused.stderr
    assert {place for leak in leaks(ready, refused) for place in [leak.split()[-1]]} == {"git", "params.yaml"}
    run("git", "checkout", "params.yaml")
    run("git", "gc", "-q", "--prune=now")
    assert leaks(ready) == []


@pytest.mark.slow
def test_a_queued_experiment_with_a_secret_leaves_what_the_message_removes(ready: Path) -> None:
    run = command_runner(ready)
    run("dvc", "exp", "run", "--queue", "-S", f"++tracking.uri=http://me:{PLANTED['storepw']}@127.0.0.1:9/")
    run("dvc", "queue", "start")
    while "Failed" not in run("dvc", "queue", "status").stdout:
        time.sleep(0.5)
    run("dvc", "queue", "remove", "--failed")
    run("git", "gc", "-q", "--prune=now")
    assert leaks(ready) == []


@pytest.mark.long
def test_stages_ask_the_environment_and_write_down_the_variable_alone(ready: Path, proxy: WebServer) -> None:
    run, folder = command_runner(ready), ready / "conf" / "data" / "folder.yaml"
    source = f"{HOST.replace('//', '//${oc.env:SIGN_IN}@')}/photos.zip?token=${{oc.env:TOKEN}}&v=2"
    folder.write_text(re.sub("(?m)^source: null", f"source: {source}", folder.read_text()))
    variables = of_proxy(proxy) | {"SIGN_IN": f"me:{PLANTED['sourcepw']}", "TOKEN": PLANTED["token"]}
    changes = ("data.name=folder", "train.max_epochs=1", "augment.name=none", "++prepare.near_duplicates=false")
    done = run("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)), "train", **variables)
    assert f"me:{PLANTED['sourcepw']}" in proxy.credentials
    assert f"source: {source}" in (ready / "build/config.yaml").read_text()
    assert source in (ready / "dvc.lock").read_text() and source in (ready / "build/train/run.json").read_text()
    again = run("dvc", "repro", "train")
    assert "Stage 'prepare' didn't change" in again.stdout, "without the variables, what data.dvc pins stays"
    edit(folder, "licence: not stated", "licence: mine")
    missing = run("dvc", "repro", "fetch", check=False)
    assert (
        "error: SIGN_IN must be set in the environment, as the configuration asks for ${oc.env:SIGN_IN}"
        in missing.stderr
    )
    assert leaks(ready, done, again, missing) == []


@pytest.mark.slow
def test_the_password_of_a_server_reaches_it_and_nothing_else(ready: Path, tmp_path: Path) -> None:
    run, port = command_runner(ready), free_port()
    address, environment = (f"http://me:{PLANTED[name]}@127.0.0.1:{port}" for name in ("storepw", "envpw"))
    with mlflow_server(tmp_path, port):
        typed = run("pipeline.train", "train.max_epochs=1", f"tracking.uri={address}")
        set_ = run("pipeline.train", "train.max_epochs=1", "seed=5", MLFLOW_TRACKING_URI=environment)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        runs = client.search_runs([client.get_experiment_by_name("goodfit").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    uris = {json.loads(path.read_text())["tracking_uri"] for path in ready.glob("outputs/train/*/run.json")}
    assert uris == {f"http://***@127.0.0.1:{port}"}
    assert f"View run {runs[0].info.run_name} at: http://127.0.0.1:{port}/" in set_.stdout
    assert leaks(ready, typed, set_) == [] and leaks(tmp_path) == []
