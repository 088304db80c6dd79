"""Stream documents from JSON Lines: an object in each line.

Guarantees: one line is in memory at a time; texts arrive exactly as written; a line that is not such an object, or
lacks the key asked for, is bad: an error with its place in the file, or skipped and counted. Besides, only lines that
are blank or whose text (or label) is null or blank are left out, and those are counted.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.readers.lines import numbered_lines
from quorem.data.readers.session import is_session, join_items
from quorem.data.readers.table import MORE, TEXT, ColumnNames, Table, TableRow
from quorem.data.readers.value import Number, kind_of, to_text, to_whole_text, wider
from quorem.errors import UserError, did_you_mean


@dataclass(slots=True)
class JsonRow(TableRow):
    """An object.

    Attributes:
        body: as it is written, without what stands around it.
        found: its keys and values, numbers as `Number`.
    """

    body: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    def values(self, names: Sequence[str]) -> Sequence[Any]:
        """What it has for these keys, None for what it lacks."""
        return [self.found.get(name) for name in names]


def open_jsonl(
    path: Path, names: ColumnNames, *, counts: RowCounts | None = None, encoding: str | None = None
) -> Table:
    """A JSON Lines file as a table: each object as it is written. A row has the number of its line.

    Strings are taken as they are, numbers as they are written, true and false as these words; NaN is null. A text may
    be a list of strings and numbers, a session: its items are the text, with tabs between them, and an empty one is
    blank. Further columns may have lists and objects: they are JSON. Blank lines are blank rows, but none of a table
    that will be written again.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        names: of the keys to read.
        counts: a tally that is to know how much of the file is read.
        encoding: a Python codec; None for UTF-8. A byte order mark overrides it.

    Raises:
        UserError: if the file is missing, a folder, unreadable, or empty. Bad rows are lines that are no object, a key
            that is missing or twice in one, a value that is another list or an object, characters that no text has, and
            whatever `numbered_lines` finds.
    """
    lines = numbered_lines(path, encoding, counts)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path} is empty: write an object in each line.")
    text_column = _text_column(path, encoding, names.text)
    rows = _rows(path, chain([first], lines), names.in_order(text_column))
    if names.whole:
        rows = (row for row in rows if isinstance(row, JsonRow | BadRow))
    return Table(text_column, None, rows, survey=lambda: _survey(path, encoding, text_column))


def _text_column(path: Path, encoding: str | None, candidates: Sequence[str]) -> str:
    """The first of the keys that the first object has, or else the first of them."""
    if len(candidates) > 1:
        rows = _rows(path, numbered_lines(path, encoding), [None] * MORE)
        first = next((row for row in rows if isinstance(row, JsonRow)), JsonRow(0))
        return next((name for name in candidates if name in first.found), candidates[0])
    return candidates[0]


def _rows(
    path: Path, lines: Iterator[tuple[int, str | BadRow]], keys: Sequence[str | None]
) -> Iterator[TableRow | BadRow]:
    for number, line in lines:
        try:
            if isinstance(line, BadRow):
                raise line
            place, body = f"{path}, line {number}", line.strip()
            found = _parse(place, line, str(keys[TEXT] or "text")) if body else {}
            values = _values(place, found, keys) if body else []
        except BadRow as error:
            yield error
        else:
            yield JsonRow.of(number, values, keys=found.keys(), body=body, found=found) if body else TableRow(number)


def _survey(path: Path, encoding: str | None, text_column: str) -> dict[str, str | None]:
    """All keys that objects have, in the order in which they are met, each with a kind that has room for its values."""
    kinds: dict[str, str | None] = {}
    for row in _rows(path, numbered_lines(path, encoding), ColumnNames().in_order(text_column)):
        if isinstance(row, JsonRow):
            for name, value in row.found.items():
                kinds[name] = wider(kinds.get(name), kind_of(value))
    return kinds


def _of_array(body: str) -> str:
    array = " A JSON array is no JSON Lines: write each of its objects in a line, as jq -c '.[]' does."
    return array if body.lstrip().startswith("[") else ""


def _constant(name: str) -> Number | None:
    return None if name == "NaN" else Number(name)  # what is missing, as pandas writes it


def _parse(place: str, body: str, key: str) -> dict[str, Any]:
    """The object in a line; `key` is one that it should have, for the message."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            last = {name: at for at, name in enumerate(names)}
            twice = next(name for at, name in enumerate(names) if last[name] != at)
            raise BadRow(f"{place}: the key {twice!r} is in an object twice: keep one of the two.")
        return found

    try:
        found = json.loads(
            body, strict=False, object_pairs_hook=once, parse_int=Number, parse_float=Number, parse_constant=_constant
        )
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else "too deep"
        needed = f'an object is needed, as {{"{key}": "..."}}.{_of_array(body)}'
        raise BadRow(f"{place}: not JSON ({where}): {needed}") from error
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise BadRow(
            f'{place}: {kind}, where an object is needed in each line, as {{"{key}": "..."}}.{_of_array(body)}'
        )
    return found


def _values(place: str, found: dict[str, Any], keys: Sequence[str | None]) -> list[str | None]:
    """What an object has for the keys of `ColumnNames.in_order`; further ones may be lists and objects."""
    values: list[str | None] = []
    for number, key in enumerate(keys):
        if key is None:
            values.append(None)
            continue
        if key not in found:
            raise BadRow(f"{place}: the object has no key {key!r}.{did_you_mean(key, found)}")
        value = found[key]
        read = to_whole_text if number >= MORE else join_items if number == TEXT and is_session(value) else to_text
        values.append(read(f"{place}: the value of {key!r}", value))
    return values
