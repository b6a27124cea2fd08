"""Checks a composed configuration as a whole, whichever way it came about, and turns it into dataclasses."""

import difflib
import io
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config.schema import OPTIONS, Config
from pipeline.errors import ConfigError
from pipeline.metrics.history import METRICS

_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_PLURALS = {str: "texts", float: "numbers", list[str]: "lists of texts", list[Any]: "lists", Any: "anything"}


def load(path: Path) -> Config:
    """The configuration that `compose` wrote to `path`.

    Raises:
        ConfigError: The file is missing, is not YAML, or holds a configuration that the schema refuses.
    """
    return validate(read_yaml(path))


def as_yaml(config: Config) -> str:
    """The configuration as YAML that `load` reads back unchanged."""
    buffer = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 1000
    writer.dump(asdict(config), buffer)
    return buffer.getvalue()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file (`1e-4` is a number there, as DVC reads it too).

    Raises:
        ConfigError: The file is missing, is not YAML, or holds something other than a mapping.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist. `dvc repro` writes it, or `git checkout {path.name}`.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be YAML; {' '.join(str(error).split())}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values; got {content!r}.")
    return content


COLUMNS = ("path", "label", "split", "group", "image")
"""What `data.columns` may name."""


def validate(values: Mapping[str, Any]) -> Config:
    """The configuration as dataclasses, each group with options as the one that its `name` chooses.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of the wrong type or out of range.
    """
    config: Config = _build(Config, {key: value for key, value in values.items() if key != "experiment"}, "")
    if config.train.monitor not in METRICS:
        raise _refused("train.monitor", "one of " + ", ".join(METRICS), config.train.monitor, METRICS)
    held_out = config.prepare.val_fraction + config.prepare.confirm_fraction
    if held_out >= 1:
        raise _refused("prepare.val_fraction + prepare.confirm_fraction", "a number < 1", held_out)
    if config.train.sampling == config.train.class_weights == "balanced":
        raise ConfigError(
            "train.class_weights must be none with train.sampling=balanced, which shows each class equally often already; "
            "got 'balanced'. Set one of them back in params.yaml or on the command line."
        )
    if getattr(config.data, "name", None) == "folder":
        if not config.data.source:
            raise _refused("data.source", "the path or the address of your images", config.data.source)
        unknown = [key for key in config.data.columns if key not in COLUMNS]
        if unknown:
            raise _refused("data.columns", "a mapping of " + ", ".join(COLUMNS), config.data.columns, COLUMNS)
    folds, fold = config.prepare.folds, config.prepare.fold
    if folds is None and fold is not None:
        raise _refused("prepare.fold", "null without prepare.folds", fold)
    if folds is not None and fold is not None and fold >= folds:  # a sweep over `fold` is composed without it, too
        raise _refused("prepare.fold", f"a whole number in 0..{folds - 1}, as prepare.folds={folds}", fold)
    return config


def nearest(word: object, choices: Iterable[str]) -> str:
    """A question that offers the most similar choice, or nothing.

    >>> nearest("lenett", ["convnet", "lenet"])
    " Did you mean 'lenet'?"
    """
    matches = difflib.get_close_matches(str(word), list(choices), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _build(schema: type, values: Any, path: str) -> Any:
    prefix = f"{path}." if path else ""
    if not isinstance(values, Mapping):
        raise _refused(path, "a mapping of " + ", ".join(field.name for field in fields(schema)), values)
    known = {field.name: field for field in fields(schema)}
    for key in values:
        if key not in known:
            among = f"The keys of {path} are" if path else "The keys are"
            raise ConfigError(
                f"{prefix}{key} is not a configuration key; got {prefix}{key}={values[key]!r}."
                f"{nearest(key, known)} {among} {', '.join(known)}."
            )
    types_of = typing.get_type_hints(schema)
    parts: dict[str, Any] = {}
    for name, field in known.items():
        key = f"{prefix}{name}"
        if name not in values or values[name] == "???":
            raise ConfigError(f"{key} is missing. Set it in conf/, in params.yaml or as {key}=… on the command line.")
        value = values[name]
        if schema is Config and name in OPTIONS:
            parts[name] = _build(_option(name, value), value, name)
        elif is_dataclass(types_of[name]):
            parts[name] = _build(typing.cast(type, types_of[name]), value, key)
        else:
            parts[name] = _leaf(types_of[name], value, key, field.metadata)
    return schema(**parts)


def _option(group: str, value: Any) -> type:
    name = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or name not in OPTIONS[group]:
        raise _refused(f"{group}.name", "one of " + ", ".join(OPTIONS[group]), name, OPTIONS[group])
    return OPTIONS[group][name]


def _leaf(expected: Any, value: Any, key: str, metadata: Mapping[str, Any]) -> Any:
    optional = isinstance(expected, types.UnionType) and types.NoneType in typing.get_args(expected)
    if optional and value is None:
        return None
    coerced, kind = _coerce(expected, value)
    expectation = metadata.get("expected", kind).replace("a number", kind if kind == _TYPE_NAMES[int] else "a number")
    expectation += " or null" if optional else ""
    if coerced is None or ("accepts" in metadata and not metadata["accepts"](coerced)):
        raise _refused(key, expectation, value, expectation.removeprefix("one of ").split(", "))
    return coerced


def _coerce(expected: Any, value: Any) -> tuple[Any, str]:
    """The value as the expected type, or None where it is not of it; and the type in words."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is types.UnionType:
        alternatives = [_coerce(kind, value) for kind in arguments if kind is not types.NoneType]
        coerced = next((found for found, _ in alternatives if found is not None), None)
        return coerced, " or ".join(kind for _, kind in alternatives)
    if origin is list:
        members = [_coerce(arguments[0], item)[0] for item in value] if isinstance(value, list) else None
        whole = members is not None and (arguments[0] is Any or None not in members)
        return (members if whole else None), "a list" + ("" if arguments[0] is Any else " of texts")
    if origin is dict:
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        items = {key: _coerce(arguments[1], item)[0] for key, item in pairs if isinstance(key, str)}
        whole = len(items) == len(pairs) and None not in items.values()
        return (items if whole else None), f"a mapping of texts to {_PLURALS[arguments[1]]}"
    if expected is Any:
        return value, "anything"
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value), _TYPE_NAMES[float]
    matches = isinstance(value, expected) and not (expected is int and isinstance(value, bool))
    return (value if matches else None), _TYPE_NAMES[expected]


def _refused(key: str, expectation: str, value: object, choices: Iterable[str] = ()) -> ConfigError:
    return ConfigError(
        f"{key} must be {expectation}; got {value!r}.{nearest(value, choices)}"
        f" Change it in params.yaml or on the command line."
    )
