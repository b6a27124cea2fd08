"""Files of all kinds of damage: each is decoded or refused in words, at once, in little memory."""

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from pipeline.data.image_headers import BadImageError
from pipeline.data.pixels import Decoded
from tests import fuzz
from tests.mutations import KINDS, mutations


def test_same_seed_makes_the_same_files_of_every_kind() -> None:
    files = list(mutations(3, 2 * len(KINDS)))
    assert files == list(mutations(3, 2 * len(KINDS)))
    assert files != list(mutations(4, 2 * len(KINDS)))
    assert Counter(mutated.kind for mutated in files) == dict.fromkeys(KINDS, 2)


def test_mutated_files_are_decoded_or_refused() -> None:
    assert list(fuzz.findings(seed=0, count=325)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thousands_of_mutated_files_take_bounded_memory(seed: int) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "2000", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 0 wrong" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (BadImageError("unreadable", "it is old"), r"\(good\): it is good, and was refused: unreadable: it is old"),
        (KeyError("x"), r"\(truncated\): it raised KeyError\('x'\)"),
        (None, r"\(truncated\): it must be refused, and was decoded"),
    ],
)
def test_fuzz_tells_what_went_wrong(answer: Exception | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(data: bytes, max_pixels: int) -> Decoded:
        if answer is not None:
            raise answer
        return Decoded(np.zeros((2, 2, 1), np.uint8))

    monkeypatch.setattr(fuzz, "decode", decode)
    assert re.search(words, "\n".join(fuzz.findings(seed=0, count=len(KINDS))))
