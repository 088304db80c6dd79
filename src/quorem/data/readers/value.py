"""A single value of a column or key as text."""

import json
import math
from decimal import Decimal
from typing import Any

from quorem.data.bad_rows import BadRow


class Number(str):
    """A number as it is written."""


def to_text(place: str, value: Any) -> str | None:
    """A string as it is, a number as it is written, true and false as these words, None for none and for NaN.

    Args:
        place: of the value, for the message.
        value: what a file has there.

    Raises:
        BadRow: for anything else, and for characters that no text has.
    """
    if value is None or is_nan(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise BadRow(f"{place} is {kind}, where text is needed: write it as one string.")
    text = str(value)
    check_characters(place, text)
    return text


def to_whole_text(place: str, value: Any) -> str | None:
    """As `to_text`, and a list or an object as JSON.

    Raises:
        BadRow: for characters that no text has.
    """
    return to_text(
        place, json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | tuple | dict) else value
    )


def is_nan(value: Any) -> bool:
    """Whether a value is NaN, which pandas writes for a missing value."""
    return isinstance(value, float | Decimal) and math.isnan(value)


def check_characters(place: str, text: str) -> None:
    """Accept only characters that a text can have.

    Raises:
        BadRow: for a NUL character, or half a character (a lone surrogate).
    """
    if "\0" in text:
        raise BadRow(f"{place} has a NUL character, which text has none of: remove it.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise BadRow(f"{place} has half a character (\\u{code:04x}), which is no text: remove it.") from error


def kind_of(value: Any) -> str | None:
    """What a value of JSON is, its numbers read as `Number`: integer (of 64 bits), number, boolean or string.

    A list or an object counts as a string, for it becomes one in a column; None for none.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if not isinstance(value, Number):
        return "string"
    if not value.lstrip("-").isdecimal():
        return "number"
    return "integer" if len(value) <= 20 and -(2**63) <= int(value) < 2**63 else "string"


def wider(kind: str | None, other: str | None) -> str | None:
    """The kind that has room for values of both; None is that of no value."""
    if kind == other or other is None:
        return kind
    if kind is None:
        return other
    return "number" if {kind, other} == {"integer", "number"} else "string"
