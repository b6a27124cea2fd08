"""Writes the proposed keys as a `params.yaml`, each with its reason."""

import io
import re
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML

from pipeline.suggestion.rules import Line

COMMENT_COLUMN = 34
"""Column at which reasons begin, where the key and its value are shorter."""

_SECTION = re.compile(r"([A-Za-z_]\w*)\s*:")


def text(head: Sequence[str], lines: Sequence[Line], present: str) -> str:
    """The text of the file: `head` as comments, the keys, and the sections of the `present` file that are none of theirs."""
    written = [f"# {_in_one_line(line)}" for line in head]
    above: list[str] = []
    for line in lines:
        *sections, name = line.key.split(".")
        for depth, section in enumerate(sections):
            if above[: depth + 1] != sections[: depth + 1]:
                written.append(f"{'  ' * depth}{section}:")
                above = sections[: depth + 1]
        above = sections
        entry = f"{'  ' * len(sections)}{name}: {_as_yaml(line.value)}"
        written.append(f"{entry:<{COMMENT_COLUMN - 1}} # {_in_one_line(line.reason)}" if line.reason else entry)
    taken = {line.key.split(".")[0] for line in lines}
    kept = [block for name, block in _sections(present) if name not in taken]
    return "\n".join(written + kept) + "\n"


def _in_one_line(remark: str) -> str:
    """A remark without what would end its line, or is not allowed in YAML."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in remark
    )


def _as_yaml(value: Any) -> str:
    """A value on one line."""
    buffer = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = True
    writer.width = 1_000_000
    writer.dump(value, buffer)
    return buffer.getvalue().removesuffix("...\n").strip()


def _sections(content: str) -> list[tuple[str, str]]:
    """Name and lines of each section of a YAML file whose keys stand at the beginning of their lines."""
    found: list[tuple[str, list[str]]] = []
    for line in content.splitlines():
        if match := _SECTION.match(line):
            found.append((match[1], [line]))
        elif found:
            found[-1][1].append(line)
    return [(name, "\n".join(lines).rstrip()) for name, lines in found]
