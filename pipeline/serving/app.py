"""The app: its addresses, what each takes and answers, and a sentence for everything that it refuses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from pipeline.page.templates import fill
from pipeline.serving.answers import Health, Predictions, Problem
from pipeline.serving.engine import Engine
from pipeline.serving.limits import MEGABYTE, Limits, Load, TooBusyError
from pipeline.serving.uploads import Upload, is_form, uploads
from pipeline.views import VIEWS

Answer = TypeVar("Answer")

RETRY = {"Retry-After": "1"}

_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["file"],
                }
            },
            "image/*": _IMAGE, "application/octet-stream": _IMAGE,
        },
    }
}  # fmt: skip
_PROBLEMS: dict[int | str, Any] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "The form is damaged.",
        408: "The request did not arrive in time.",
        413: "It is too large, or holds too many files.",
        415: "Its Content-Type is none that is read.",
        421: "It names a host that the server does not know.",
        422: "It holds no image; or its only image, sent as a body, cannot be read.",
        503: "The server has too much to do, or took too long. Send it again after Retry-After seconds.",
    }.items()
}


@dataclass(frozen=True)
class Service:
    """What the addresses of an app share.

    Attributes:
        engine: What classifies.
        limits: What a client may ask for.
        load: What is held at the moment.
    """

    engine: Engine
    limits: Limits
    load: Load

    async def answer(self, request: Request, work: Callable[[list[Upload]], Awaitable[Answer]]) -> Answer:
        """The answer to the images of a request, all within the limits.

        Raises:
            HTTPException: The request cannot be met.
        """
        seconds = self.limits.timeout_seconds
        arrival = asyncio.timeout(seconds)
        try:
            async with arrival, uploads(request, self.limits, self.load) as images:
                arrival.reschedule(None)
                with self.load.images(len(images)):
                    async with asyncio.timeout(seconds):
                        return await work(images)
        except TimeoutError:
            if arrival.expired():
                late = f"a request must arrive within {seconds:g} seconds; this one did not."
                raise HTTPException(408, late) from None
            slow = f"the answer took more than {seconds:g} seconds; send fewer or smaller images."
            raise HTTPException(503, slow, RETRY) from None
        except (TooBusyError, MemoryError):
            raise HTTPException(503, "the server has too much to do; send the request again later.", RETRY) from None
        except ClientDisconnect:
            raise HTTPException(400, "the request was broken off.") from None  # which nobody reads


def create(service: Service) -> FastAPI:
    """Make the app, with `/predict`, `/health` and `/docs`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.engine.close()

    engine = service.engine
    manifest, classes = engine.classifier.package.manifest, engine.classifier.classes
    views = engine.classifier.package.thresholds.calibration.tta
    about_tta = f"Views of each image to average over: {', '.join(VIEWS)}; without it {views!r}, as in the evaluation."
    app = FastAPI(
        title=f"{manifest.model} on {manifest.name}", version=manifest.training[:12], lifespan=lifespan, docs_url=None,
        redoc_url=None, description="Classifies images with a package of goodfit.",
    )  # fmt: skip
    _answer_in_sentences(app)

    @app.post(
        "/predict",
        response_model=Predictions,
        responses=_PROBLEMS,
        openapi_extra=_BODY,
        summary="Classify images",
        response_description="The answers.",
    )
    async def predict(
        request: Request,
        tta: Annotated[str | None, Query(description=about_tta)] = None,
    ) -> Response:
        """Takes the files of a form, or one image as the body; answers for each in their order.

        A file of a form that cannot be read has its reason in the field error, and the others are answered all the same.
        """
        if tta is not None and tta not in VIEWS:
            raise HTTPException(422, f"tta must be one of {', '.join(VIEWS)}; got {tta[:100]!r}.")
        found = await service.answer(request, lambda images: engine.predictions(images, tta or views))
        if len(found) == 1 and found[0].error and not is_form(request):
            raise HTTPException(422, f"the body must be an image: {found[0].error}.")
        return Response(Predictions(predictions=found).model_dump_json(), media_type="application/json")

    @app.get("/health", summary="Whether the server answers, and with what", response_description="It does.")
    async def health() -> Health:
        return Health(status="ok", data=manifest.name, model=manifest.model, run=manifest.run_name, classes=classes)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        base = str(request.base_url)
        return HTMLResponse(fill("api.html", api=app.openapi(), limits=service.limits, megabyte=MEGABYTE, base=base))

    return app


def add_root(app: FastAPI, service: Service) -> None:
    """Let `/` say what this is, where no page stands there."""

    @app.get("/", include_in_schema=False)
    async def root() -> JSONResponse:
        return JSONResponse({"service": app.title, "predict": "POST /predict", "health": "/health", "docs": "/docs"})


def _answer_in_sentences(app: FastAPI) -> None:
    """Give every refusal the form of `Problem`."""
    plain = {404: "there is nothing here; see /docs.", 405: "this address takes another method; see /docs."}

    @app.exception_handler(AnyHTTPException)
    async def refusal(request: Request, error: AnyHTTPException) -> JSONResponse:
        is_ours = isinstance(error, HTTPException)
        detail = error.detail if is_ours else plain.get(error.status_code, error.detail)
        return JSONResponse({"detail": detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{where} must be valid: {first['msg'][:200]}."}, 422)
