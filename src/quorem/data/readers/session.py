"""Lists as texts: what stands in a list is an item of a session, and tabs stand between items."""

import ast
import json
import logging
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.once import log_once
from quorem.data.readers.table import TableRow
from quorem.data.readers.value import Number, check_characters

logger = logging.getLogger(__name__)

STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"  # in one way only: others take for ever on a long list
ITEM = rf"(?:np\.\w+\()?(?:(?P<string>{STRING})|(?P<number>{NUMBER}))\)?"
EACH = re.sub(r"\?P<\w+>", "?:", ITEM)
PYTHON_LISTS = [  # lists, tuples, and numpy's arrays, which have no commas
    re.compile(rf"\[\s*(?:{EACH}(?:\s*,\s*{EACH})*\s*)?\]", re.DOTALL),
    re.compile(rf"\(\s*(?:{EACH}(?:\s*,\s*{EACH})*\s*,?\s*)?\)", re.DOTALL),
    re.compile(rf"\[\s*{EACH}(?:\s+{EACH})*\s*\]", re.DOTALL),
]


def parse_items(place: str, text: str) -> str:
    r"""The items of a list, as in ["a b", 7], with a tab between two; numbers are kept as they are written.

    Args:
        place: of the list, for the message.
        text: the list, as JSON has it, or as pandas writes one of Python or numpy; whitespace alone is an empty one.

    Raises:
        BadRow: if it is anything else, or an item is no text.
    """
    if not text.strip():
        return ""
    items = _items(text)
    if items is None:
        shown = text if len(text) <= 60 else f"{text[:60]}..."
        raise BadRow(
            f'{place}: {shown!r} is not a list of texts and numbers, of JSON or Python, as ["a b", 7]: write it as one.'
        )
    return join_items(place, items)


def warn_of_list(path: Path, row: TableRow) -> None:
    """Warn of a text that is a list of several items and is not read as one."""
    text = row.text or ""
    if text.lstrip().startswith("[") and len(_items(text) or ()) > 1:
        what = f"the text is a list ({text:.40}...): data.lists=true reads its items"
        log_once(logger, logging.WARNING, f"{path}, row {row.number}: {what}")


def _items(text: str) -> list[str] | None:
    """The items of a list, None where a text is none."""
    try:
        items = json.loads(text, strict=False, parse_int=Number, parse_float=Number)
    except (json.JSONDecodeError, RecursionError):
        return _python_items(text.strip())
    return items if is_session(items) else None


def _python_items(text: str) -> list[str] | None:
    if not any(shape.fullmatch(text) for shape in PYTHON_LISTS):
        return None
    found = re.finditer(ITEM, text, re.DOTALL)
    try:
        return [_unquoted(item["string"]) if item["string"] else Number(item["number"]) for item in found]
    except (SyntaxError, ValueError):  # a backslash before what Python does not know
        return None


def _unquoted(string: str) -> str:
    if "\\" not in string:
        return string[1:-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return str(ast.literal_eval(string))


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
