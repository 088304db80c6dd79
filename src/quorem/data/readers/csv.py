"""Stream documents from a CSV or TSV file.

Guarantees: one record is in memory at a time; texts arrive exactly as written; a row that cannot be read is an error
with its place in the file or, where bad rows are skipped, counted and listed; never a silently shifted, cut or dropped
row. Besides, only rows without text (or without the label asked for) are left out, and those are counted.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.readers.dialect import find_dialect
from quorem.data.readers.lines import Lines
from quorem.data.readers.records import Dialect, Record, read_records
from quorem.data.readers.session import parse_items
from quorem.data.readers.table import Column, ColumnNames, Table, TableRow
from quorem.errors import UserError, did_you_mean


def open_csv(
    path: Path,
    names: ColumnNames,
    *,
    counts: RowCounts | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    lists: bool = False,
    quoting: str = "auto",
    header: bool = True,
) -> Table:
    """A CSV or TSV file as a table: its fields exactly as they are, texts and labels neither stripped nor changed.

    Args:
        path: the file; see `read_rows` for what it may look like.
        names: of the columns to read.
        counts: a tally that is to know how much of the file is read.
        encoding: a Python codec; None for UTF-8. A byte order mark overrides it.
        delimiter: what separates fields; None for what `find_dialect` finds.
        lists: whether texts are lists, of which the items become the text (`parse_items`).
        quoting: standard (double quotes around fields), none (quotes are text), backslash (a quote inside a field
            stands behind one), or auto for what `find_dialect` finds.
        header: whether the first row names the columns; else they are numbers, from 1 on.

    Raises:
        UserError: for a missing or repeated column, and for everything `read_rows` raises at the call.
    """
    options: dict[str, Any] = {"delimiter": delimiter, "encoding": encoding, "quoting": quoting, "header": header}
    with _advised(path, encoding):
        for text_column in (*names.text, names.text[0]):  # the last time for the message
            wanted = names.in_order(text_column)
            dialect = find_dialect(path, list(filter(None, wanted)), **options)
            columns, records = read_records(path, dialect, encoding, counts)
            if text_column in columns:
                break
        places = [None if name is None else _find_column(path, columns, name, dialect) for name in wanted]
    return Table(
        text_column,
        tuple(map(Column, columns)),
        _rows(path, records, places, lists=text_column if lists else None),
        named=header,
    )


def read_rows(
    path: str | Path, *, dialect: Dialect | None = None, delimiter: str | None = None, encoding: str | None = None
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The names of a CSV or TSV file's columns, and the stream of (1-based data row, fields).

    The file is packed if its name ends in .gz or .zst, with double quotes around fields that need them (RFC 4180)
    unless the dialect is another. Lines end in LF or CRLF. Blank lines above the header and at the end are ignored.
    Raises the process-wide `csv.field_size_limit`.

    Args:
        path: the file.
        dialect: how it is read; None for what `find_dialect` finds.
        delimiter: without a dialect, what separates fields; None for what the name of the file says.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.

    Raises:
        UserError: at the call if the file is missing, a folder, unreadable, empty or broken in its header; while
            streaming for a row with the wrong number of fields, a broken quote, bytes that are no text, a NUL byte
            or a damaged compressed file.
    """
    path = Path(path)
    dialect = dialect or find_dialect(path, (), delimiter=delimiter, encoding=encoding)
    names, records = read_records(path, dialect, encoding)
    return names, _readable(records)


@contextmanager
def _advised(path: Path, encoding: str | None) -> Iterator[None]:
    """What is wrong with a file that is no CSV is said of that, instead of its columns."""
    try:
        yield
    except UserError as error:
        if advice := _not_csv(path, encoding):
            raise UserError(f"{path} {advice}") from error
        raise


def _find_column(path: Path, names: list[str], name: str, dialect: Dialect) -> int:
    if name not in names:
        split = f"(read as CSV, its columns split at {dialect.delimiter!r})"
        if not dialect.header:
            raise UserError(
                f"{path} {split}: no column {name!r}: without a header (data.header=false) columns are numbers, "
                f"1 to {len(names)}, as in data.text_column={len(names)}."
            )
        hint = did_you_mean(name, names)
        if name.isdecimal() or any(_is_data(column) for column in names):
            hint += " If line 1 is no header, set data.header=false and give columns by number, as data.text_column=1."
        raise UserError(f"{path}: the header {split} has no column {name!r}.{hint}")
    if names.count(name) > 1:
        positions = ", ".join(str(index) for index, column in enumerate(names, start=1) if column == name)
        raise UserError(f"{path}: the header has column {name!r} more than once (columns {positions}): rename them.")
    return names.index(name)


def _is_data(column: str) -> bool:
    """Whether the name of a column looks like a value."""
    return not column.strip() or len(column) > 60 or column.strip().lstrip("+-").replace(".", "", 1).isdecimal()


def _not_csv(path: Path, encoding: str | None) -> str:
    """What is said of JSON; nothing of what may be CSV, or cannot be read at all."""
    try:
        start = next(Lines(path, encoding), "").lstrip()
    except UserError:
        return ""
    if re.match(r'\[\s*([{\["]|$)', start):
        return (
            "is a JSON array, and neither CSV nor JSON Lines: write an object in each line of a .jsonl file, as "
            "jq -c '.[]' does."
        )
    return "looks like JSON: name it .jsonl, or set data.format=jsonl." if start.startswith('{"') else ""


def _rows(
    path: Path, records: Iterator[Record | BadRow], places: list[int | None], *, lists: str | None
) -> Iterator[TableRow | BadRow]:
    """The rows of records; `lists` names the column of texts that are lists, if they are."""
    for record in records:
        if isinstance(record, BadRow):
            yield record
            continue
        fields = record.fields
        row = TableRow.of(record.row, [None if place is None else fields[place] for place in places], cells=fields)
        try:
            if lists is not None:
                row.text = parse_items(f"{path}, {record.place}: column {lists!r}", row.text or "")
        except BadRow as error:
            yield error
        else:
            yield row


def _readable(records: Iterator[Record | BadRow]) -> Iterator[tuple[int, list[str]]]:
    for record in records:
        if isinstance(record, BadRow):
            raise record
        yield record.row, record.fields
