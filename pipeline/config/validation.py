"""Checks a composed configuration against the schema; reads it from YAML and writes it as YAML."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config import yaml_values
from pipeline.config.schema import Config
from pipeline.config.section import explain
from pipeline.errors import ConfigError


def validate(values: Mapping[str, Any]) -> Config:
    """The values as a configuration; the key `experiment`, which only composing needs, is ignored.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of the wrong type or out of range.
    """
    values = with_size({key: value for key, value in values.items() if key != "experiment"})
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise explain(error, Config, values) from None


def with_size(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with what `prepare.size: null` means: the size that the model is made for."""
    prepare, model = values.get("prepare"), values.get("model")
    if isinstance(prepare, Mapping) and isinstance(model, Mapping) and prepare.get("size", 0) is None:
        return {**values, "prepare": {**prepare, "size": model.get("input_size")}}
    return values


def load(path: Path) -> Config:
    """The configuration that `compose` wrote to `path`.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds a configuration that the schema refuses.
    """
    return validate(read_yaml(path, "`dvc repro` writes it"))


def as_yaml(config: Config) -> str:
    """The configuration as YAML that `load` reads back unchanged."""
    return values_as_yaml(config.model_dump())


def values_as_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML 1.2, for a `load` of this or of another version of goodfit."""
    from ruamel.yaml import YAML  # slow to import, and few commands write

    buffer = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 1000
    writer.dump(dict(values), buffer)
    return buffer.getvalue()


def check_yaml(path: Path) -> Any:
    """Look at a YAML file before another program reads it, whose error would not be a sentence; gives its content.

    Raises:
        ConfigError: The file is not UTF-8 or not YAML, or has a key twice.
    """
    data = path.read_bytes()
    try:
        root = yaml.compose(data.decode(), yaml_values.YAML_1_1)
        content = None if root is None else yaml_values.YAML_1_1("").construct_document(root)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}, must be UTF-8; {error.reason} at byte {error.start:,}.") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}, line {line}, must be YAML; {error.problem}.") from None
    twice = yaml_values.repeated_key(root)
    if twice is not None:
        lines = [key.start_mark.line + 1 for key in twice]
        raise ConfigError(
            f"{path} must have each key once; {twice[0].value} stands in line {lines[0]} and in line {lines[1]}."
        )
    return content


def read_yaml(path: Path, missing: str = "`git checkout` brings it back") -> dict[str, Any]:
    """The mapping in a YAML 1.2 file (`1e-4` is a number there, as for DVC); `missing` says what to do where there is none.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds something other than a mapping.
    """
    try:
        content = yaml_values.parse(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; {missing}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        check_yaml(path)
        raise ConfigError(f"{path} must be YAML; {' '.join(str(error).split())}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values; got {content!r}.")
    return content
