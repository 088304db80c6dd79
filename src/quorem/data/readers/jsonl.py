"""Stream documents from JSON Lines: an object in each line, plain or gzipped.

Guarantees: one line is in memory at a time; texts arrive exactly as written; a line that is not such an object, or
lacks the key asked for, is an error with its place in the file. Only lines that are blank or whose text (or label) is
null or blank are left out, and those are counted.
"""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import decode_lines, without_line_end
from quorem.errors import UserError, did_you_mean


def read_jsonl(
    path: str | Path,
    *,
    text_column: str,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    split_column: str | None = None,
) -> Iterator[Document]:
    """The documents of a JSON Lines file, in file order; deterministic.

    The file is UTF-8 with or without byte order mark, gzipped if its name ends in .gz, with an object in each line.
    Strings are taken as they are, numbers as they are written, true and false as these words. A document's `row` is the
    number of its line.

    Args:
        path: the file.
        text_column: the key of the texts.
        label_column: the key of the class names; None for unlabelled documents.
        counts: a tally to keep up to date while streaming; blank lines are skipped rows.
        split_column: the key that says train or test; None for none.

    Raises:
        UserError: at the call if the file is missing, a folder, unreadable, empty or bad in its first line; while
            streaming for a line that is not an object, a key that is missing or twice in it, a value that is a list or
            an object, characters that no text has, and whatever `decode_lines` raises; at the end if no line could be
            used.
    """
    path = Path(path)
    lines = decode_lines(path)  # started here, so dropping it unread still closes the file
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path} is empty: write an object in each line.")
    keys = [text_column] if label_column is None else [text_column, label_column]
    if first.strip():
        _values(f"{path}, line 1", without_line_end(path, 1, first), keys)
    return _read_documents(path, chain([first], lines), keys, split_column, RowCounts() if counts is None else counts)


def _read_documents(
    path: Path, lines: Iterator[str], keys: list[str], split_column: str | None, counts: RowCounts
) -> Iterator[Document]:
    row, used = 0, False  # of this file: `counts` may already hold other files
    for row, line in enumerate(lines, start=1):
        body = without_line_end(path, row, line)
        text, label = _values(f"{path}, line {row}", body, keys) if body.strip() else (None, None)
        counts.read += 1
        if not (text and text.strip()) or (len(keys) > 1 and not (label and label.strip())):
            counts.skipped += 1
            continue
        used = True
        counts.used += 1
        split = None if split_column is None else _values(f"{path}, line {row}", body, [split_column])[0] or ""
        yield Document(text, label, row, split)
    if not used:
        raise UserError(f"{path}: all {row} lines are blank or have a blank {' or '.join(keys)}: check the file.")


def _values(place: str, body: str, keys: list[str]) -> tuple[str | None, str | None]:
    """What an object in a line has for these keys: the text, and the label or None."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{place}: the key {twice!r} is in an object twice: keep one of the two.")
        return found

    try:
        found = json.loads(
            body, strict=False, object_pairs_hook=once, parse_int=str, parse_float=str, parse_constant=str
        )
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else "too deep"
        raise UserError(f'{place}: not JSON ({where}): an object is needed, as {{"{keys[0]}": "..."}}.') from error
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise UserError(f'{place}: {kind}, where an object is needed in each line, as {{"{keys[0]}": "..."}}.')
    for key in keys:
        if key not in found:
            raise UserError(f"{place}: the object has no key {key!r}.{did_you_mean(key, found)}")
    text, *label = (_text(f"{place}: the value of {key!r}", found[key]) for key in keys)
    return text, label[0] if label else None


def _text(place: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "an object"
        raise UserError(f"{place} is {kind}, where text is needed: write it as one string.")
    if "\0" in value:
        raise UserError(f"{place} has a NUL character, which text has none of: remove it.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise UserError(f"{place} has half a character (\\u{code:04x}), which is no text: remove it.") from error
    return value
