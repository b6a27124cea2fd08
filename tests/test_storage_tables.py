"""CSV files in which names of files and classes do nothing but stand there."""

import csv
import io
from pathlib import Path

import pytest

from pipeline.storage.tables import to_csv, write_csv


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('=HYPERLINK("http://example.org")', '\'=HYPERLINK("http://example.org")'),
        *(("+1+1", "'+1+1"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1")),
        ("\x1b]0;title\x07a\x1b[2J", "\\x1b]0;title\\x07a\\x1b[2J"),
        ("gnp.exe\u202e", "gnp.exe\\u202e"),
        *(
            ("-0.5", "-0.5"),
            ("1e-4", "1e-4"),
            ("a, b", "a, b"),
            ("two\nlines", "two\nlines"),
            ("猫", "猫"),
            ("it's", "it's"),
        ),
    ],
)
def test_no_cell_is_a_formula_or_a_command(name: str, cell: str) -> None:
    (row,) = list(csv.reader(io.StringIO(to_csv(("name",), [(name,)]), newline="")))[1:]
    assert row == [cell]


def test_numbers_read_back_bit_for_bit(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("value",), [(-0.1 - 0.2,), (-3,), (None,)])
    assert (tmp_path / "a.csv").read_text() == 'value\n-0.30000000000000004\n-3\n""\n'
