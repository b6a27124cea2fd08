"""Tells the secrets in addresses, options and messages: shows a text without them, keeps typed ones in the environment.

A configuration never holds a secret, only `${oc.env:NAME}` in its place. What connects to somewhere asks for the value.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.errors import ConfigError

MASK = "***"

VARIABLE = "GOODFIT_SECRET_"
"""Beginning of the environment variables that carry what was typed on a command line."""

CONNECTING = ("data.source", "data.mirrors", "data.storage_options", "tracking.uri")
"""Keys whose `${oc.env:NAME}` stays as it is until something connects."""

_NAMES = "token|secret|password|passwd|passphrase|pwd"
_NAMES_OF_OPTIONS = (
    f"{_NAMES}|pass|key|keyid|sig|signature|credentials?|auth|authorization|jwt|sas|hmac|policy|cookie|connectionstring"
)
_SIGNED = re.compile(rf".*({_NAMES_OF_OPTIONS})|x(amz|goog).*|expires")
"""Names of the secrets in a query and in options, and of what else a signature makes new each time; letters and digits."""

_USERINFO = re.compile(r"(?<=[a-z\d]://)([^/?#\s]+|[^/?#\s:@\[]*:(?!\d*[/?#])[^\s@]*)(?=@)", re.IGNORECASE)
_QUERY = re.compile(r"(?<=[?&#])([^=?&#\s]+)=([^&#\s]+)")
_ASSIGNED = re.compile(
    rf"""(?<![?&#\w.%-])([\w.-]*(?:{_NAMES}|accountkey)(?:["']\s*:\s*["']|["']?[:=]["']?))([^\s"';&]+)""", re.IGNORECASE
)

_REFERENCE = re.compile(r"\$\{oc\.env:[^{}]*\}")
_SECRET_REFERENCE = re.compile(r"([^:]*:)?\$\{oc\.env:\w+\}")
_FILE = re.compile(r".*\.[a-z]\w{1,6}", re.IGNORECASE)
_NO_TOKENS = ("anon", "browser", "cache", "cloud", "google_default")
"""Words in the place of a token that name a way to sign in; those of gcsfs."""

_QUOTED = re.compile(r"""(["'])(.*?)\1""")
_NAMED_LITERAL = re.compile(r"""([\w.-]+)["']?\s*[:=]\s*[rRbBuU]*(["'])([^"'{$][^"']*)\2""")
_NAMED = re.compile(r"""\s*(?:-\s+|export\s+)?["']?([\w.-]+)["']?\s*[:=]\s*["']?([^\s"'{$#][^"']*)""")
"""A name and its value: a literal anywhere in code, and a whole line of YAML, of INI, or of a shell's variables."""

Put = Callable[[str], str]
"""Gives what stands in the place of a secret."""


def masked(text: str) -> str:
    """A text, such as an address or an error's message, without the secrets in it.

    >>> print(masked("https://me:s3cret@example.org/photos.zip?v=2&token=abc"), masked("ssh://me@host/photos"))
    https://***@example.org/photos.zip?v=2&token=*** ssh://me@host/photos
    """
    return _replaced(text, lambda secret: MASK)


def without_secrets(values: Any) -> Any:
    """The values of a configuration without the secrets in them, whether written out or asked for from the environment."""
    return _mapped(values, lambda secret: MASK)


def check_values(values: Any, place: str, advice: str = "") -> None:
    """Refuse the content of a file if it holds a secret.

    Args:
        values: Content of the file.
        place: Name of the file.
        advice: Further sentences of the refusal.

    Raises:
        ConfigError: There is a secret.
    """
    marked = _mapped(values, lambda secret: secret if _SECRET_REFERENCE.fullmatch(secret) else f"{secret}\0")
    for (key, value), (_, mark), (_, shown) in zip(
        *map(_leaves, (values, marked, without_secrets(values))), strict=True
    ):
        if value != mark:
            raise ConfigError(
                f"{key} must hold no secret in {place}, which git and DVC keep; got {shown!r}. {_remedy(key, shown)}{advice}"
            )


def typed(key: str, value: Any) -> Any:
    """The value of a key, as typed on a command line, with each secret moved into the environment of this process.

    Raises:
        ConfigError: A secret was left out, as in text that was copied from a record.
    """

    def put(secret: str) -> str:
        if _SECRET_REFERENCE.fullmatch(secret):
            return secret
        if MASK in secret:
            raise ConfigError(
                f"{key} must have its secret in the place of {MASK}, where it was left out; got {masked(str(value))!r}. "
                "Type it, or write ${oc.env:NAME} there and set the variable NAME."
            )
        number = 1
        while os.environ.setdefault(f"{VARIABLE}{number}", secret) != secret:
            number += 1
        return f"${{oc.env:{VARIABLE}{number}}}"

    *parents, name = key.split(".")
    return _mapped({name: value}, put, is_option="storage_options" in parents)[name]


def unresolved(key: str, value: str) -> str:
    """A value of OmegaConf's in which `${oc.env:NAME}` is text where its value is a secret, or needed by what connects only."""
    if not _REFERENCE.search(value):
        return value
    name = key.rpartition(".")[2]
    known = _REFERENCE.sub(lambda match: os.environ.get(match[0][9:-1].partition(",")[0], match[0]), value)
    if key.startswith(CONNECTING) or _mapped({name: known}, lambda secret: MASK) != {name: known}:
        return re.sub(rf"(?<!\\)(?={_REFERENCE.pattern})", r"\\", value)
    return value


def without_secret_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment, less those that hold a secret."""
    kept = _mapped(environment, lambda secret: MASK)
    is_kept = {name: value == kept[name] and not name.startswith(VARIABLE) for name, value in environment.items()}
    return {name: value for name, value in environment.items() if is_kept[name]}


def secret_values(options: Mapping[str, Any]) -> list[str]:
    """The secrets among the options of a file system."""
    found: list[str] = []

    def put(secret: str) -> str:
        found.append(secret)
        return MASK

    _mapped(options, put, is_option=True)
    return found


def holds_secret(line: str, is_code: bool = False) -> bool:
    """Whether a line of a file holds a secret; in Python's code names and expressions are none, and texts can be.

    >>> holds_secret("password: hunter2"), holds_secret('token = "3f2a"', is_code=True)
    (True, True)
    >>> holds_secret("password: ${oc.env:NAME}"), holds_secret("run(token=page.token)", is_code=True)
    (False, False)
    """
    found: list[str] = []

    def put(secret: str) -> str:
        if not secret.startswith(("{", "${", "%s")) and secret != MASK:
            found.append(secret)
        return MASK

    _in_addresses(line, put)
    for text in [quoted[2] for quoted in _QUOTED.finditer(line)] if is_code else [line]:
        _replaced(text, put)
    pairs = [(match[1], match[3]) for match in _NAMED_LITERAL.finditer(line)]
    if not is_code and (match := _NAMED.match(line)):
        pairs.append((match[1], match[2].strip()))
    for name, value in pairs:
        _mapped({name: value}, put)
    return bool(found)


def resolved(values: Any) -> Any:
    """The values with the environment's in the place of each `${oc.env:NAME}`.

    Raises:
        ConfigError: A variable is not set.
    """
    if isinstance(values, Mapping):
        return {key: resolved(value) for key, value in values.items()}
    if isinstance(values, list):
        return [resolved(value) for value in values]
    if not isinstance(values, str):
        return values
    whole = _REFERENCE.fullmatch(values)
    return _looked_up(values) if whole else _REFERENCE.sub(lambda match: str(_looked_up(match[0])), values)


def missing_variable(name: str, reason: str) -> ConfigError:
    """The error for a variable that the environment lacks; `reason` is a clause."""
    kept = " It stands for what an earlier command line had, which no file keeps." if name.startswith(VARIABLE) else ""
    return ConfigError(f"{name} must be set in the environment, as {reason}; it is not.{kept}")


def _looked_up(reference: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.create({"value": reference})["value"]
    except OmegaConfBaseException:
        raise missing_variable(reference[9:-1], f"the configuration asks for {reference}") from None


def _replaced(text: str, put: Put) -> str:
    """The text with every secret in its addresses, queries and assignments replaced."""
    text = _in_addresses(text, put)
    return _ASSIGNED.sub(lambda match: match[0] if match[2] == MASK else match[1] + put(match[2]), text)


def _in_addresses(text: str, put: Put) -> str:
    """The text with every secret in its addresses and queries replaced."""

    def userinfo(match: re.Match[str]) -> str:
        is_secret = ":" in match[0] or re.search(r"https?://$", text[: match.start()], re.IGNORECASE)
        return put(match[0]) if is_secret and match[0] else match[0]  # others have a user, or Azure's container, there

    def parameter(match: re.Match[str]) -> str:
        is_file = re.fullmatch(r".*key", match[1], re.IGNORECASE) and _FILE.fullmatch(match[2])  # an object's key
        return f"{match[1]}={put(match[2])}" if _is_name(match[1], _SIGNED) and not is_file else match[0]

    return _QUERY.sub(parameter, _USERINFO.sub(userinfo, text))


def _mapped(values: Any, put: Put, is_option: bool = False) -> Any:
    """The values with every secret replaced: in texts, and under keys whose name says so."""
    if isinstance(values, str):
        return _replaced(values, put)
    if isinstance(values, list | tuple):
        return [_mapped(value, put, is_option) for value in values]
    if not isinstance(values, Mapping):
        return values
    result = {}
    for key, value in values.items():
        known = value is None or isinstance(value, bool | Mapping) or value in ("", *_NO_TOKENS)
        names = _SIGNED if is_option else re.compile(rf".*({_NAMES})")
        if _is_name(str(key), names) and not known:
            result[key] = put(str(value))
        else:
            result[key] = _mapped(value, put, is_option or key == "storage_options")
    return result


def _is_name(text: str, names: re.Pattern[str]) -> bool:
    return names.fullmatch(re.sub(r"[^a-z\d]", "", text.lower())) is not None


def _leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def _remedy(key: str, shown: Any) -> str:
    """The line that works in the place of a secret."""
    text = str(shown)
    if key == "tracking.uri" and re.match("https?://", text):
        return (
            f"Write {key}={text.replace(f'{MASK}@', '')}, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the "
            "environment; or write ${oc.env:NAME} in the place of what is secret, and set NAME."
        )
    own = ", or use the library's own variables, such as AWS_SECRET_ACCESS_KEY" if "storage_options" in key else ""
    return f"Write {key}={text.replace(MASK, '${oc.env:NAME}')} and set NAME in the environment{own}."
