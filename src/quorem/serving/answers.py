"""What the server says: bodies of requests and responses by operation, and errors as one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, create_model

from quorem.errors import UserError, did_you_mean
from quorem.serving.operations import Operation
from quorem.serving.rows import STRICT

SAID = {
    "string_type": "should be a text",
    "list_type": "should be a list",
    "int_type": "should be a whole number",
    "bool_type": "should be true or false",
    "missing": "is missing",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
}
"""What is said of pydantic's errors; of all others its own message."""


class Error(BaseModel):
    """What went wrong, in one sentence, and the field of the body that is wrong."""

    error: str
    field: str | None = None


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body is not JSON."},
    408: {"model": Error, "description": "The body did not arrive in time."},
    413: {"model": Error, "description": "The body is too large."},
    415: {"model": Error, "description": "The body is not said to be JSON."},
    422: {"model": Error, "description": "A field is wrong: the error names it."},
    503: {"model": Error, "description": "Too much waits already: try again in a second."},
    504: {"model": Error, "description": "It took too long."},
}
"""What every operation may answer besides its results."""


def request_of(operation: Operation, most: int) -> type[BaseModel]:
    """The body that an operation takes: a list of rows, and its options.

    Args:
        operation: that is asked.
        most: rows of a request.
    """
    kind = operation.kind
    about = Field(min_length=1, max_length=most, description=f"each {kind.what}")
    rows = (list[kind.schema], about)  # type: ignore[name-defined]
    config = ConfigDict(**STRICT, json_schema_extra={"examples": [{kind.field: [kind.example]}]})
    made: Any = create_model  # whose keyword arguments are the fields
    name = f"{operation.name.title()}Request"
    request: type[BaseModel] = made(name, __config__=config, **{kind.field: rows, **operation.options})
    return request


def response_of(operation: Operation) -> type[BaseModel]:
    """The body that an operation answers with: a result for each row, in order."""
    config = ConfigDict(json_schema_extra={"examples": [{"results": [operation.example]}]})
    made: Any = create_model
    results = (list[operation.result], Field(description="one for each row, in order"))  # type: ignore[name-defined]
    response: type[BaseModel] = made(f"{operation.name.title()}Response", __config__=config, results=results)
    return response


def refusal(
    status: int, sentence: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as a response; what it quotes is cut and made text where it is none."""
    said = {"error": _encodable(str(UserError(sentence)))}
    if field is not None:
        said["field"] = _encodable(field)
    return JSONResponse(said, status_code=status, headers=dict(headers or {}))


def wrong_body(errors: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> JSONResponse:
    """What is said of a body that does not fit: its first error, and how many more there are.

    Args:
        errors: pydantic's, with type, loc and msg.
        fields: those that the body may have.
    """
    if errors[0]["type"] == "json_invalid":
        return refusal(400, "the body is not valid JSON: correct its syntax")
    unknown = [each for each in errors if each["type"] == "extra_forbidden"]
    first = (unknown or errors)[0]  # a misspelt field explains the missing one
    place = [each for each in first["loc"] if each != "body"]
    name = str(UserError(_name(place))) if place else "body"
    said = SAID.get(first["type"], _lower(str(first["msg"]).removeprefix("Value error, ")))
    if unknown:
        said = f"is unknown.{did_you_mean(str(place[-1]), fields)}" if len(place) == 1 else "is unknown"
    elif not place and first["type"] in ("missing", "model_type", "model_attributes_type"):
        said = f"should be an object with {fields[0]}"
    more = f" ({len(errors) - 1} more errors)" if len(errors) > 2 else " (1 more error)" if len(errors) == 2 else ""
    end = said.removesuffix(".")
    return refusal(422, f"{name}: {end}{more}", field=name)


def _name(place: Sequence[Any]) -> str:
    """A place in a body, as texts[3]."""
    name = ""
    for each in place:
        name += f"[{each}]" if isinstance(each, int) else f".{each}" if name else str(each)
    return name


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
