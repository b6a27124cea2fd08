"""Classifies the images of many requests at once: they are decoded in threads, and those that wait go together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from pipeline.data.image_headers import BOMB
from pipeline.delivery.classifier import BATCH, Classifier, Pixels
from pipeline.delivery.decisions import Wishes
from pipeline.delivery.images import preparer
from pipeline.serving.answers import Prediction, rows
from pipeline.serving.uploads import Upload

Argument = TypeVar("Argument")
Result = TypeVar("Result")


LARGE = 16_000_000
"""Number of pixels above which images are decoded one at a time."""


class _Waiting(NamedTuple):
    tta: str
    pixels: Pixels
    answer: "asyncio.Future[Prediction]"


class Engine:
    """A classifier for many requests at once. Its methods belong to one event loop.

    Images that arrive while the network works wait, and go to it together, up to `BATCH` of them: under load its costs for each
    call are shared, and without load nothing waits. Images of more than `LARGE` pixels wait for each other, so that memory has
    a limit, and keep no others waiting.
    """

    def __init__(self, classifier: Classifier, max_pixels: int, threads: int) -> None:
        self.classifier = classifier
        how = classifier.package.preprocessing
        most = min(how.max_pixels, max_pixels)
        self._has_large = most > LARGE
        self._prepare = preparer(how.model_copy(update={"max_pixels": min(most, LARGE)}))
        self._prepare_large = preparer(how.model_copy(update={"max_pixels": most}))
        self._decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._decoding_large = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        self._network = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._waiting: list[_Waiting] = []
        self._run: asyncio.Task[None] | None = None

    async def predictions(self, images: Sequence[Upload], tta: str) -> list[Prediction]:
        """The answers for images, in their order.

        Args:
            images: Images.
            tta: Views of each image to average over.
        """
        return list(await asyncio.gather(*(self._prediction(image, tta) for image in images)))

    async def prepared(self, content: bytes) -> Pixels | str:
        """The image as the network takes it, or a sentence why it cannot be read."""
        found = await self.run(self._prepare, content)
        if isinstance(found, str) and self._has_large and found.startswith(BOMB):  # told from its header
            found = await asyncio.get_running_loop().run_in_executor(self._decoding_large, self._prepare_large, content)
        return found if isinstance(found, str) else found.pixels

    async def decided(self, pixels: Pixels, tta: str) -> Prediction:
        """The answer for a prepared image, without a name."""
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(tta, pixels, answer))
        if self._run is None:
            self._run = asyncio.create_task(self._answer_waiting())
        return await answer

    async def run(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """The result of a function, which runs in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding, function, argument)

    def close(self) -> None:
        """End the threads, once they have done what they work on."""
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._decoding_large.shutdown(wait=False, cancel_futures=True)
        self._network.shutdown(wait=False, cancel_futures=True)

    async def _prediction(self, image: Upload, tta: str) -> Prediction:
        pixels = await self.prepared(image.content)
        if isinstance(pixels, str):
            return Prediction(name=image.name or None, error=pixels)
        found = await self.decided(pixels, tta)
        found.name = image.name or None
        return found

    async def _answer_waiting(self) -> None:
        """Give to the network what waits, until nothing does."""
        loop = asyncio.get_running_loop()
        try:
            while taken := self._next():
                pixels = [pixels for _, pixels, _ in taken]
                try:
                    found = await loop.run_in_executor(self._network, self._decide, pixels, taken[0].tta)
                except Exception as error:
                    for each in taken:
                        if not each.answer.cancelled():
                            each.answer.set_exception(error)
                    continue
                for each, prediction in zip(taken, found, strict=True):
                    if not each.answer.cancelled():
                        each.answer.set_result(prediction)
        finally:
            self._run = None  # in the same step in which nothing waits, so that the next image begins a new run

    def _next(self) -> list["_Waiting"]:
        """The images that wait for the same views as the first one, at most `BATCH` of them."""
        taken: list[_Waiting] = []
        left: list[_Waiting] = []
        for each in self._waiting:
            if not each.answer.cancelled():
                fits = not taken or (each.tta == taken[0].tta and len(taken) < BATCH)
                (taken if fits else left).append(each)
        self._waiting = left
        return taken

    def _decide(self, pixels: list[Pixels], tta: str) -> list[Prediction]:
        return rows(self.classifier.decisions(np.stack(pixels), Wishes(tta=tta)), self.classifier.classes)
