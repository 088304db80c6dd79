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
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import numbered_lines
from quorem.data.readers.session import is_session, join_items
from quorem.data.readers.table import Table, TableRow
from quorem.data.readers.tally import Row, asked_columns, row_of, to_documents
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


def read_jsonl(
    path: str | Path,
    *,
    text_column: str,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    split_column: str | None = None,
    more_columns: Sequence[str] = (),
    bad_rows: str = "error",
    encoding: str | None = None,
) -> Iterator[Document]:
    """The documents of a JSON Lines file, in file order; deterministic.

    Strings are taken as they are, numbers as they are written, true and false as these words; NaN is null. A text may
    be a list of strings and numbers, a session: its items are the text, with tabs between them, and an empty one is
    blank. A document's `row` is the number of its line.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        text_column: the key of the texts.
        label_column: the key of the class names; None for unlabelled documents.
        counts: a tally to keep up to date while streaming; blank lines are skipped rows.
        split_column: the key that says train or test; None for none.
        more_columns: further keys, for `Document.more`; lists and objects are JSON there.
        bad_rows: error, or skip: a bad line is left out and counted.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.

    Raises:
        UserError: at the call if the file is missing, a folder, unreadable, empty or bad in its first line; while
            streaming (unless bad rows are skipped) for a line that is not an object, a key that is missing or twice in
            it, a value that is another list or an object, characters that no text has, and whatever `numbered_lines`
            has found; at the end if no line can be used.
    """
    path = Path(path)
    keys = asked_columns(text_column, label_column, split_column, more_columns)
    rows = _rows(path, numbered_lines(path, encoding, counts), keys)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} is empty: write an object in each line.")
    if isinstance(first, BadRow) and bad_rows == "error":
        raise first
    needed = text_column if label_column is None else f"{text_column} or {label_column}"
    return to_documents(
        path,
        chain([first], rows),
        labelled=label_column is not None,
        counts=counts,
        bad_rows=bad_rows,
        unusable=f"lines are blank or have a blank {needed}: check the file.",
        empty="is empty.",
    )


def read_jsonl_table(path: str | Path, *, text_columns: Sequence[str], encoding: str | None = None) -> Table:
    """A JSON Lines file as a table: each object as it is written; blank lines are no rows.

    Args:
        path: the file.
        text_columns: keys of which the first that the first object has is that of the texts.
        encoding: as in `read_jsonl`.

    Raises:
        UserError: at the call if the file is missing, a folder, unreadable, or empty.
    """
    path = Path(path)
    start = next(numbered_lines(path, encoding), None)
    if start is None:
        raise UserError(f"{path} is empty: write an object in each line.")
    objects = (each for each in _objects(path, encoding, text_columns[0]) if not isinstance(each, BadRow))
    first = next(objects, None)
    text_column = next((name for name in text_columns if first and name in first.found), text_columns[0])
    rows = _table_rows(path, encoding, text_column)
    return Table(text_column, None, rows, survey=lambda: _survey(path, encoding, text_column))


def _rows(path: Path, lines: Iterator[tuple[int, str | BadRow]], keys: dict[str, str]) -> Iterator[Row | BadRow]:
    names = list(keys.values())
    for number, line in lines:
        try:
            if isinstance(line, BadRow):
                raise line
            place = f"{path}, line {number}"
            whole = [name.startswith("more ") for name in keys]
            values = _values(place, _parse(place, line, names[0]), names, whole) if line.strip() else ()
        except BadRow as error:
            yield error
        else:
            yield row_of(number, dict(zip(keys, values, strict=False)))  # a blank line has none


def _objects(path: Path, encoding: str | None, key: str) -> Iterator[JsonRow | BadRow]:
    """The objects of a file, without their texts."""
    for number, line in numbered_lines(path, encoding):
        try:
            if isinstance(line, BadRow):
                raise line
            if line.strip():
                found = _parse(f"{path}, line {number}", line, key)
                yield JsonRow(number, None, keys=found.keys(), body=line.strip(), found=found)
        except BadRow as error:
            yield error


def _table_rows(path: Path, encoding: str | None, text_column: str) -> Iterator[TableRow | BadRow]:
    for row in _objects(path, encoding, text_column):
        try:
            if not isinstance(row, BadRow):
                (row.text,) = _values(f"{path}, line {row.number}", row.found, [text_column])
        except BadRow as error:
            yield error
        else:
            yield row


def _survey(path: Path, encoding: str | None, text_column: str) -> dict[str, str | None]:
    """All keys that objects have, in the order in which they are met, each with a kind that has room for its values."""
    kinds: dict[str, str | None] = {}
    for row in _table_rows(path, encoding, text_column):
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


def _values(place: str, found: dict[str, Any], keys: list[str], whole: Sequence[bool] = ()) -> list[str | None]:
    """What an object has for these keys: the text, and the others asked for, lists and all where `whole` says so."""
    for key in keys:
        if key not in found:
            raise BadRow(f"{place}: the object has no key {key!r}.{did_you_mean(key, found)}")
    text, *others = [found[key] for key in keys]
    first, *places = [f"{place}: the value of {key!r}" for key in keys]
    readers = [to_whole_text if each else to_text for each in whole[1:]]
    read = join_items if is_session(text) else to_text
    return [read(first, text), *(reader(*each) for reader, *each in zip(readers, places, others, strict=True))]
