import shutil
from pathlib import Path
from typing import Any

import pytest
import requests
from ruamel.yaml import YAML

from pipeline.config import grammar, secrets
from pipeline.config.composition import compose
from pipeline.config.schema import Tracking
from pipeline.config.secrets import check_values, masked, resolved, without_secrets
from pipeline.config.validation import as_yaml
from pipeline.errors import ConfigError
from pipeline.tracking import store
from tests.conftest import ROOT
from tests.loopback import free_port

CONF = ROOT / "conf"
OWN = ("data=folder", "data.source=photos")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", dict(secrets.os.environ))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:s3cret@h/x.zip#sha256=00", "https://***@h/x.zip#sha256=00"),
        ("https://s3cret@h/x", "https://***@h/x"),
        ("http://me:s/s#3cret@h:80/x", "http://***@h:80/x"),
        ("postgresql+psycopg2://me:s3cret@h:5432/db", "postgresql+psycopg2://***@h:5432/db"),
        ("https://h/x?v=2&access_token=s3cret&sig=s3cret", "https://h/x?v=2&access_token=***&sig=***"),
        ("https://h/x?X-Amz-Signature=s3cret&X-Amz-Date=1&Expires=2", "https://h/x?X-Amz-Signature=***&X-Amz-Date=***&Expires=***"),
        ("https://h/x?api_key=s3cret&rlkey=s3cret&apiKey=s3cret", "https://h/x?api_key=***&rlkey=***&apiKey=***"),
        ("Max retries exceeded with url: /x?token=s3cret (Caused by", "Max retries exceeded with url: /x?token=*** (Caused by"),
        ("got {'secret': 's3cret', 'anon': False}", "got {'secret': '***', 'anon': False}"),
        ("DefaultEndpointsProtocol=https;AccountKey=s3cret;x=1", "DefaultEndpointsProtocol=https;AccountKey=***;x=1"),
        ("data.storage_options={client_secret:s3cret}", "data.storage_options={client_secret:***"),
    ],
)  # fmt: skip
def test_a_text_is_shown_without_its_secrets(text: str, shown: str) -> None:
    assert masked(text) == shown and masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "ssh://me@h/photos", "abfs://photos@account.dfs.core.windows.net/x", "http://h:8080/pkg@1.2/x", "s3://b/me:x@y",
        "sqlite:////home/me/a@b.db", "https://h/d?key=photos/cats.zip&v=2", "a token is needed: write one", "ray://h:10001",
    ],
)  # fmt: skip
def test_a_text_without_a_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_options_are_known_by_their_names() -> None:
    options = {
        "key": "a",
        "client_kwargs": {"aws_secret_access_key": "b", "region": "c"},
        "anon": False,
        "token": "anon",
        "pin": 1,
    }
    hidden = {**options, "key": "***", "client_kwargs": {"aws_secret_access_key": "***", "region": "c"}}
    assert without_secrets({"storage_options": options}) == {"storage_options": hidden}
    assert without_secrets({"tags": {"key": "PROJ-1", "password": 7}}) == {"tags": {"key": "PROJ-1", "password": "***"}}
    assert secrets.secret_values(options) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"tracking": {"uri": "http://me:s3cret@h/"}},
            r"tracking\.uri must hold no secret in params\.yaml, .*; got 'http://\*\*\*@h/'\. Write tracking\.uri=http://h/, "
            r"and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD .* or write \$\{oc\.env:NAME\}",
        ),
        (
            {"tracking": {"uri": "postgresql://me:s3cret@h/db"}},
            r"tracking\.uri must .* Write tracking\.uri=postgresql://\$\{oc\.env:NAME\}@h/db and set NAME in the environment\.",
        ),
        (
            {"data": {"name": "folder", "source": "https://h/x.zip?sig=s3cret"}},
            r"data\.source must .* Write data\.source=https://h/x\.zip\?sig=\$\{oc\.env:NAME\} and set NAME .* Use conf/ ",
        ),
        ({"data": {"name": "cifar10", "mirrors": ["x", "https://a:s3cret@h"]}}, r"data\.mirrors must .*\['x', 'https://\*\*\*@h'\]"),
        (
            {"data": {"name": "folder", "source": "s3://b", "storage_options": {"secret": "s3cret"}}},
            r"data\.storage_options\.secret must .* such as AWS_SECRET_ACCESS_KEY",
        ),
        (
            {"data": {"name": "folder", "source": "s3://b", "storage_options": {"config_kwargs": {"proxies": ["http://a:s3cret@h"]}}}},
            r"data\.storage_options\.config_kwargs\.proxies must hold no secret",
        ),
        ({"tracking": {"tags": {"password": "s3cret"}}}, r"tracking\.tags\.password must hold no secret"),
        ({"data": {"name": "folder", "source": "https://***@h/x"}}, r"data\.source must hold no secret"),
        ({"data": {"name": "folder", "source": "https://h?token=s3cret${oc.env:HOME}"}}, r"data\.source must hold no secret"),
    ],
)  # fmt: skip
def test_a_secret_in_params_yaml_is_refused_with_the_line_that_works(
    tmp_path: Path, content: Any, message: str
) -> None:
    params = tmp_path / "params.yaml"
    YAML(typ="safe").dump(content, params)
    with pytest.raises(ConfigError, match=message) as refusal:
        compose(CONF, params, [])
    assert "s3cret" not in str(refusal.value)


