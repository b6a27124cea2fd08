from pathlib import Path

import pytest
import yaml

from pipeline.config import validation
from pipeline.config.composition import compose
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    hard = [
        "tracking.tags={a: '1e-4', b: 'null', c: '\\${seed}'}",
        "regularization.l1=1e-5",
        "data.source='ñ, \\'x\\''",
    ]
    config = compose(ROOT / "conf", ROOT / "params.yaml", hard)
    assert config.tracking.tags == {"a": "1e-4", "b": "null", "c": "${seed}"}
    path = tmp_path / "config.yaml"
    path.write_text(validation.as_yaml(config))
    assert validation.load(path) == config


def test_a_configuration_that_is_not_there_is_said_to_be_made_by_the_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml does not exist; `dvc repro` writes it\.$"):
        validation.load(tmp_path / "config.yaml")


def test_an_unknown_key_is_named_before_the_missing_one_that_it_stands_for() -> None:
    values = yaml.safe_load(validation.as_yaml(compose(ROOT / "conf", ROOT / "params.yaml", [])))
    values["train"]["max_epoch"] = values["train"].pop("max_epochs")
    with pytest.raises(ConfigError, match=r"train\.max_epoch is not a configuration key.*Did you mean 'max_epochs'\?"):
        validation.validate(values)
    del values["train"]["max_epoch"]
    with pytest.raises(ConfigError, match=r"train\.max_epochs is missing\. Set it in conf/, in params\.yaml or as"):
        validation.validate(values)


@pytest.mark.parametrize("model", ["lenett", {"name": "lenett"}])
def test_an_option_that_does_not_exist_is_refused(model: object) -> None:
    values = yaml.safe_load(validation.as_yaml(compose(ROOT / "conf", ROOT / "params.yaml", [])))
    with pytest.raises(
        ConfigError, match=r"model\.name must be one of lenet, .*; got 'lenett'\. Did you mean 'lenet'\?"
    ):
        validation.validate(values | {"model": model})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: 1\n\tb: 2\n", r"file\.yaml, line 2, must be YAML; found"),
        (b"a: [1\n", r"file\.yaml, line 2, must be YAML; did not find expected"),
        (b"a: 1\nb: \xff\n", r"file\.yaml, line 2, must be UTF-8; invalid start byte at byte 8\.$"),
        (b"a:\n  b: 1\n  b: 2\n", r"file\.yaml must have each key once; b stands in line 2 and in line 3\.$"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "file.yaml").write_bytes(text)
    for read in (validation.check_yaml, validation.read_yaml):
        with pytest.raises(ConfigError, match=message):
            read(tmp_path / "file.yaml")
