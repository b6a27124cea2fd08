"""Writes and mends overrides in Hydra's grammar, and takes the secrets out of those that were typed."""

import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

from pipeline.config import secrets
from pipeline.errors import ConfigError

_KEY = re.compile(r"[A-Za-z_][\w/-]*")
_STRUCTURE = re.compile(
    r"""['"\[{]|(choice|range|interval|glob|sort|shuffle|tag|extend_list|int|float|str|bool|json_str)\("""
)
"""Beginnings of values that are meant to be more than a text: quoted ones, lists, mappings and Hydra's functions."""


def words(override: str) -> list[str]:
    """The overrides of one change, which may be several that belong together, with spaces between them.

    >>> words("model=convnet prepare.size=64"), words("train.early_stopping={patience: 3, restore_best: true}")
    (['model=convnet', 'prepare.size=64'], ['train.early_stopping={patience: 3, restore_best: true}'])
    """
    return re.split(r" (?=[\w.]+=)", override)


def experiment(override: str) -> str:
    """The command that tries a change, whether `params.yaml` lists its keys or not.

    A group there is a mapping whose `name` is the option. So that a chosen option takes along no key of the one before, its
    name takes the mapping's place first, and a new mapping with its own keys takes that of the name.

    >>> experiment("model=convnet prepare.size=64")
    'dvc exp run -S ++model=convnet -S ++prepare.size=64'
    >>> experiment("model=convnet model.width=8")
    "dvc exp run -S ++model=convnet -S '++model={name:convnet,width:8}'"
    """
    change = dict(word.split("=", 1) for word in words(override))
    assignments = []
    for key, value in change.items():
        if key.rpartition(".")[0] in change:
            continue  # it stands in the mapping of its group
        own = [
            f"{name.removeprefix(f'{key}.')}:{other}" for name, other in change.items() if name.startswith(f"{key}.")
        ]
        assignments += [f"{key}={value}", *([f"{key}={{{','.join([f'name:{value}', *own])}}}"] if own else [])]
    return "dvc exp run " + " ".join(f"-S {shlex.quote(f'++{each}')}" for each in assignments)


def quote(value: Any, *, interpolates: bool = False) -> str:
    """A value in Hydra's grammar, such that Hydra reads the same value back.

    >>> print(quote("it's"), quote(None), quote([1e-4, "a,b"]))
    'it\\'s' null [0.0001,'a,b']

    Args:
        value: Value to write.
        interpolates: Whether `${…}` in it is an interpolation rather than text.

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
        items = (f"{plain_key(key)}:{quote(item, interpolates=interpolates)}" for key, item in value.items())
        return "{" + ",".join(items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(quote(item, interpolates=interpolates) for item in value) + "]"
    text = str(value)
    if not interpolates:  # text in params.yaml, as DVC reads it; OmegaConf wants the backslashes before it doubled
        text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"


def plain_key(key: object) -> str:
    """A key of a mapping, if Hydra's grammar can express it.

    Raises:
        ConfigError: It cannot.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ConfigError(f"a key must be a word of letters, digits, '_', '-' and '/'; got {key!r}. Rename it.")
    return key


def is_plain_key(text: str) -> bool:
    """Whether a text begins with a key, not with `+`, `++` or `~`."""
    return _KEY.match(text) is not None


def typed(override: str, is_sweep: bool = False) -> str:
    """An override of the command line as everything after it may see and record it: `readable`, and without its secrets.

    Raises:
        ConfigError: See `readable`; or the override comes from a record, in which the secret was left out.
    """
    return _without_secrets(readable(override, is_sweep))


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
            raise secrets.missing_variable(variable, f"{override} asks for it")
    problem = _problem(override)
    if problem is None:
        return override
    key, _, value = override.partition("=")
    texts = value.split(",") if is_sweep else [value]
    quoted = f"{key}={','.join(quote(text, interpolates=True) for text in texts)}"
    if value and not _STRUCTURE.match(value) and _problem(quoted) is None:
        return quoted
    raise ConfigError(
        f"{override} must be in Hydra's grammar: {problem}. A text with special signs stands in quotes: "
        f"{shlex.quote(f'{key}={quote(value)}')}"
    )


def _without_secrets(override: str) -> str:
    """The override with `${oc.env:…}` in the place of each secret, whose value this process's environment keeps."""
    if secrets.masked(override) == override and not any(text in override for text in ("storage_options", secrets.MASK)):
        return override
    parsed, head = _parsed(override), override.partition("=")[0]
    if parsed.is_sweep_override():
        values = list(parsed.sweep_string_iterator()) if parsed.is_discrete_sweep() else []
        parts = [_without_secrets(f"{head}={value}").partition("=")[2] for value in values]
        return override if parts == values else f"{head}={','.join(parts)}"
    value = parsed.value()
    kept = secrets.typed(head.lstrip("+~"), value)
    return override if kept == value else f"{head}={quote(kept, interpolates=True)}"


def _parsed(override: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override)


def _problem(override: str) -> str | None:
    from hydra.errors import HydraException

    try:
        _parsed(override)
    except HydraException as error:
        return " ".join(str(error).split("\nSee https")[0].split())
    return None
