"""Images of many requests at once: large ones wait for each other, and others do not wait for them."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.artefacts.package import PreprocessingRecord
from pipeline.delivery import Classifier
from pipeline.delivery.images import preparer
from pipeline.serving import engine
from pipeline.serving.engine import Engine
from pipeline.serving.uploads import Upload


def png(side: int) -> bytes:
    return cv2.imencode(".png", np.full((side, side, 1), 200, np.uint8))[1].tobytes()


@pytest.fixture
def most_large(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of large images that were decoded at once, where one of more than 400 pixels is large."""
    at_once, now, lock = [0], [0], threading.Lock()

    def counting(record: PreprocessingRecord) -> Callable[[Any], Any]:
        prepare = preparer(record)

        def counted(image: Any) -> Any:
            if record.max_pixels == engine.LARGE:
                return prepare(image)
            with lock:
                now[0] += 1
                at_once.append(now[0])
            try:
                return prepare(image)
            finally:
                with lock:
                    now[0] -= 1

        return counted

    monkeypatch.setattr(engine, "LARGE", 400)
    monkeypatch.setattr(engine, "preparer", counting)
    return at_once


def errors(package: Path, max_pixels: int, sides: list[int]) -> list[str | None]:
    async def answers() -> list[str | None]:
        made = Engine(Classifier.load(package, 1), max_pixels, threads=4)
        found = await made.predictions([Upload("", png(side)) for side in sides], "none")
        made.close()
        return [each.error for each in found]

    return asyncio.run(answers())


def test_large_images_are_decoded_one_at_a_time(package: Path, most_large: list[int]) -> None:
    assert errors(package, 10_000, [100, 20, 90] * 10) == [None] * 30
    assert len(most_large) == 21 and max(most_large) == 1


def test_a_limit_below_the_size_of_large_ones_is_the_only_one(package: Path, most_large: list[int]) -> None:
    assert errors(package, 300, [10, 20]) == [None, "bomb: its header promises 20×20 pixels, more than 300"]
    assert errors(package, 900, [31]) == ["bomb: its header promises 31×31 pixels, more than 900"]
    assert most_large[-1] == 1
