"""Look into a network on a page of its own: drop an image, or pick one, and see what each layer makes of it.

The page shows the probabilities, a heat map, the first filters and the feature maps of every layer, and lets you compute on the
same image by hand: a 3×3 filter, padding, stride and max-pooling. Images to pick are those of the test split. Only `evaluate`
reads that split to judge a network; here its images are looked at, and choose nothing.

Command: python -m pipeline.demo                                     the package in build/package, images of build/prepare
         python -m pipeline.demo --model model.zip --prepared ''     another package, and no images to pick
         python -m pipeline.demo --model models:/shoes@champion      one from MLflow
Needs the extra `demo`: pip install -e '.[demo]'. What `python -m pipeline.serve` answers, this answers too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from pipeline.artefacts.dataset import DatasetRecord
from pipeline.delivery.classifier import BATCH, Classifier
from pipeline.delivery.decisions import Wishes
from pipeline.delivery.layers import Layer, Layers
from pipeline.errors import DataError
from pipeline.image_formats import PNG
from pipeline.metrics.convolution import convolve, max_pool
from pipeline.metrics.occlusion import occlusion
from pipeline.page import tiles
from pipeline.page.templates import fill
from pipeline.serving.answers import Prediction, rows
from pipeline.serving.command import need, parser, serve
from pipeline.stage import lineage
from pipeline.stage.program import as_program
from pipeline.storage.arrays import read_array

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pipeline.serving.app import Service

Pixels = NDArray[np.uint8]

SAMPLES = 24
"""Number of images to pick from that are shown at a time."""

MOST_PIXELS = 64
"""Height and width of the image that is computed on by hand; a larger one is made smaller."""


class LayerView(BaseModel):
    """A layer and its feature maps for an image."""

    name: str
    kind: str
    shape: str
    formula: str
    picture: str
    num_shown: int


class Look(BaseModel):
    """What the network makes of an image. Pictures are data URIs; `grey` holds the rows of the image in grey."""

    prediction: Prediction
    truth: str | None
    picture: str
    heat: str
    layers: list[LayerView]
    grey: list[list[int]]


class ByHand(BaseModel):
    """The steps of a convolution and a max-pooling, as rows of numbers, with the formula of each one's size."""

    padded: list[list[int]]
    convolved: list[list[float]]
    pooled: list[list[float]]
    formula: str
    pooled_formula: str


