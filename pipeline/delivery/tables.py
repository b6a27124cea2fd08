"""Writes answers batch by batch: CSV, JSON Lines, Parquet, or a table for people."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.delivery.classifier import Answers
from pipeline.errors import ConfigError
from pipeline.source.layout import as_utf8, extension
from pipeline.storage.tables import harmless
from pipeline.terminal import printable

FORMATS = ("csv", "jsonl", "parquet", "table")
EXTENSIONS = {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "txt": "table"}
"""Formats by the ending of a file's name."""

MOST_CLASSES, TOP = 20, 5
"""Number of classes up to which each has its probability in the table, and the number of the most probable ones beyond."""

ROW_GROUP = 4096
"""Number of rows of a Parquet file that are held before they are written."""

DIGITS = 6

Write = Callable[[Answers], None]


def format_of(chosen: str | None, out: Path | None, is_terminal: bool) -> str:
    """The format that is asked for, that of the file's name, or the one that fits where the output goes.

    Raises:
        ConfigError: The name of the file tells none, or Parquet would go to a terminal.
    """
    if chosen is None and out is not None and extension(out.name) not in EXTENSIONS:
        raise ConfigError(
            f"--out must end in .{', .'.join(EXTENSIONS)}, or --format must tell the format; got {str(out)!r}."
        )
    told = chosen or (EXTENSIONS[extension(out.name)] if out else "table" if is_terminal else "csv")
    if told == "parquet" and out is None and is_terminal:
        raise ConfigError("--format parquet must go to a file: add --out FILE.parquet, or > FILE.parquet.")
    return told


@contextmanager
def writer(kind: str, file: IO[bytes], classes: Sequence[str], top: int | None, width: int) -> Iterator[Write]:
    """Give a function that writes answers; they are complete when the block ends.

    Args:
        kind: One of `FORMATS`.
        file: File to write to.
        classes: Names of the classes.
        top: Number of the most probable classes to tell instead of all; None: all up to `MOST_CLASSES`, else `TOP`.
        width: Width of a table for people, in characters.
    """
    if top is None and len(classes) > MOST_CLASSES:
        top = TOP
    top = None if top is None else min(top, len(classes))
    if kind == "parquet":
        with _parquet(file, classes, top) as write:
            yield write
    elif kind == "csv":
        yield _csv(file, classes, top)
    elif kind == "jsonl":
        yield lambda answers: _write_lines(file, answers, classes, top)
    else:
        yield _Table(file, classes, top or min(3, len(classes)), width).write


def _csv(file: IO[bytes], classes: Sequence[str], top: int | None) -> Write:
    """Sets are joined by " | ". Texts are written so that neither a spreadsheet nor a terminal takes them for a command."""
    header = False

    def write(answers: Answers) -> None:
        nonlocal header
        columns = answers.columns()
        columns["probability"] = [None if value is None else round(value, DIGITS) for value in answers.chosen]
        columns["set"] = [None if names is None else " | ".join(names) for names in answers.sets]
        columns |= _probabilities(answers.probabilities, classes, top, rounded=True)
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        if not header:
            lines.writerow(map(harmless, columns))
        texts = {name for name in columns if name in ("image", "label", "set", "error") or name.startswith("class_")}
        cells = [list(map(harmless, column)) if name in texts else column for name, column in columns.items()]
        lines.writerows(zip(*cells, strict=True))
        file.write(text.getvalue().encode())
        header = True

    return write


def _probabilities(
    probabilities: NDArray[np.float32], classes: Sequence[str], top: int | None, rounded: bool = False
) -> dict[str, list[Any]]:
    """Columns with the probability of each class, or with the names and probabilities of the most probable ones."""

    def numbers(values: NDArray[np.float32]) -> list[float | None]:
        if rounded:
            return [None if value != value else round(value, DIGITS) for value in values.tolist()]
        return [None if value != value else value for value in values.tolist()]

    if top is None:
        return {f"p_{name}": numbers(probabilities[:, index]) for index, name in enumerate(classes)}
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    columns: dict[str, list[Any]] = {}
    for rank in range(top):
        values = np.take_along_axis(probabilities, order[:, rank : rank + 1], axis=1)[:, 0]
        is_known = (values == values).tolist()
        columns[f"class_{rank + 1}"] = [
            classes[index] if known else None for index, known in zip(order[:, rank].tolist(), is_known, strict=True)
        ]
        columns[f"probability_{rank + 1}"] = numbers(values)
    return columns


