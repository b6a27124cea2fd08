"""Base class of the schema's sections, the types of their values, and the messages for what does not fit them."""

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from pipeline.config.secrets import without_secrets
from pipeline.errors import ConfigError


class Section(BaseModel):
    """A mapping of the configuration. All its keys are required; a number given as text, or as true, is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True, allow_inf_nan=False)
    # defer_build: the sections build as parts of `Config`, not each by itself as well.


Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]

_SINGULAR = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}
_PLURAL = {str: "texts", float: "numbers", Any: "anything"}


def refused(key: str, expectation: str, value: object, choices: Iterable[str] = ()) -> ConfigError:
    """The error for a value that `key` does not take, which proposes one of `choices` if it is similar."""
    shown = without_secrets(value)
    return ConfigError(
        f"{key} must be {expectation}; got {shown!r}.{nearest(value, choices)}"
        f" Change it in params.yaml or on the command line."
    )


def missing(key: str) -> ConfigError:
    """The error for a required key that has no value."""
    return ConfigError(f"{key} is missing. Set it in conf/, in params.yaml or as {key}=… on the command line.")


def nearest(word: object, choices: Iterable[str]) -> str:
    """A question that offers the most similar choice, or nothing.

    >>> nearest("lenett", ["convnet", "lenet"])
    " Did you mean 'lenet'?"
    """
    matches = difflib.get_close_matches(str(word), list(choices), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def options(field: FieldInfo) -> dict[str, type[Section]]:
    """The sections that a group with options chooses from, by name; empty for any other field."""
    if not field.discriminator:
        return {}
    return {name: section for section in get_args(field.annotation) for name in _choices(section.model_fields["name"])}


def explain(error: ValidationError, schema: type[Section], values: Mapping[str, Any]) -> ConfigError:
    """The first of pydantic's errors as a message for the user; an unknown key comes before all others."""
    first = min(error.errors(), key=lambda details: details["type"] != "extra_forbidden")
    if first["type"] == "value_error":  # raised by a validator of ours
        return ConfigError(str(first["ctx"]["error"]))
    path, section, field, value = _locate(first["loc"], schema, values)
    key = ".".join(path)
    if first["type"] == "missing":
        return missing(key)
    if field is None:
        parent = ".".join(path[:-1])
        among = f"The keys of {parent} are" if parent else "The keys are"
        return ConfigError(
            f"{key} is not a configuration key; got {key}={without_secrets(value)!r}.{nearest(path[-1], section.model_fields)} "
            f"{among} {', '.join(section.model_fields)}."
        )
    if options(field):
        name = value.get("name") if isinstance(value, Mapping) else value
        return refused(f"{key}.name", "one of " + ", ".join(options(field)), name, options(field))
    return refused(key, field.description or expected(field.annotation, field.metadata), value, _choices(field))


def _locate(
    location: Sequence[int | str], section: type[Section], values: Any
) -> tuple[list[str], type[Section], FieldInfo | None, Any]:
    """The place of an error: path of the key, section that holds it, field (None where the key is unknown), and value.

    pydantic's `location` has keys, the name of the option after a group with options, and parts of the value.
    """
    path: list[str] = []
    field, parts = None, iter(location)
    for part in parts:
        path.append(str(part))
        field = section.model_fields.get(str(part))
        values = values.get(part)
        if field is None:
            break
        inner = options(field).get(str(next(parts, ""))) if field.discriminator else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, Section) and isinstance(values, Mapping)):
            break
        section = inner
    return path, section, field, values


def _choices(field: FieldInfo) -> list[str]:
    """The texts that a field takes, where these are listed."""
    kinds = (field.annotation, *get_args(field.annotation))
    return [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]


def expected(kind: Any, constraints: Iterable[Any] = ()) -> str:
    """The values of a type in words.

    >>> print(expected(Count | None), expected(Fraction), expected(dict[str, list[str]]), sep="; ")
    a whole number >= 1 or null; a number in [0, 1); a mapping of texts to lists of texts
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return expected(arguments[0], [bound for details in arguments[1:] for bound in details.metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(expected(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(arguments) if len(arguments) > 1 else str(arguments[0])
    if origin is list:
        return "a list" if arguments[0] is Any else f"a list of {_plural(arguments[0])}"
    if origin is dict:
        return f"a mapping of texts to {_plural(arguments[1])}"
    if issubclass(kind, Section):
        return "a mapping of " + ", ".join(kind.model_fields)
    return _SINGULAR[kind] + _range(constraints)


def _plural(kind: Any) -> str:
    if get_origin(kind) is not list:
        return _PLURAL[kind]
    (member,) = get_args(kind)
    return "lists" if member is Any else f"lists of {_plural(member)}"


def _range(constraints: Iterable[Any]) -> str:
    """The bounds of a number, of which the upper may be missing."""
    names = ("ge", "gt", "le", "lt")
    bounds = {name: getattr(bound, name) for bound in constraints for name in names if hasattr(bound, name)}
    if not bounds:
        return ""
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if high is None:
        return f" {'>=' if 'ge' in bounds else '>'} {low}"
    return f" in {'[' if 'ge' in bounds else '('}{low}, {high}{']' if 'le' in bounds else ')'}"
