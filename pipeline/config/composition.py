"""Composes the configuration with Hydra: `conf/` < `params.yaml` < command line."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import secrets
from pipeline.config.grammar import is_plain_key, plain_key, quote, typed
from pipeline.config.schema import FREE_MAPS, Config
from pipeline.config.section import missing, nearest
from pipeline.config.validation import check_yaml, read_yaml, validate, with_size
from pipeline.errors import ConfigError

LISTED = (
    "prepare.size", "prepare.limit", "regularization.label_smoothing", "train.batch_size", "train.early_stopping.patience",
    "evaluate.tta",
)  # fmt: skip
"""Keys that `params.yaml` lists so that `dvc exp run -S` finds them: at their default they leave an experiment its value."""

_NAMES = re.compile(r"[\w,-]+")


def compose(conf: Path, params: Path, overrides: list[str]) -> Config:
    """The validated configuration of the folder `conf/` < `params.yaml` < `overrides` in Hydra's syntax.

    Raises:
        ConfigError: A key, an option or a value does not fit the schema.
    """
    composed, not_given = _composed(conf, params, overrides)
    for key in sorted(not_given):
        raise missing(key)
    return validate(composed)


def values(conf: Path, params: Path, overrides: list[str]) -> Mapping[str, Any]:
    """The values that `compose` would validate, also where one is missing that must be given.

    Raises:
        ConfigError: A group has no such option, or the overrides are not in Hydra's grammar.
    """
    return with_size(_composed(conf, params, overrides)[0])


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
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"conf/ must compose with {params.name}; {' '.join(str(error).split())}") from None
    return plain(composed), set(OmegaConf.missing_keys(_unresolved(composed)))


def plain(composed: Any) -> dict[str, Any]:
    """Plain values of a configuration that Hydra composed.

    Interpolations are resolved, but for secrets and for what only connecting needs.

    Raises:
        ConfigError: An interpolation names what is not there.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(_unresolved(composed), resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(f"conf/ must compose with params.yaml; {' '.join(str(error).split())}") from None


def _unresolved(composed: Any) -> Any:
    """A configuration that Hydra composed, with text in the place of the interpolations that `plain` leaves."""
    from omegaconf import OmegaConf

    def kept(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: kept(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()}
        if isinstance(value, list):
            return [kept(item, path) for item in value]
        return secrets.unresolved(path, value) if isinstance(value, str) else value

    return OmegaConf.create(kept(OmegaConf.to_container(composed), ""))


def hydra_overrides(conf: Path, params: Path, command_line: list[str]) -> list[str]:
    """The overrides of `params.yaml` followed by those of the command line, ready for Hydra.

    If the command line chooses a group, that group's keys in `params.yaml` are dropped; if it chooses an experiment, the keys
    that the experiment sets. An experiment that `params.yaml` names yields to the other keys there, except those of `LISTED`
    that have their default. Plain `key=value` becomes `++key=value`, so that an unknown key reaches the schema, whose message
    names the nearest key.

    Raises:
        ConfigError: `params.yaml` or the command line names an option that `conf/` does not have, a group of `params.yaml` has
            no `name`, or a file holds a secret.
    """
    for file in conf.rglob("*.yaml"):
        secrets.check_values(_sectioned(file.relative_to(conf), check_yaml(file)), f"conf/{file.relative_to(conf)}")
    groups = option_names(conf)
    command_line = [typed(override) for override in command_line]
    chosen = dict(override.split("=", 1) for override in command_line if "=" in override)
    for group, value in chosen.items():
        own = group in groups and not group.startswith("hydra/")  # plug-ins bring further options of Hydra's groups
        for name in value.split(",") if own and _NAMES.fullmatch(value) else ():
            _check_option(group, name, groups[group], "on the command line")
    content = read_yaml(params)
    secrets.check_values(content, params.name, _advice())
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


def _sectioned(file: Path, content: Any) -> Any:
    """The content of a file of `conf/` below the key of its group."""
    return {file.parent.as_posix(): content} if file.parent.name and isinstance(content, dict) else content


def _advice() -> str:
    """Sentences about `dvc exp run -S` for a refusal of `params.yaml`: DVC stores what it sets before any stage runs."""
    place = " Use conf/ for it beside `dvc exp run -S`, which writes the variable's value into params.yaml."
    if "DVC_EXP_NAME" not in os.environ:
        return place
    return (
        f"{place} DVC has kept what -S wrote: take it out of params.yaml, or of the queue by `dvc queue remove --failed`, and "
        "then run `git gc --prune=now`."
    )


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
        if key == "data" and rest.get("source", "") is None:
            del rest["source"]  # listed for `-S`, like LISTED: a source that conf/ names stays
        for part, item in rest.items():
            leaves += [(path, f"++{path}={quote(leaf)}") for path, leaf in _leaves(f"{key}.{plain_key(part)}", item)]
    yield from leaves


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{plain_key(key)}", item)
    elif value != {} or path not in FREE_MAPS:
        yield path, value


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
    plain = "=" in override and is_plain_key(override) and key.split("@")[0] not in groups
    return f"++{override}" if plain and not key.startswith("hydra") else override
