"""What prepare found wrong with the data, gathered by problem for the page."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.data.checks import LEFT_OUT, PROBLEMS

NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Problem:
    """A row of the table.

    Attributes:
        name: Of the problem, in words.
        meaning: A clause.
        count: Images, or classes, that have it.
        action: What was done with these.
        examples: Path and evidence of the first ones.
    """

    name: str
    meaning: str
    count: int
    action: str
    examples: list[tuple[str, str]]


def problems(rows: Iterable[Mapping[str, str]]) -> list[Problem]:
    """The rows of `issues.csv` by problem and action, in their order.

    >>> [found] = problems([{"path": "a.png", "problem": "blank", "evidence": "all white", "action": "kept"}])
    >>> found.name, found.meaning, found.count, found.action, found.examples
    ('blank', 'one colour, or nearly so', 1, 'kept', [('a.png', 'all white')])
    """
    meanings = LEFT_OUT | PROBLEMS
    gathered = defaultdict(list)
    for row in rows:
        gathered[row["problem"], row["action"]].append((row["path"], row["evidence"]))
    return [
        Problem(name.replace("_", " "), meanings[name], len(found), action, found[:NUM_EXAMPLES])
        for (name, action), found in gathered.items()
    ]
