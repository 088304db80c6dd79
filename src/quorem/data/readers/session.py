"""Lists as texts: what stands in a list is an item of a session, and tabs stand between items."""

import json
from collections.abc import Iterable
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.readers.value import Number, check_characters


def parse_items(place: str, text: str) -> str:
    r"""The items of a JSON list, as in ["a b", 7], with a tab between two; numbers are kept as they are written.

    Args:
        place: of the list, for the message.
        text: the list; whitespace alone is an empty one.

    Raises:
        BadRow: if it is anything else, or an item is no text.
    """
    if not text.strip():
        return ""
    try:
        items = json.loads(text, strict=False, parse_int=Number, parse_float=Number)
    except (json.JSONDecodeError, RecursionError):
        items = None
    if not is_session(items):
        shown = text if len(text) <= 60 else f"{text[:60]}..."
        raise BadRow(f'{place}: {shown!r} is not a JSON list of texts and numbers, as ["a b", 7]: write it as one.')
    return join_items(place, items)


def is_session(value: Any) -> bool:
    """Whether a value of JSON, its numbers read as `Number`, is a list of texts and numbers."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def join_items(place: str, items: Iterable[str]) -> str:
    r"""The items with a tab between two, for a tokenizer of items (tokenizer.separator=\t where items have spaces).

    Args:
        place: of the list, for the message.
        items: texts; empty ones are left out, as between two separators.

    Raises:
        BadRow: for an item with a tab, or with a character that no text has.
    """
    kept = [item for item in items if item]
    for item in kept:
        check_characters(place, item)
        if "\t" in item:
            raise BadRow(f"{place} has an item with a tab ({item!r}), which is what separates items: replace it.")
    return "\t".join(kept)
