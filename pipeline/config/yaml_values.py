"""Reads YAML 1.2 with libyaml, about 15 times as fast as ruamel.yaml, whose values it gives.

PyYAML by itself reads YAML 1.1, in which `1e-4` is a text and `no` is false; DVC, and so this project, reads 1.2.
"""

import re
from typing import Any

import yaml

YAML_1_1: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's loader; the second where PyYAML was built without libyaml."""

_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?[0-9][0-9_]*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|[-+]?\.[0-9_]+([eE][-+][0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "int": (r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9_]+)", "-+0123456789"),
}
"""The plain scalars of YAML 1.2, by type: a regular expression, and their first characters."""

_BASES = {"0b": 2, "0o": 8, "0x": 16}
_TAG = "tag:yaml.org,2002:"


class _Loader(YAML_1_1):
    """Knows the plain scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {  # those that are alike in both versions
    first: [each for each in resolvers if each[0] in (f"{_TAG}merge", f"{_TAG}timestamp")]
    for first, resolvers in YAML_1_1.yaml_implicit_resolvers.items()
}


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "")
    return int(digits, _BASES.get(digits.lstrip("+-")[:2], 10))


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor(f"{_TAG}int", _integer)


def parse(text: str) -> Any:
    """The content of a YAML 1.2 text.

    >>> parse("{rate: 1e-4, mirrored: no, folds: 010}")
    {'rate': 0.0001, 'mirrored': 'no', 'folds': 10}

    Raises:
        yaml.MarkedYAMLError: The text is not YAML, or has a key twice.
    """
    root = yaml.compose(text, _Loader)
    twice = repeated_key(root)
    if twice is not None:
        raise yaml.MarkedYAMLError(problem=f"the key {twice[1].value} stands twice", problem_mark=twice[1].start_mark)
    return None if root is None else _Loader("").construct_document(root)


def repeated_key(root: yaml.Node | None) -> tuple[yaml.Node, yaml.Node] | None:
    """The first key that stands twice in one mapping of a document, at both places; None where there is none."""
    nodes, seen = [root], set()
    for node in nodes:
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, yaml.Node] = {}
            for key, value in node.value:
                if first.setdefault(str(key.value), key) is not key:
                    return first[str(key.value)], key
                nodes.append(value)
    return None
