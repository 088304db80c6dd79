"""The application: an endpoint for each operation of a run, its health, its description (OpenAPI) and its pages."""

import logging
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

import quorem
from quorem.errors import UserError
from quorem.serving.answers import ERRORS, refusal, request_of, response_of, wrong_body
from quorem.serving.batching import Batcher, Overloaded
from quorem.serving.hosts import Hosts
from quorem.serving.limits import Limits
from quorem.serving.operations import Operation, Served
from quorem.serving.pages import page
from quorem.serving.settings import ServeSettings

logger = logging.getLogger(__name__)

VERSIONS = ("torch", "transformers")
MOST_PROPOSED = 50
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}  # fmt: skip


class Health(BaseModel):
    """Whether the server answers, and what it serves."""

    status: str
    run: str
    task: str
    model: str
    operations: list[str]
    versions: dict[str, str]
    waiting: int


class Proposals(BaseModel):
    """Items that begin with some characters, the most frequent first."""

    items: list[str]


def make_app(served: Served, settings: ServeSettings) -> Any:
    """The application (ASGI) that answers for a run.

    Args:
        served: what is asked.
        settings: its limits.
    """
    batcher = Batcher(max_batch=settings.max_batch, max_wait=settings.max_wait_ms / 1000, max_queue=settings.max_queue)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        try:
            yield
        finally:
            batcher.close()

    app = FastAPI(
        title=f"quorem: {served.name}", version=quorem.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description=f"{served.task}; {served.model}",
    )  # fmt: skip
    _answer_errors(app, {f"/{each.name}": [each.kind.field, *each.options] for each in served.operations})
    for operation in served.operations:
        _add_operation(app, operation, batcher, settings)
    _add_health(app, served, batcher)
    _add_pages(app, served, settings)
    return Hosts(Limits(app, max_bytes=settings.max_request_bytes, timeout=settings.timeout), settings)


def _add_operation(app: FastAPI, operation: Operation, batcher: Batcher, settings: ServeSettings) -> None:
    """An endpoint: POST with rows, results back."""
    kind, options = operation.kind, tuple(operation.options)

    async def answer(body: Any) -> Response:
        rows = []
        for place, row in enumerate(getattr(body, kind.field)):
            try:
                rows.append(operation.read(row))
            except UserError as error:
                return refusal(422, f"{kind.field}[{place}]: {error}", field=f"{kind.field}[{place}]")
        how = {name: getattr(body, name) for name in options}
        try:
            found = await batcher(
                (operation.name, *how.values()), lambda some: operation.run(some, **how), rows, timeout=settings.timeout
            )
        except UserError as error:
            return refusal(422, str(error))
        except Overloaded:
            return refusal(503, "too many rows wait already: try again in a second", headers={"retry-after": "1"})
        except TimeoutError:
            return refusal(504, f"not answered within {settings.timeout:g} seconds: send fewer or shorter rows")
        return JSONResponse({"results": found})

    answer.__annotations__["body"] = request_of(operation, settings.max_texts)
    app.post(
        f"/{operation.name}", summary=operation.what.partition(":")[0], description=operation.what,
        response_model=response_of(operation), responses=ERRORS, dependencies=[Depends(_check_is_json)],
    )(answer)  # fmt: skip


def _check_is_json(request: Request) -> None:
    """Accept only bodies that are said to be JSON, which no form of another site's page can send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "the body must be JSON: send the header content-type: application/json")


def _add_health(app: FastAPI, served: Served, batcher: Batcher) -> None:
    versions = {"quorem": quorem.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in VERSIONS}

    @app.get(
        "/health", response_model=Health, summary="Whether it answers",
        responses={503: {"model": Health, "description": "It is stopping."}},
    )  # fmt: skip
    async def health() -> Response:
        said = Health(
            status="ready" if batcher.alive else "stopping", run=served.name, task=served.task, model=served.model,
            operations=[each.name for each in served.operations], versions=versions, waiting=batcher.waiting,
        )  # fmt: skip
        return JSONResponse(said.model_dump(), status_code=200 if batcher.alive else 503)


def _add_pages(app: FastAPI, served: Served, settings: ServeSettings) -> None:
    """The page where people try the run, that of its description, and the items to pick from."""
    pages = {"/": page("index.html", served, settings), "/docs": page("docs.html", served, settings)}
    for path, text in pages.items():
        app.get(path, include_in_schema=False)(_answering(text))
    if served.items:

        @app.get("/items", response_model=Proposals, summary="Items to pick from", responses={422: ERRORS[422]})
        async def items(
            start: Annotated[str, Query(max_length=1000, description="how they begin")] = "",
            most: Annotated[int, Query(ge=1, le=MOST_PROPOSED)] = 20,
        ) -> Response:
            found = []
            for item in served.items:
                if item.startswith(start):
                    found.append(item)
                    if len(found) == most:
                        break
            return JSONResponse({"items": found})


def _answering(text: str) -> Any:
    async def answer() -> Response:
        return HTMLResponse(text, headers=HEADERS)

    return answer


def _answer_errors(app: FastAPI, fields: dict[str, list[str]]) -> None:
    """One sentence for every error."""

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        return wrong_body(error.errors(), fields.get(request.url.path, ["start", "most"]))

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> Response:
        method, path = request.method, request.url.path
        said = {
            400: "the body is not valid JSON: correct its syntax",
            404: f"{path}: there is nothing: {', '.join(fields)}, /health, /docs and /openapi.json are",
            405: f"{path}: does not take {method}",
        }
        return refusal(error.status_code, said.get(error.status_code, str(error.detail)), headers=error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refusal(500, "the server failed on this request: its log has the cause")
