"""Fills in the templates of all pages, and formats durations and configurations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.config.secrets import without_secrets


def fill(template: str, **values: Any) -> str:
    """Fill in a template, as one HTML file that needs no other file.

    Args:
        template: File in this folder; those that extend `layout.html` share its head and its styles.
        values: Values by the names that the template uses; text is escaped.

    Raises:
        jinja2.UndefinedError: The template uses a name that has no value.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["duration"] = duration
    return environment.get_template(template).render(**values)


def duration(seconds: float) -> str:
    """A duration in minutes and seconds.

    >>> duration(42.31), duration(3725)
    ('42 s', '62 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def configuration(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, without secrets, as people pass the page on.

    >>> configuration({"uri": "https://ana:secret@example.org/x"})
    'uri: https://***@example.org/x\\n'
    """
    text: str = yaml.safe_dump(without_secrets(config), sort_keys=False, allow_unicode=True)
    return text
