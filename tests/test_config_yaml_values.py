"""YAML 1.2 is read fast, and as DVC reads it."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.config import validation, yaml_values


def as_dvc(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize(
    "scalar",
    [
        "1e-4", "1E5", "1.5e3", "-.5", "+.5e-1", "1.", "010", "-012", "0o17", "0x1F", "0b101", "1_000", "-1_0.5", ".inf",
        "-.inf", "no", "yes", "on", "off", "y", "N", "true", "FALSE", "~", "null", "", "1:30", "1:30.5", "2026-11-27",
        "2026-11-27 10:00:00", "e5", ".e5", "1e", "+", "0x", "1.2.3", "nan", "inf", "'1e-4'", '"no"', "[1e-4, no, ~]",
        "{a: 1e3, b: off}",
    ],
)  # fmt: skip
def test_a_scalar_has_the_value_that_dvc_reads(scalar: str) -> None:
    expected, found = as_dvc(f"key: {scalar}"), yaml_values.parse(f"key: {scalar}")
    assert found == expected and type(found["key"]) is type(expected["key"])


@given(st.from_regex(r"[-+.0-9eExobn_:fa]{1,8}", fullmatch=True))
def test_whatever_looks_like_a_number_has_the_value_that_dvc_reads(scalar: str) -> None:
    results = []
    for read in (as_dvc, yaml_values.parse):
        try:
            results.append(repr(read(f"key: {scalar}")))
        except Exception:
            results.append("not read")
    assert results[0] == results[1]


TEXTS = st.text(st.characters(blacklist_characters="\x85", blacklist_categories=["Cs"]), max_size=8)
"""Without the one character that ruamel.yaml writes and does not read back."""

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_compose_writes_is_read_back(values: dict[str, Any]) -> None:
    assert yaml_values.parse(validation.values_as_yaml(values)) == values


def test_not_a_number_is_read() -> None:
    assert math.isnan(yaml_values.parse("key: .nan")["key"])


def test_a_key_of_a_merged_mapping_may_be_given_again() -> None:
    text = "{x: {b: &b {<<: &a {k: 1, l: 1}, k: 2}}, c: {<<: *b, l: 3}}"
    assert yaml_values.parse(text) == as_dvc(text) == {"x": {"b": {"k": 2, "l": 1}}, "c": {"k": 2, "l": 3}}


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="the key rate stands twice"):
        yaml_values.parse("{a: {rate: 1, rate: 2}}")
