"""`params.yaml` and the command line as Hydra overrides: `conf/` < `params.yaml` < command line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.schema import FREE_MAPS
from pipeline.config.validation import nearest, read_yaml
from pipeline.errors import ConfigError

_KEY = re.compile(r"[A-Za-z_][\w/-]*")
_PLAIN_WORDS = re.compile(r"[\w,-]+")


def hydra_overrides(conf: Path, params: Path, command_line: list[str]) -> list[str]:
    """The overrides of `params.yaml` followed by the user's own, ready for Hydra.

    A group that the command line chooses drops that group's keys of `params.yaml`; an experiment that it chooses drops
    the keys that the experiment sets. Plain `key=value` becomes `++key=value`, so that a key which does not exist
    reaches our schema, whose message names the nearest one that does.

    Args:
        conf: The folder of groups and options.
        params: The `params.yaml`.
        command_line: Hydra's own syntax, without flags.

    Raises:
        ConfigError: `params.yaml` or the command line names an option that `conf/` does not have, or a group of
            `params.yaml` has no `name`.
    """
    groups = option_names(conf)
    chosen = dict(override.split("=", 1) for override in command_line if "=" in override)
    for group, value in chosen.items():
        if (
            group in groups and _PLAIN_WORDS.fullmatch(value) and not group.startswith("hydra/")
        ):  # plug-ins have options too
            for name in value.split(","):
                _check_option(group, name, groups[group], "on the command line")
    dropped = {group for group in chosen if group in groups}
    if chosen.get("experiment") in groups.get("experiment", []):
        dropped |= _keys_set_by(conf / "experiment" / f"{chosen['experiment']}.yaml")
    mine = [
        (key, override)
        for key, override in _from_params(read_yaml(params), groups, params.name)
        if not any(key == drop or key.startswith(f"{drop}.") for drop in dropped)
    ]
    return [override for _, override in mine] + [_lenient(override, groups) for override in command_line]


def option_names(conf: Path) -> dict[str, list[str]]:
    """The options of each group, found by looking: `{"model": ["convnet", "lenet"], …}`."""
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


def _keys_set_by(experiment: Path) -> set[str]:
    content = read_yaml(experiment)
    groups = {
        key.removeprefix("override ").strip().removeprefix("/")
        for entry in content.pop("defaults", [])
        if isinstance(entry, Mapping)
        for key in entry
    }
    return groups | {path for key, value in content.items() for path, _ in _leaves(key, value)}


def _lenient(override: str, groups: dict[str, list[str]]) -> str:
    key = override.split("=", 1)[0]
    plain = "=" in override and _KEY.match(override) and key.split("@")[0] not in groups
    return f"++{override}" if plain and not key.startswith("hydra") else override
