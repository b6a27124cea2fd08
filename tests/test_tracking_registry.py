"""MLflow's registry on its own server: two at once, kills, history and rollback, names, and packages fetched back."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline import register
from pipeline.artefacts.receipt import ReceiptRecord
from pipeline.config import composition
from pipeline.errors import ConfigError, DataError, StoreError
from pipeline.tracking import registry
from pipeline.tracking.retrieval import package_folder
from pipeline.tracking.store import connect
from tests.conftest import ROOT, environment
from tests.loopback import free_port
from tests.registered import (
    WEAK,
    Candidate,
    Made,
    MlflowServer,
    Registered,
    candidate,
    config_for,
    log,
    logged_candidates,
    made,
    mlflow_server,
    sign_again,
)  # fmt: skip
from tests.stores import tracking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(autouse=True)
def own_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tracking.spool.SPOOL", tmp_path / "spool")
    monkeypatch.setattr("pipeline.tracking.registry.SETTLE_SECONDS", 0.1)


@pytest.fixture
def model(server: MlflowServer) -> Registered:
    return Registered(tracking(server.url))


@pytest.fixture(scope="module")
def logged(server: MlflowServer, packages: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    """Candidates by name, which the server knows as logged models."""
    return logged_candidates(server, packages, tmp_path_factory.mktemp("candidates"))


RACE = """
import sys, time
from pathlib import Path
from pipeline import register
from pipeline.delivery import package
from tests.registered import config_for
from tests.stores import tracking
url, name, folder, go = sys.argv[1:]
config, content = config_for(tracking(url), name=name), package.read(Path(folder))
print("ready", flush=True)
while not Path(go).exists():
    time.sleep(0.01)
