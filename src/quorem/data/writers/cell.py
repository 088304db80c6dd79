"""A single value of a row as it is written: in a field of CSV, or as JSON."""

import base64
import json
from datetime import date, datetime, time
from typing import Any

from quorem.data.readers.value import Number, is_nan


def to_field(value: Any) -> str:
    """A value as a field of CSV.

    Strings stay as they are, numbers as they are written, true and false are these words, what is missing (None, NaN)
    is empty, lists and objects are JSON. What no text has, NUL and halves of characters, is escaped as in JSON.
    """
    if type(value) is str:  # most of all
        return _printable(value)
    return "" if value is None or is_nan(value) else _printable(_as_text(value))


def to_json(value: Any) -> str:
    """A value as JSON, its numbers as they are written; what is missing (None, NaN) is null.

    What JSON has no kind for, such as a date, is a string. Without recursion: values may be as deep as they like.
    """
    parts, pending = list[str](), [value]
    while pending:
        item = pending.pop()
        if isinstance(item, _Written):
            parts.append(item.text)
        elif isinstance(item, dict):
            pending.append(_Written("}"))
            for place, (name, inside) in reversed(list(enumerate(item.items()))):
                pending += [inside, _Written((", " if place else "") + _quoted(str(name)) + ": ")]
            pending.append(_Written("{"))
        elif isinstance(item, list | tuple):
            pending.append(_Written("]"))
            for place, inside in reversed(list(enumerate(item))):
                pending += [inside, _Written(", " if place else "")]
            pending.append(_Written("["))
        else:
            parts.append(_scalar(item))
    return "".join(parts)


class _Written:
    """A part that is JSON already."""

    def __init__(self, text: str) -> None:
        self.text = text


def _scalar(value: Any) -> str:
    if value is None or is_nan(value):
        return "null"
    if isinstance(value, Number | bool | int):
        return _as_text(value)
    return json.dumps(value) if isinstance(value, float) else _quoted(_as_text(value))


def _quoted(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character can stand in JSON as its escape
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return to_json(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return str(value)


def _printable(text: str) -> str:
    text = text.replace("\0", "\\u0000")
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