def test_a_secret_in_conf_is_refused_in_an_option_that_nobody_chose(tmp_path: Path) -> None:
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("source: https://me:s3cret@h/x.zip\n")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    with pytest.raises(
        ConfigError, match=r"data\.source must hold no secret in conf/data/mine\.yaml, which git and DVC keep"
    ):
        compose(tmp_path / "conf", tmp_path / "params.yaml", [])


def test_an_address_is_resolved_where_something_connects_and_other_keys_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("EPOCHS", "7")
    monkeypatch.setenv("STORE", "http://me:s3cret@h/")
    config = compose(
        CONF, ROOT / "params.yaml",
        ["data=folder", "data.source=https://h/${data.title}.zip?token=${oc.env:TOKEN}", "data.title=cats",
         "train.max_epochs=${oc.decode:${oc.env:EPOCHS}}", "tracking.tags={where:'${oc.env:STORE}',epochs:'${oc.env:EPOCHS}'}"],
    )  # fmt: skip
    assert config.data.source == "https://h/cats.zip?token=${oc.env:TOKEN}" and config.train.max_epochs == 7
    assert config.tracking.tags == {"where": "${oc.env:STORE}", "epochs": "7"} and "s3cret" not in as_yaml(config)
    assert resolved([config.data.source, {"a": 1}]) == ["https://h/cats.zip?token=s3cret", {"a": 1}]
    assert resolved("${oc.env:NOT_SET,null}") is None
    monkeypatch.delenv("TOKEN")
    with pytest.raises(
        ConfigError, match=r"TOKEN must be set in the environment, as the configuration asks for \$\{oc\.env:TOKEN\}"
    ):
        resolved(config.data.source)


