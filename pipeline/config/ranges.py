"""Fields of the schema that say what values they take."""

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any

from omegaconf import MISSING


def checked(expected: str, accepts: Callable[[Any], bool]) -> Any:
    """A required field whose value must satisfy `accepts`; `expected` says so in words."""
    return field(default=MISSING, metadata={"expected": expected, "accepts": accepts})


def above(bound: float) -> Any:
    return checked(f"a number > {bound}", lambda value: bound < value < math.inf)


def at_least(bound: float) -> Any:
    return checked(f"a number >= {bound}", lambda value: bound <= value < math.inf)


def positive(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < math.inf


def fraction() -> Any:
    return checked("a number in [0, 1)", lambda value: 0 <= value < 1)


def one_of(*choices: str) -> Any:
    return checked("one of " + ", ".join(choices), lambda value: value in choices)
