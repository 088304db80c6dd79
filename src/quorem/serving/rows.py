"""What a row of a request is: a text, a pair, words to tag, choices, a question, items; by what the run has learned."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from quorem.errors import UserError

MOST_ITEMS = 1_000  # of a session; a model reads the last ones of them
STRICT = ConfigDict(strict=True, extra="forbid")


def _text(value: str) -> str:
    """A text that can be encoded.

    Raises:
        ValueError: for half a character, which JSON can write and no text has.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise ValueError(f"has half a character (\\u{code:04x}), which is no text: remove it") from error
    return value


def _whole(value: Any) -> Any:
    """A whole number that JSON writes as 3.0, which is an integer to a JSON Schema, as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number_as_text(value: Any) -> Any:
    value = _whole(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Whole = Annotated[int, BeforeValidator(_whole)]
Text = Annotated[str, AfterValidator(_text)]
Item = Annotated[
    str, BeforeValidator(_number_as_text), AfterValidator(_text),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]  # fmt: skip


class Question(BaseModel):
    """A question and the text that answers it."""

    model_config = STRICT
    question: Text
    context: Text


class Choices(BaseModel):
    """A text and what may go with it."""

    model_config = STRICT
    text: Text
    choices: Annotated[list[Text], Field(min_length=2)]


@dataclass(frozen=True)
class Kind:
    """A kind of row.

    Attributes:
        name: what the page draws a form for.
        field: of the request's body, a list of such rows.
        schema: what pydantic accepts as a row.
        example: a row.
        what: a row in words.
        given: from a checked row to what `predict` of `quorem.load` takes.
    """

    name: str
    field: str
    schema: Any
    example: Any
    what: str
    given: Callable[[Any], Any] = lambda row: row


TEXT = Kind("text", "texts", Text, "a fine film", "a text")
PAIR = Kind(
    "pair", "rows", Annotated[list[Text], Field(min_length=2, max_length=2)], ["a fine film", "I liked it"],
    "a list of two texts", given=tuple,
)  # fmt: skip
WORDS = Kind("words", "rows", list[Text], ["Ada", "lives", "in", "Paris"], "a list of words")
CHOICES = Kind(
    "choices", "rows", Choices, {}, "a text and a list of choices", given=lambda row: (row.text, row.choices)
)
QUESTION = Kind(
    "question", "rows", Question, {"question": "Who lives in Paris?", "context": "Ada lives in Paris."},
    "a question and the context that answers it", given=lambda row: row.model_dump(),
)  # fmt: skip
ITEMS = Kind(
    "items", "sessions", Annotated[list[Item], Field(max_length=MOST_ITEMS)], [], "a list of items in the order of time"
)
KINDS = {"text": TEXT, "words": WORDS, "choices": CHOICES, "question": QUESTION}
"""By `row_kind` of a task."""


def kind_of(row_kind: str, data: Any, labels: list[str]) -> Kind:
    """The rows that a fine-tuned run predicts.

    Args:
        row_kind: of its task.
        data: the settings of the data that it was trained on.
        labels: the names of its model's labels.
    """
    if row_kind == "choices":
        each = Annotated[list[Text], Field(min_length=len(labels), max_length=len(labels))]
        exact = type("Choices", (Choices,), {"__annotations__": {"choices": each}, "__doc__": Choices.__doc__})
        example = {"text": "a fine film", "choices": [f"choice {name}" for name in labels]}
        return replace(CHOICES, schema=exact, example=example)
    return PAIR if getattr(data, "text_pair_column", None) is not None else KINDS[row_kind]


def given(kind: Kind, row: Any, read: Callable[[Any], Any]) -> Any:
    """A checked row as the model's own code takes it.

    Args:
        kind: of the row.
        row: of a request.
        read: of the task, from what Python gives to a document.

    Raises:
        UserError: if the task does not take it.
    """
    try:
        return read(kind.given(row))
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UserError(f"is not what the task reads ({type(error).__name__}): {kind.what} is needed") from error