def test_typed_secrets_move_into_the_environment() -> None:
    values = [
        "data.source='https://h/x?token=s3,cret'", "+data.storage_options={secret:'it\\'s s3cret',anon:false}",
        "data.source=https://h/a?token=s3cret1,https://h/b?token=s3cret2", "seed=1,2", "tracking.tags.password=s3cret3",
        "data.mirrors=['https://me:s3cret4@h/${data.name}',b]",
    ]  # fmt: skip
    written = [grammar.typed(value, is_sweep=True) for value in values]
    assert "s3" not in "".join(written).replace("s3://", "") and written[3] == "seed=1,2"
    assert "/${data.name}" in written[5], "an interpolation of the user's stays one"
    variables = {name: value for name, value in secrets.os.environ.items() if name.startswith("GOODFIT_SECRET_")}
    assert set(variables.values()) == {"s3,cret", "it's s3cret", "s3cret1", "s3cret2", "s3cret3", "me:s3cret4"}
    assert [grammar.typed(value, is_sweep=True) for value in values] == written, "the same secret is the same variable"
    config = compose(CONF, ROOT / "params.yaml", [*OWN, written[1]])
    assert resolved(config.data.storage_options) == {"secret": "it's s3cret", "anon": False}
    with pytest.raises(ConfigError, match=r"data\.source must have its secret in the place of \*\*\*"):
        grammar.typed("data.source='https://***@h/x'")
    del secrets.os.environ["GOODFIT_SECRET_2"]
    with pytest.raises(
        ConfigError, match=r"GOODFIT_SECRET_2 must be set .* It stands for what an earlier command line had"
    ):
        resolved(config.data.storage_options)


def test_refusals_of_the_schema_do_not_quote_a_secret() -> None:
    for override in ("tracking.uri=['http://me:s3cret@h']", "tracking.urk=http://me:s3cret@h"):
        with pytest.raises(ConfigError, match=r"tracking\.ur\w .*(\*\*\*|GOODFIT_SECRET_1)") as refusal:
            compose(CONF, ROOT / "params.yaml", [override])
        assert "s3cret" not in str(refusal.value)


def test_variables_with_secrets_are_told_apart() -> None:
    some = {
        "MLFLOW_TRACKING_PASSWORD": "a",
        "MLFLOW_TRACKING_URI": "http://a:b@h",
        "GOODFIT_SECRET_1": "a",
        "OMP_NUM_THREADS": "1",
    }
    assert secrets.without_secret_variables(some) == {"OMP_NUM_THREADS": "1"}


def test_errors_of_requests_are_shown_without_the_query() -> None:
    for url in (f"http://me:s3cret@127.0.0.1:{free_port()}/x?token=s3cret", "http:///x?token=s3cret"):
        with pytest.raises(requests.RequestException) as failure:
            requests.get(url, timeout=5)
        assert "token=s3cret" in str(failure.value) and "token=s3cret" not in masked(str(failure.value))


def test_nothing_is_refused_in_the_projects_own_files() -> None:
    check_values(YAML(typ="safe").load((ROOT / "params.yaml").read_text()), "params.yaml")


def test_null_in_params_yaml_leaves_the_source_that_conf_names(tmp_path: Path) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    option = tmp_path / "conf" / "data" / "folder.yaml"
    option.write_text(option.read_text().replace("source: null", "source: https://h/x.zip?token=${oc.env:TOKEN}", 1))
    params = tmp_path / "params.yaml"
    params.write_text("data: {name: folder, source: null}\n")
    assert compose(tmp_path / "conf", params, []).data.source == "https://h/x.zip?token=${oc.env:TOKEN}"
    params.write_text("data: {name: folder, source: photos}\n")
    assert compose(tmp_path / "conf", params, []).data.source == "photos"


@pytest.mark.parametrize(
    ("uri", "left", "signs_in"),
    [
        ("https://me:p%40ss@h:80/x", "https://h:80/x", ("me", "p@ss")),
        ("http://h/", "http://h/", (None, None)),
        ("postgresql://me:s3cret@h/db", "postgresql://me:s3cret@h/db", (None, None)),
    ],
)
def test_user_and_password_of_a_server_go_into_the_variables_of_mlflow(uri: str, left: str, signs_in: Any) -> None:
    secrets.os.environ["MLFLOW_TRACKING_URI"] = uri
    assert store.signed_in(uri) == left and secrets.os.environ["MLFLOW_TRACKING_URI"] == left
    assert tuple(map(secrets.os.environ.get, ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"))) == signs_in
    settings = Tracking(enabled=True, uri=uri, experiment="e", tags={})
    assert store.address(settings) == masked(uri)
