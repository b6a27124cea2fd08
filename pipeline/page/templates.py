"""The templates of all pages filled in, and how they write times and texts."""

import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined


def fill(template: str, **values: Any) -> str:
    """One HTML file that needs nothing else.

    Args:
        template: A file of this folder; those that extend `layout.html` share its head and its styles.
        values: What the template shows; text is escaped.

    Raises:
        jinja2.UndefinedError: The template shows what is not there.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["duration"] = duration
    return environment.get_template(template).render(**values)


def duration(seconds: float) -> str:
    """A time that a person can read.

    >>> duration(42.31), duration(3725)
    ('42 s', '62 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def configuration(config: Any) -> str:
    """The configuration as YAML, with the user and password of each address left out: the page may be passed on.

    >>> configuration({"uri": "https://ana:secret@example.org/x"})
    'uri: https://…@example.org/x\\n'
    """
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return re.sub(r"://[^/@\s]+@", "://…@", text)