receipt = register.register(config, Path(folder), content)
print(receipt.to_json())
"""


def test_two_that_register_at_once_leave_one_champion_and_two_true_receipts(
    model: Registered, logged: dict[str, Candidate], tmp_path: Path
) -> None:
    model.take(logged["weak"])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, model.settings.uri or "", model.name, str(logged[name].package), str(tmp_path / "go")],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in ("strong", "perfect")
    ]  # fmt: skip
    for each in started:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    outputs = [each.communicate(timeout=120) for each in started]
    assert [each.returncode for each in started] == [0, 0], outputs
    texts = [text for text, _ in outputs]
    strong, perfect = (ReceiptRecord.from_json(text[text.index("{") :]) for text in texts)
    assert perfect.decision == "champion" and model.aliases["champion"] == perfect.model_version
    assert perfect.comparison is not None
    if perfect.comparison.champion == "1":  # it came first, and the other was compared with it
        assert strong.decision == "challenger" and strong.comparison is not None
        assert strong.comparison.champion == perfect.model_version
    else:
        assert strong.decision == "champion" and perfect.comparison.champion == strong.model_version
    assert sorted(model.versions) == ["1", "2", "3"] and not model.is_locked


def test_one_at_a_time_holds_the_lock(model: Registered, logged: dict[str, Candidate]) -> None:
    model.take(logged["weak"])
    inside, most, said = [0], [0], list[str]()
    guard = threading.Lock()

    def work() -> None:
        store = connect(model.settings)
        with registry.locked(store, model.name, said.append) as is_mine:
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            assert is_mine()
            with guard:
                inside[0] -= 1

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for _ in range(3)]:
            done.result()
    assert most == [1] and not model.is_locked
    assert set(said) <= {f"another process registers {model.name!r} at this moment; waiting for it"}


def test_the_lock_of_a_killed_process_is_taken_over(
    model: Registered, logged: dict[str, Candidate], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model.take(logged["weak"])
    MlflowClient(model.settings.uri).set_registered_model_tag(model.name, registry.LOCK, "of a killed process")
    monkeypatch.setattr("pipeline.tracking.registry.GIVE_UP_SECONDS", 0.5)
    assert model.take(logged["strong"]).decision == "champion"
    assert f"another process registers {model.name!r} at this moment; waiting for it" in capsys.readouterr().out
    assert not model.is_locked


def test_who_has_lost_the_lock_writes_nothing(
    model: Registered, logged: dict[str, Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    model.take(logged["weak"])
    real, stolen = registry.locked, list[bool]()

    @contextmanager
    def steal_once(store: Any, name: str, say: Any) -> Iterator[Callable[[], bool]]:
        with real(store, name, say) as is_mine:
            if not stolen:
                stolen.append(True)
                store.client.set_registered_model_tag(name, registry.LOCK, "of another process")
                try:
                    yield is_mine
                finally:
                    assert model.versions == ["1"], "nothing was written"
                    store.client.delete_registered_model_tag(name, registry.LOCK)
            else:
                yield is_mine

    monkeypatch.setattr("pipeline.tracking.registry.locked", steal_once)
    assert model.take(logged["strong"]).decision == "champion" and model.aliases == {"champion": "2"}


@pytest.mark.parametrize(
    "call",
    ["create_model_version", "set_registered_model_alias", "set_model_version_tag", "delete_registered_model_tag"],
)
def test_a_kill_leaves_the_registry_whole_and_a_second_run_completes_it(
    model: Registered, logged: dict[str, Candidate], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    model.take(logged["weak"])
    monkeypatch.setattr("pipeline.tracking.registry.GIVE_UP_SECONDS", 0.3)

    def killed(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        for name in {call, "delete_registered_model_tag"}:
            patch.setattr(f"mlflow.MlflowClient.{name}", killed)
        model.take(logged["strong"])
    assert model.is_locked and model.aliases["champion"] in ("1", "2")
    receipt = model.take(logged["strong"])
    assert receipt.decision == "champion" and model.aliases == {"champion": "2"} and not model.is_locked
    assert model.versions == ["2", "1"] and registry.SINCE in model.tags("2")
    with registry.opened(model.settings) as store:
        assert registry.roll_back(store, model.name, None) == ("1", "2")


def test_a_server_that_dies_in_the_middle_leaves_the_registry_whole(
    model: Registered, logged: dict[str, Candidate], server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.take(logged["weak"])
    monkeypatch.setattr("pipeline.tracking.registry.GIVE_UP_SECONDS", 0.3)
    real = MlflowClient.set_registered_model_alias

    def dies(client: MlflowClient, *arguments: Any) -> None:
        server.kill()
        real(client, *arguments)

    try:
        with monkeypatch.context() as patch:
            patch.setattr("mlflow.MlflowClient.set_registered_model_alias", dies)
            with pytest.raises(
                StoreError, match=r"the registry of http.* must answer; it does not .*run the command again"
            ):
                model.take(logged["strong"])
    finally:
        server.start()
    assert model.aliases == {"champion": "1"} and model.versions == ["2", "1"]
    assert model.take(logged["strong"]).decision == "champion"
    assert model.aliases == {"champion": "2"} and model.versions == ["2", "1"]


# History and rollback


def roll_back(model: Registered, to: str | None = None) -> tuple[str, str]:
    with registry.opened(model.settings) as store:
        return registry.roll_back(store, model.name, to)


def test_rollback_goes_back_champion_by_champion(model: Registered, logged: dict[str, Candidate]) -> None:
    for name in ("weak", "strong", "perfect"):
        model.take(logged[name])
    assert roll_back(model) == ("2", "3") and model.aliases == {"champion": "2"}
    assert roll_back(model) == ("1", "2") and model.aliases == {"champion": "1"}
    with pytest.raises(DataError, match=f"must have had a champion before version 1; '{model.name}' had none"):
        roll_back(model)
    back = model.take(logged["perfect"])
    assert back.decision == "challenger" and back.reason == (
        "it was champion and has been taken back; `python -m pipeline.register rollback --to 3` makes it champion again"
    )
    assert roll_back(model, "3") == ("3", "1") and model.aliases == {"champion": "3"}
    assert roll_back(model) == ("1", "3"), "version 2 was taken back before"


def test_rollback_to_a_version_skips_those_between(model: Registered, logged: dict[str, Candidate]) -> None:
    for name in ("weak", "strong", "perfect", "equal"):
        model.take(logged[name])
    assert roll_back(model, "1") == ("1", "3") and model.aliases["champion"] == "1"
    with pytest.raises(DataError, match="must have had a champion before version 1"):
        roll_back(model)
    assert roll_back(model, "4") == ("4", "1") and model.aliases == {"champion": "4"}, "it never was champion"
    with pytest.raises(DataError, match=r"--to must be a version of 'model \d+': 1, 2, 3, 4; got '9'"):
        roll_back(model, "9")
    with pytest.raises(DataError, match="--to must be another version than the champion; got '4'"):
        roll_back(model, "4")


def command(model: Registered, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    def compose(*_: Any) -> Any:
        return config_for(model.settings, name=model.name)

    monkeypatch.setattr(composition, "compose", compose)
    register.command(list(arguments))


def test_history_lists_versions_with_alias_accuracy_and_reason(
    model: Registered, logged: dict[str, Candidate], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=f"register.name must be registered in http.*; '{model.name}' is not"):
        command(model, monkeypatch, "history")
    for name in ("weak", "strong", "equal"):
        model.take(logged[name])
    command(model, monkeypatch, "rollback")
    capsys.readouterr()
    command(model, monkeypatch, "history")
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(model.name).split()[:3] for line in lines] == [
        ["3", "@challenger", "0.7500"], ["2", "-", "0.7500"], ["1", "@champion", "0.5000"],
    ]  # fmt: skip
    assert "not surely better" in lines[0] and lines[1].endswith(", rolled back") and "no champion" in lines[2]
    command(model, monkeypatch, "rollback", "--to", "2")
    assert capsys.readouterr().out == f"{model.name} version 2 is @champion again, in place of version 1.\n"


def test_without_a_champion_there_is_nothing_to_roll_back(model: Registered, logged: dict[str, Candidate]) -> None:
    model.take(logged["weak"], min_accuracy=0.9)
    with pytest.raises(DataError, match="must have a champion to roll back"):
        roll_back(model)


# Stores and names


def test_a_store_that_is_off_away_or_does_not_know_the_package_is_one_sentence(
    model: Registered, logged: dict[str, Candidate], packages: Made, tmp_path: Path
) -> None:
    one = logged["weak"]
    off = model.settings.model_copy(update={"enabled": False})
    with pytest.raises(StoreError, match="tracking.enabled must be true for MLflow's registry; got false"):
        Registered(off).take(one)
    with pytest.raises(StoreError, match=r"the registry of http://127.0.0.1:\d+ must answer; it does not"):
        Registered(tracking(f"http://127.0.0.1:{free_port()}")).take(one)
    unknown = candidate(packages.untrained, tmp_path / "unknown", WEAK)
    with pytest.raises(
        DataError, match=r"register.package must have been logged to http.*; it holds no model with the"
    ):
        model.take(unknown)


@pytest.mark.parametrize("name", ["it's mine", "über 100 % photos", "a@b", "dot.ted", "_", "x" * 200])
def test_a_name_of_any_folder_can_be_registered(
    server: MlflowServer, logged: dict[str, Candidate], name: str, tmp_path: Path
) -> None:
    model = Registered(tracking(server.url), registry.permitted(name))
    assert model.take(logged["weak"]).model_version == "1" and model.take(logged["strong"]).decision == "champion"
    folder = package_folder(model.settings, f"models:/{model.name}@champion", tmp_path)
    assert (folder / "manifest.json").read_bytes() == (logged["strong"].package / "manifest.json").read_bytes()


def test_names_that_mlflow_refuses_are_mapped_or_refused() -> None:
    assert [registry.permitted(name) for name in ("a/b", "c:d", "what?", "..", " ", 'the "best"')] == [
        "a-b", "c-d", "what-", "unnamed", "unnamed", "the -best-",
    ]  # fmt: skip
    for name in ("a/b", "a:b", "..", ""):
        with pytest.raises(ConfigError, match=r'register.name must be null or a name without /, :, \? and "; got '):
            composition.compose(ROOT / "conf", ROOT / "params.yaml", [f"register.name='{name}'"])


def test_a_long_card_is_cut_where_the_database_ends(model: Registered, packages: Made, tmp_path: Path) -> None:
    one = candidate(packages.untrained, tmp_path / "long", WEAK)
    (one.package / "card.md").write_text("x" * 6000)
    sign_again(one.package)
    log(model.settings, one)
    model.take(one)
    description = MlflowClient(model.settings.uri).get_model_version(model.name, "1").description
    assert len(description) == 5000 and description.endswith("x …")


# Packages from MLflow


def test_a_package_comes_back_by_every_address(model: Registered, logged: dict[str, Candidate], tmp_path: Path) -> None:
    model.take(logged["strong"])
    version = MlflowClient(model.settings.uri).get_model_version(model.name, "1")
    for number, name in enumerate((
        str(version.source), f"models:/{model.name}/1", f"models:/{model.name}@champion", f"runs:/{version.run_id}",
    )):  # fmt: skip
        scratch = tmp_path / str(number)
        scratch.mkdir()
        folder = package_folder(model.settings, name, scratch)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in logged["strong"].package.iterdir()
        }


def test_what_is_no_package_in_mlflow_is_one_sentence(
    model: Registered, logged: dict[str, Candidate], tmp_path: Path
) -> None:
    model.take(logged["weak"])
    client = connect(model.settings).client
    run_id = client.create_run("0").info.run_id
    choice = "a package must be a folder, a ZIP file, or in http.*: models:/m-…, models:/NAME/VERSION, .*; got "
    for address, message in (
        ("models:/m-0123", f"{choice}'models:/m-0123': "),
        (f"models:/{model.name}", f"{choice}'models:/{model.name}': "),
        (f"models:/{model.name}/7", f"{choice}'models:/{model.name}/7': .*not found"),
        (f"models:/{model.name}@nobody", f"{choice}'models:/{model.name}@nobody': .*alias nobody not found"),
        ("models:/nothing/1", f"{choice}'models:/nothing/1': .*not found"),
        ("runs:/0123", f"{choice}'runs:/0123': .*not found"),
        ("models:/", f"{choice}'models:/'"),
        (f"runs:/{run_id}", f"runs:/{run_id} must have a package; http.* holds none of it"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message) as raised:
            package_folder(model.settings, address, tmp_path)
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=r"http://127.0.0.1:\d+ must answer, as models:/a/1 is to come from there; "):
        package_folder(tracking(f"http://127.0.0.1:{free_port()}"), "models:/a/1", tmp_path)
