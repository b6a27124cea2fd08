"""Writes the report in Markdown, as a comment on a pull request: verdict, accuracy, concerns, and what to try."""

import re

from pipeline.config.grammar import experiment
from pipeline.page import summary
from pipeline.page.inputs import ReportInputs
from pipeline.terminal import printable

MARK = "<!-- goodfit -->"
"""First line of the comment, by which the next run finds and replaces it."""

NUM_PRESCRIPTIONS = 3

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$-])")
_REFERENCES = re.compile(r"[@#]|:(?=//)|www(?=\.)", re.IGNORECASE)
_WORD_JOINER = "\u2060"


def comment(inputs: ReportInputs) -> str:
    """The comment as GitHub's Markdown. Names of classes and files in it are text, whatever they hold."""
    diagnosis = inputs.diagnosis
    lines = [
        MARK,
        f"### {plain(diagnosis.verdict.replace('_', ' ').capitalize())}",
        "",
        plain(f"{summary.fit_line(inputs)} {diagnosis.meaning}"),
        "",
        plain(summary.accuracy_line(inputs)),
        "",
    ]
    if inputs.concerns:
        lines += ["**Concerns**", ""]
        lines += [
            plain(f"{each.name.replace('_', ' ')}: {each.evidence}; {each.step}.", "- ") for each in inputs.concerns
        ]
    else:
        lines.append("No concerns.")
    overrides = [each.override for each in diagnosis.prescriptions[:NUM_PRESCRIPTIONS]]
    tried = [experiment(override) for override in overrides] or [summary.next_command(inputs)]
    lines += ["", "Worth a try:", "", "```sh", *map(printable, tried), "```"]
    return "\n".join(lines) + "\n"


def plain(text: str, prefix: str = "") -> str:
    r"""Text that Markdown shows as it is: no markup, and no link, mention or issue on GitHub.

    Args:
        text: The text; line breaks become spaces.
        prefix: Markdown to put before it.

    >>> print(plain("'<b>a|b</b>' is 9.0% of test", "- "))
    - '\<b\>a\|b\</b\>' is 9.0% of test
    >>> ascii(plain("@all #1 https://x.org"))
    "'@\\u2060all \\\\#\\u20601 https:\\u2060//x.org'"
    """
    shown = _REFERENCES.sub(lambda found: found[0] + _WORD_JOINER, " ".join(printable(text).split()))
    return prefix + _MARKUP.sub(r"\\\1", shown)
