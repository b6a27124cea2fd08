"""Composes the configuration with Hydra: `conf/` < `params.yaml` < command line."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.schema import FREE_MAPS, Config
from pipeline.config.section import missing, nearest
from pipeline.config.validation import check_yaml, read_yaml, validate
from pipeline.errors import ConfigError

LISTED = (
    "prepare.size", "prepare.limit", "regularization.label_smoothing", "train.batch_size", "train.early_stopping.patience",
    "evaluate.tta",
)  # fmt: skip
"""Keys that `params.yaml` lists so that `dvc exp run -S` finds them: at their default they leave an experiment its value."""

_KEY = re.compile(r"[A-Za-z_][\w/-]*")
_NAMES = re.compile(r"[\w,-]+")
_STRUCTURE = re.compile(
    r"""['"\[{]|(choice|range|interval|glob|sort|shuffle|tag|extend_list|int|float|str|bool|json_str)\("""
)
"""Beginnings of values that are meant to be more than a text: quoted ones, lists, mappings and Hydra's functions."""


def compose(conf: Path, params: Path, overrides: list[str]) -> Config:
    """The validated configuration of the folder `conf/` < `params.yaml` < `overrides` in Hydra's syntax.

    Raises:
        ConfigError: A key, an option or a value does not fit the schema.
    """
    composed, not_given = _composed(conf, params, overrides)
    for key in sorted(not_given):
        raise missing(key)
    return validate(composed)


def values(conf: Path, params: Path, overrides: list[str]) -> dict[str, Any]:
    """The values that `compose` would validate, also where one is missing that must be given.

    Raises:
        ConfigError: A group has no such option, or the overrides are not in Hydra's grammar.
    """
    return _composed(conf, params, overrides)[0]


def _composed(conf: Path, params: Path, overrides: list[str]) -> tuple[dict[str, Any], set[str]]:
    """The values, and the keys that are written as ???."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
            composed = hydra_compose("config", hydra_overrides(conf, params, overrides))
        container: Any = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"conf/ must compose with {params.name}; {' '.join(str(error).split())}") from None
    return container, set(OmegaConf.missing_keys(composed))


def hydra_overrides(conf: Path, params: Path, command_line: list[str]) -> list[str]:
    """The overrides of `params.yaml` followed by those of the command line, ready for Hydra.

    If the command line chooses a group, that group's keys in `params.yaml` are dropped; if it chooses an experiment, the keys
    that the experiment sets. An experiment that `params.yaml` names yields to the other keys there, except those of `LISTED`
    that have their default. Plain `key=value` becomes `++key=value`, so that an unknown key reaches the schema, whose message
    names the nearest key.

    Raises:
        ConfigError: `params.yaml` or the command line names an option that `conf/` does not have, or a group of
            `params.yaml` has no `name`.
    """
    for file in conf.rglob("*.yaml"):
        check_yaml(file)
    groups = option_names(conf)
    command_line = [readable(override) for override in command_line]
    chosen = dict(override.split("=", 1) for override in command_line if "=" in override)
    for group, value in chosen.items():
        own = group in groups and not group.startswith("hydra/")  # plug-ins bring further options of Hydra's groups
        for name in value.split(",") if own and _NAMES.fullmatch(value) else ():
            _check_option(group, name, groups[group], "on the command line")
    content = read_yaml(params)
    dropped = {group for group in chosen if group in groups}
    if "experiment" in chosen:
        dropped |= _keys_set_by(conf, chosen["experiment"])
    elif content.get("experiment") is not None:
        dropped |= _keys_set_by(conf, content["experiment"]) & _at_default(conf, content)
    kept = [
        override
        for key, override in _from_params(content, groups, params.name)
        if not any(key == drop or key.startswith(f"{drop}.") for drop in dropped)
    ]
    return kept + [_lenient(override, groups) for override in command_line]


def option_names(conf: Path) -> dict[str, list[str]]:
    """The options that `conf/` has for each group: `{"model": ["convnet", "lenet"], …}`."""
    folders = (path for path in sorted(conf.rglob("*")) if path.is_dir())
    options = {path.relative_to(conf).as_posix(): sorted(file.stem for file in path.glob("*.yaml")) for path in folders}
    return {group: names for group, names in options.items() if names}


def quote(value: Any) -> str:
    """A value in Hydra's grammar, such that Hydra reads the same value back.

    >>> print(quote("it's"), quote(None), quote([1e-4, "a,b"]))
    'it\\'s' null [0.0001,'a,b']

    Raises:
        ConfigError: A mapping has a key that Hydra's grammar cannot express.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_plain_key(key)}:{quote(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(quote(item) for item in value) + "]"
    # `${…}` is text in params.yaml, as DVC reads it; OmegaConf wants it escaped, with the backslashes before it doubled.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"