def _write_lines(file: IO[bytes], answers: Answers, classes: Sequence[str], top: int | None) -> None:
    """A JSON object for each image; `probabilities` goes from the most probable class to the least where `top` is given."""
    columns = answers.columns()
    columns["image"] = [None if name is None else as_utf8(name) for name in answers.names]
    for row, values in zip(zip(*columns.values(), strict=True), answers.probabilities, strict=True):
        record = dict(zip(columns, row, strict=True))
        order = np.argsort(-values, kind="stable")[:top] if top is not None else range(len(classes))
        if record["error"] is None:
            record["probability"] = round(record["probability"], DIGITS)
            record["probabilities"] = {classes[index]: round(float(values[index]), DIGITS) for index in order}
        file.write(json.dumps(record).encode() + b"\n")


@contextmanager
def _parquet(file: IO[bytes], classes: Sequence[str], top: int | None) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [
        ("image", pa.string()), ("label", pa.string()), ("probability", pa.float32()), ("unknown", pa.bool_()),
        ("set", pa.list_(pa.string())), ("error", pa.string()),
    ]  # fmt: skip
    names = _probabilities(np.empty((0, len(classes)), np.float32), classes, top)
    fields += [(name, pa.string() if name.startswith("class_") and top is not None else pa.float32()) for name in names]
    schema = pa.schema(fields)
    waiting: list[Any] = []
    with pq.ParquetWriter(file, schema) as parquet:

        def flush() -> None:
            if waiting:
                parquet.write_table(pa.Table.from_batches(waiting))
                waiting.clear()

        def write(answers: Answers) -> None:
            columns = answers.columns() | _probabilities(answers.probabilities, classes, top)
            columns["image"] = [None if name is None else as_utf8(name) for name in answers.names]
            waiting.append(pa.RecordBatch.from_pydict(columns, schema))
            if sum(len(batch) for batch in waiting) >= ROW_GROUP:
                flush()

        yield write
        flush()


class _Table:
    """A table for people, batch by batch, whose columns keep the widths that the first batch needs."""

    def __init__(self, file: IO[bytes], classes: Sequence[str], top: int, width: int) -> None:
        self._file, self._classes, self._top, self._width = file, classes, top, width
        self._widths: list[int] = []

    def write(self, answers: Answers) -> None:
        rows = [self._row(answers, position) for position in range(len(answers.names))]
        titles = ("image", "label", "probability", "next", "set", "note")
        if not self._widths:
            self._fix_widths(titles, rows)
            self._line(titles, "")
            self._file.write(("─" * min(self._width, sum(self._widths) + 2 * len(titles) - 2) + "\n").encode())
        for row in rows:
            self._line(row, row[-1])

    def _row(self, answers: Answers, position: int) -> tuple[str, ...]:
        name = _plain(answers.names[position] or "")
        if (why := answers.errors[position]) is not None:
            return (
                name,
                "–",
                "",
                "",
                "",
                _plain(why) if why.startswith("unreadable") else f"unreadable: {_plain(why)}",
            )
        values = answers.probabilities[position]
        label, sure, classes = answers.labels[position], answers.chosen[position], answers.sets[position]
        others = [index for index in np.argsort(-values, kind="stable").tolist() if self._classes[index] != label]
        nearest = ", ".join(f"{_plain(self._classes[index])} {values[index]:.3f}" for index in others[: self._top - 1])
        inside = "" if classes is None else _plain(", ".join(classes)) or "none"
        return (
            name,
            _plain(label or ""),
            f"{sure:.3f}",
            nearest,
            inside,
            "unknown" if answers.unknown[position] else "",
        )

    def _fix_widths(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.cells import cell_len

        widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
        widths[-1] = len("unreadable: …")
        excess = sum(widths) + 2 * len(widths) - 2 - self._width
        for column in (4, 3, 0, 1):  # the set, the next classes, the path, the label
            cut = min(max(0, excess), max(0, widths[column] - 16))
            widths[column], excess = widths[column] - cut, excess - cut
        self._widths = widths

    def _line(self, cells: Sequence[str], note: str) -> None:
        from rich.cells import cell_len

        parts = []
        for index, (cell, width) in enumerate(zip(cells[:-1], self._widths, strict=False)):
            text = _cut(cell, width, keep_end=index == 0)
            space = " " * (width - cell_len(text))
            parts.append(space + text if index == 2 else text + space)
        line = "  ".join([*parts, cells[-1]])
        self._file.write((line if note else line.rstrip()).encode() + b"\n")


def _cut(text: str, width: int, keep_end: bool) -> str:
    """The text in at most `width` cells of a terminal: its end or its beginning, with a mark where it was cut.

    >>> _cut("photos/cats/1.jpg", 8, True), _cut("Ankle boot", 6, False), _cut("猫", 2, True)
    ('…s/1.jpg', 'Ankle…', '猫')
    """
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[1:] if keep_end else text[:-1]
    return f"…{text}" if keep_end else f"{text}…"


def _plain(text: str) -> str:
    r"""The text on one line, without what a terminal would take for a command.

    >>> print(_plain("a\nb\x1b"))
    a\nb\x1b
    """
    return printable(text).replace("\n", "\\n").replace("\t", " ")