@dataclass(frozen=True)
class Samples:
    """Images to pick from, as the network takes them, with the names of their classes."""

    split: str
    images: Pixels
    labels: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Show the page until a signal comes."""
    made = parser("demo", __doc__, port=8001)
    prepared = lineage.dvc_folder("prepare")
    made.add_argument(
        "--prepared",
        default=str(prepared),
        metavar="FOLDER",
        help="output of prepare, whose images can be picked; '' for none",
    )
    options = made.parse_args(arguments)
    need("demo")

    def add_pages(app: "FastAPI", service: "Service") -> None:
        classifier = service.engine.classifier
        add_demo(app, service, read_samples(options.prepared, classifier, is_given=options.prepared != str(prepared)))

    serve(options, add_pages, "Open {url} in a browser.")


def read_samples(folder: str, classifier: Classifier, *, is_given: bool) -> Samples | None:
    """The images of the test split, or of the validation split where there is none; None where the usual folder has none.

    Raises:
        DataError: They are not what the package takes.
    """
    path, how = Path(folder), classifier.package.preprocessing
    if not folder or not (is_given or (path / DatasetRecord.FILE).exists()):
        return None
    record = DatasetRecord.read(path, "--prepared")
    if (record.size, record.channels, record.classes) != (how.size, how.channels, classifier.classes):
        if not is_given:
            return None
        raise DataError(
            f"--prepared must hold images for the package: {how.size} pixels, channels: {how.channels}, classes: "
            f"{len(classifier.classes)}; got {folder!r} with {record.size}, {record.channels} and {len(record.classes)}, or "
            "with classes of other names. Name the folder that the package was made from, or '' for none."
        )
    split = "test" if (path / "test").is_dir() else "val"
    labels = read_array(path / split / "labels.npy", mapped=False)
    return Samples(split, read_array(path / split / "images.npy"), [record.classes[label] for label in labels])


def add_demo(app: "FastAPI", service: "Service", samples: Samples | None) -> None:
    """Add the page and the addresses that it asks."""
    from fastapi import HTTPException, Query, Request
    from fastapi.responses import HTMLResponse, Response

    from pipeline.model.arithmetic import output_size
    from pipeline.serving.uploads import Upload

    engine = service.engine
    classifier, layers = engine.classifier, Layers(engine.classifier.package)
    page = fill(
        "demo.html", manifest=classifier.package.manifest, classes=classifier.classes,
        filters=tiles.data_uri(tiles.filters(layers.filters())), num_samples=0 if samples is None else len(samples.images),
        split="" if samples is None else samples.split, at_a_time=SAMPLES,
    )  # fmt: skip

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(
            page, headers={"Content-Security-Policy": "frame-ancestors 'none'", "Cache-Control": "no-store"}
        )

    @app.get("/samples/{index}", include_in_schema=False)
    async def sample(index: int) -> Response:
        image, _ = picked(index)
        picture = tiles.photo(image)
        return Response(picture, media_type=f"image/{'png' if picture.startswith(PNG) else 'webp'}")

    @app.get("/look/{index}", include_in_schema=False)
    async def look_at_sample(index: int) -> Response:
        image, label = picked(index)
        return as_json(await engine.run(look, (image, label)))

    @app.post("/look", include_in_schema=False)
    async def look_at_upload(request: Request) -> Response:
        async def work(images: list[Upload]) -> Look:
            pixels = await engine.prepared(images[0].content)
            if isinstance(pixels, str):
                raise HTTPException(422, f"the file must be an image: {pixels}.")
            return await engine.run(look, (pixels, None))

        return as_json(await service.answer(request, work))

    @app.post("/by-hand", include_in_schema=False)
    async def by_hand(
        request: Request,
        weights: Annotated[str, Query(max_length=200)],
        padding: Annotated[int, Query(ge=0, le=3)],
        stride: Annotated[int, Query(ge=1, le=3)],
        pooling: Annotated[int, Query(ge=1, le=4)],
    ) -> Response:
        async def work(images: list[Upload]) -> ByHand:
            kernel, grey = read_kernel(weights), images[0].content
            size = math.isqrt(len(grey))
            if kernel is None or size * size != len(grey) or not 3 <= size <= MOST_PIXELS:
                raise HTTPException(
                    422, f"there must be nine numbers, and 3 to {MOST_PIXELS} rows of as many grey pixels."
                )
            if (left := output_size(size, 3, stride, padding)) < pooling:
                raise HTTPException(
                    422, f"max-pooling must fit on what the filter leaves, {left}×{left}; got {pooling}."
                )
            return compute(np.frombuffer(grey, np.uint8).reshape(size, size), kernel, padding, stride, pooling)

        return as_json(await service.answer(request, work))

    def picked(index: int) -> tuple[Pixels, str]:
        if samples is None or not 0 <= index < len(samples.images):
            raise HTTPException(404, "there is no such image to pick.")
        return np.array(samples.images[index]), samples.labels[index]

    def look(given: tuple[Pixels, str | None]) -> Look:
        return look_at(given[0], given[1], classifier, layers)

    def as_json(answer: BaseModel) -> Response:
        return Response(answer.model_dump_json(), media_type="application/json")


def look_at(image: Pixels, truth: str | None, classifier: Classifier, layers: Layers) -> Look:
    """What the network makes of an image.

    Args:
        image: Prepared image of shape (size, size, channels).
        truth: Name of its class, where it is known.
        classifier: Classifier.
        layers: Layers of its network.
    """
    how = classifier.package.preprocessing
    decided = classifier.decisions(image[None])
    fill_colour = how.mean_colour()
    (heat,) = occlusion(
        image[None], [int(decided.labels[0])], lambda images: _probabilities(classifier, images), fill_colour
    )
    views = [_view(layer) for layer in layers.of(image)]
    return Look(
        prediction=rows(decided, classifier.classes)[0], truth=truth, picture=tiles.data_uri(tiles.photo(image)),
        heat=tiles.data_uri(tiles.heat_map(image, heat)), layers=views, grey=grey_rows(image),
    )  # fmt: skip


def _view(layer: Layer) -> LayerView:
    return LayerView(
        name=layer.name.replace("_", " "), kind=layer.kind, formula=layer.formula,
        shape=" × ".join(str(length) for length in layer.maps.shape), num_shown=min(len(layer.maps), tiles.MOST_MAPS),
        picture=tiles.data_uri(tiles.feature_maps(layer.maps)),
    )  # fmt: skip


def _probabilities(classifier: Classifier, images: Pixels) -> NDArray[np.float32]:
    batches = (images[begin : begin + BATCH] for begin in range(0, len(images), BATCH))
    return np.concatenate([classifier.decisions(batch, Wishes(tta="none")).probabilities for batch in batches])


def grey_rows(image: Pixels) -> list[list[int]]:
    """An image in grey, as rows of at most `MOST_PIXELS` numbers."""
    import cv2

    grey = image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if len(grey) > MOST_PIXELS:
        grey = cv2.resize(grey, (MOST_PIXELS, MOST_PIXELS), interpolation=cv2.INTER_AREA)
    found: list[list[int]] = grey.tolist()
    return found


def read_kernel(text: str) -> NDArray[np.float64] | None:
    """A 3×3 filter from nine numbers with commas between; None where it is none.

    >>> read_kernel("1,0,-1,1,0,-1,1,0,-1").tolist()
    [[1.0, 0.0, -1.0], [1.0, 0.0, -1.0], [1.0, 0.0, -1.0]]
    """
    try:
        numbers = np.array([float(part) for part in text.split(",")])
    except ValueError:
        return None
    return numbers.reshape(3, 3) if numbers.size == 9 and np.abs(numbers).max() <= 1e6 else None


def compute(grey: Pixels, kernel: NDArray[np.float64], padding: int, stride: int, pooling: int) -> ByHand:
    """A padding with zeros, a convolution and a max-pooling of an image of shape (size, size)."""
    from pipeline.model.arithmetic import output_formula

    padded = np.pad(grey, padding)
    convolved = convolve(padded, kernel, stride)
    pooled = max_pool(convolved, pooling)
    return ByHand(
        padded=padded.tolist(), convolved=convolved.round(4).tolist(), pooled=pooled.round(4).tolist(),
        formula=output_formula(len(grey), 3, stride, padding),
        pooled_formula=output_formula(len(convolved), pooling, pooling, 0),
    )  # fmt: skip


if __name__ == "__main__":
    with as_program():
        main()