def readable(override: str, is_sweep: bool = False) -> str:
    """An override of the command line as Hydra reads it: quoted where its value is a text that the grammar does not take.

    In a sweep, commas part the values.

    >>> readable("data.source=~/Fotos/müller#1"), readable("data.source=a=1,b", is_sweep=True), readable("seed=1,2")
    ("data.source='~/Fotos/müller#1'", "data.source='a=1','b'", 'seed=1,2')

    Raises:
        ConfigError: It cannot be quoted, or asks for a variable that the environment does not have.
    """
    for variable in re.findall(r"\$\{oc\.env:(\w+)\}", override):
        if variable not in os.environ:
            raise ConfigError(f"{variable} must be set in the environment, as {override} asks for it; it is not.")
    problem = _problem(override)
    if problem is None:
        return override
    key, _, value = override.partition("=")
    texts = value.split(",") if is_sweep else [value]
    quoted = f"{key}={','.join(quote(text) for text in texts)}"
    if value and not _STRUCTURE.match(value) and "${" not in value and _problem(quoted) is None:
        return quoted
    raise ConfigError(
        f"{override} must be in Hydra's grammar: {problem}. A text with special signs stands in quotes: "
        f"{shlex.quote(f'{key}={quote(value)}')}"
    )


def _problem(override: str) -> str | None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException as error:
        return " ".join(str(error).split("\nSee https")[0].split())
    return None


def _from_params(params: Mapping[str, Any], groups: dict[str, list[str]], file: str) -> Iterator[tuple[str, str]]:
    """Pairs of a dotted key and its override; group choices first."""
    leaves: list[tuple[str, str]] = []
    for key, value in params.items():
        if key not in groups:
            leaves += [(path, f"++{path}={quote(leaf)}") for path, leaf in _leaves(key, value)]
            continue
        rest = dict(value) if isinstance(value, Mapping) else {"name": value}
        if "name" not in rest:
            raise ConfigError(
                f"{key} in {file} must have a name, one of {', '.join(groups[key])}; got {value!r}. "
                f"Write {key}: {{name: {groups[key][0]}, …}}."
            )
        name = rest.pop("name")
        if name is None and key == "experiment":
            continue
        _check_option(key, name, groups[key], f"in {file}")
        yield key, f"{key}={name}"
        for part, item in rest.items():
            leaves += [(path, f"++{path}={quote(leaf)}") for path, leaf in _leaves(f"{key}.{_plain_key(part)}", item)]
    yield from leaves


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{_plain_key(key)}", item)
    elif value != {} or path not in FREE_MAPS:
        yield path, value


def _plain_key(key: object) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ConfigError(f"a key must be a word of letters, digits, '_', '-' and '/'; got {key!r}. Rename it.")
    return key


def _check_option(group: str, name: object, options: list[str], place: str) -> None:
    if name not in options:
        raise ConfigError(
            f"{group} must be one of {', '.join(options)}; got {name!r}.{nearest(name, options)} Change it {place}."
        )


def _keys_set_by(conf: Path, experiment: object) -> set[str]:
    """The groups and the keys that an experiment sets; none where `conf/` has no such experiment."""
    name = experiment.get("name") if isinstance(experiment, Mapping) else experiment
    file = conf / "experiment" / f"{name}.yaml"
    if not file.exists():
        return set()
    content = read_yaml(file)
    groups = {
        key.removeprefix("override ").strip().removeprefix("/")
        for entry in content.pop("defaults", [])
        if isinstance(entry, Mapping)
        for key in entry
    }
    return groups | {path for key, value in content.items() for path, _ in _leaves(key, value)}


def _at_default(conf: Path, params: Mapping[str, Any]) -> set[str]:
    """The keys of `LISTED` that have the same value in `params.yaml` as in `conf/config.yaml`."""
    defaults = read_yaml(conf / "config.yaml")
    return {key for key in LISTED if _value_at(params, key) == _value_at(defaults, key)}


def _value_at(values: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _lenient(override: str, groups: dict[str, list[str]]) -> str:
    key = override.split("=", 1)[0]
    plain = "=" in override and _KEY.match(override) and key.split("@")[0] not in groups
    return f"++{override}" if plain and not key.startswith("hydra") else override
