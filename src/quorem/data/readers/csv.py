"""Stream documents from a CSV or TSV file.

Guarantees: one record is in memory at a time; texts arrive exactly as written; a row that cannot be read is an error
with its place in the file or, where bad rows are skipped, counted and listed; never a silently shifted, cut or dropped
row. Besides, only rows without text (or without the label asked for) are left out, and those are counted.
"""

import csv
import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from quorem.data.bad_rows import BadRow
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import Lines
from quorem.data.readers.session import parse_items
from quorem.data.readers.tally import Row, to_documents
from quorem.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

FIELD_LIMIT = 2**31 - 1  # characters; the largest limit that a C long holds on every platform
DELIMITERS = (",", ";", "\t", "|")


class Record(NamedTuple):
    """One parsed record, and where it stands: row 0 is the header; lines are 1-based."""

    row: int
    first_line: int
    last_line: int
    fields: list[str]

    @property
    def place(self) -> str:
        """For error messages."""
        return _place(self.row, self.first_line, self.last_line)


def read_csv(
    path: str | Path,
    *,
    text_column: str,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    split_column: str | None = None,
    bad_rows: str = "error",
    encoding: str | None = None,
    delimiter: str | None = None,
    lists: bool = False,
) -> Iterator[Document]:
    """The documents of a CSV or TSV file, in file order; deterministic.

    Rows whose text, or label where `label_column` is given, is empty or only whitespace are skipped and counted.
    Texts and labels are not stripped or changed in any other way.

    Args:
        path: the file; see `read_rows` for what it may look like.
        text_column: name of the column with the texts.
        label_column: name of the column with the class names; None for unlabelled documents.
        counts: a tally to keep up to date while streaming.
        split_column: name of the column that says train or test; None for none.
        bad_rows: error, or skip: a row that cannot be read is left out and counted. A broken quote swallows what
            follows up to the next quote or the end; the message says which lines.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.
        delimiter: what separates fields; None for `find_delimiter`.
        lists: whether texts are JSON lists, of which the items become the text (`parse_items`).

    Raises:
        UserError: at the call for a missing or repeated column, and for everything `read_rows` raises at the call;
            while streaming for a broken row unless they are skipped, and at the end if no row could be used.
    """
    path = Path(path)
    asked = {"text": text_column, "label": label_column, "split": split_column}
    columns = {name: column for name, column in asked.items() if column is not None}
    delimiter = find_delimiter(path, list(columns.values()), delimiter=delimiter, encoding=encoding)
    header, records = _read_records(path, delimiter, encoding, counts)
    indices = {name: _find_column(path, header, column, delimiter) for name, column in columns.items()}
    what = "text" if label_column is None else "text or label"
    return to_documents(
        path,
        _rows(path, records, indices, lists),
        labelled=label_column is not None,
        counts=counts,
        bad_rows=bad_rows,
        unusable=f"data rows have an empty {what}: check the file and the column names.",
        empty="has a header but no data rows: add rows below line 1.",
    )


def read_rows(
    path: str | Path, *, delimiter: str | None = None, encoding: str | None = None
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header of a CSV or TSV file, and the stream of (1-based data row, fields) below it.

    The file is packed if its name ends in .gz or .zst, with double quotes around fields that need them (RFC 4180).
    Lines end in LF or CRLF. Blank lines above the header and at the end are ignored. Raises the process-wide
    `csv.field_size_limit`.

    Args:
        path: the file.
        delimiter: what separates fields; None for a tab if the file's name has .tsv, else a comma.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.

    Raises:
        UserError: at the call if the file is missing, a folder, unreadable, empty or broken in its header; while
            streaming for a row with the wrong number of fields, a broken quote, bytes that are no text, a NUL byte
            or a damaged compressed file.
    """
    path = Path(path)
    header, records = _read_records(path, _checked(delimiter) or delimiter_of(path), encoding)
    return header, _readable(records)


def find_delimiter(
    path: Path, columns: Sequence[str], *, delimiter: str | None = None, encoding: str | None = None
) -> str:
    r"""What separates the fields of a file.

    Args:
        path: the file.
        columns: that its header should have.
        delimiter: the choice (data.delimiter; \t is a tab); None for that of the file's name or, where the header
            split so lacks a column, the first of DELIMITERS with which it has them all. The latter is logged.
        encoding: of the file.

    Raises:
        UserError: for a choice that cannot be, and what `read_rows` raises at the call.
    """
    if chosen := _checked(delimiter):
        return chosen
    named = delimiter_of(path)
    header, _ = _read_records(path, named, encoding)
    if set(columns) <= set(header):
        return named
    for other in DELIMITERS:
        try:
            header, _ = _read_records(path, other, encoding)
        except UserError:
            continue  # a header that is broken when split so
        if set(columns) <= set(header):
            _tell(path, other)
            return other
    return named


def delimiter_of(path: Path) -> str:
    """What separates the fields of a file of that name: a tab for .tsv, else a comma."""
    return "\t" if ".tsv" in path.name.lower() else ","


def _checked(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    chosen = "\t" if delimiter == "\\t" else delimiter
    if len(chosen) != 1 or chosen in '"\r\n\0' or "\ud800" <= chosen <= "\udfff":
        raise UserError(
            f"data.delimiter={delimiter!r}: one character is needed, and no quote or line break, such as , ; | or \\t"
        )
    return chosen


@cache
def _tell(path: Path, delimiter: str) -> None:  # cached: a file is read several times, and told once
    logger.info("%s: split at %r, for so its header has the columns asked for", path, delimiter)


def _find_column(path: Path, header: list[str], name: str, delimiter: str) -> int:
    if name not in header:
        split = f"(read as CSV, its columns split at {delimiter!r})"
        raise UserError(f"{path}: the header {split} has no column {name!r}.{did_you_mean(name, header)}")
    if header.count(name) > 1:
        positions = ", ".join(str(index) for index, column in enumerate(header, start=1) if column == name)
        raise UserError(f"{path}: the header has column {name!r} more than once (columns {positions}): rename them.")
    return header.index(name)


def _rows(
    path: Path, records: Iterator[Record | BadRow], indices: dict[str, int], lists: bool
) -> Iterator[Row | BadRow]:
    for record in records:
        if isinstance(record, BadRow):
            yield record
            continue
        found = {name: record.fields[index] for name, index in indices.items()}
        try:
            if lists:
                found["text"] = parse_items(f"{path}, {record.place}", found["text"])
        except BadRow as error:
            yield error
        else:
            yield Row(record.row, **found)


def _readable(records: Iterator[Record | BadRow]) -> Iterator[tuple[int, list[str]]]:
    for record in records:
        if isinstance(record, BadRow):
            raise record
        yield record.row, record.fields


def _read_records(
    path: Path, delimiter: str, encoding: str | None, counts: RowCounts | None = None
) -> tuple[list[str], Iterator[Record | BadRow]]:
    """The header, and the records below it, each as wide as it is, or what is wrong with them."""
    csv.field_size_limit(FIELD_LIMIT)
    records = _parse_records(path, delimiter, encoding, counts)  # started, so that dropping it unread closes the file
    header = next(records, None)
    if header is None:
        raise UserError(f"{path} is empty: its first line must name the columns, with the data rows below it.")
    if isinstance(header, BadRow):
        raise header
    return header.fields, _check_width(path, records, len(header.fields), delimiter)


def _check_width(
    path: Path, records: Iterator[Record | BadRow], width: int, delimiter: str
) -> Iterator[Record | BadRow]:
    blanks: list[Record] = []  # held back: ignored if nothing but the end of the file follows
    for record in records:
        if isinstance(record, Record) and _is_blank(record.fields, width):
            blanks.append(record)
            continue
        for row in (*blanks, record):
            if isinstance(row, BadRow) or len(row.fields) == width:
                yield row
            elif width == 1 and not row.fields:  # in a one-column file a blank line is a row whose only field is empty
                yield row._replace(fields=[""])
            else:
                yield BadRow(
                    f"{path}, {row.place}: found {len(row.fields)} fields, expected {width} as in the header. Put "
                    f'double quotes around a field that contains {delimiter!r}, a line break or a quote (").'
                )
        blanks.clear()


def _is_blank(fields: list[str], width: int) -> bool:
    return not fields or (width > 1 and len(fields) == 1 and not fields[0].strip())


def _parse_records(
    path: Path, delimiter: str, encoding: str | None, counts: RowCounts | None
) -> Iterator[Record | BadRow]:
    lines = Lines(path, encoding, counts)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)  # begins anew after an error
    row = 0
    while True:
        first_line = lines.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except BadRow as error:
            yield error
        except csv.Error as error:
            yield BadRow(_describe_broken(path, row, first_line, lines.number, error))
        else:
            if row == 0 and not fields:
                continue  # blank lines above the header
            yield Record(row, first_line, lines.number, fields)
        row += 1


def _describe_broken(path: Path, row: int, first_line: int, last_line: int, error: csv.Error) -> str:
    where = f"{path}, {_place(row, first_line, last_line)}"
    if "new-line" in str(error):
        return f"{where}: a carriage return stands outside quotes: re-save the file with LF or CRLF line ends."
    return (
        f"{where}: broken quotes ({error}). A field that starts with a double quote must end with one, and a double "
        f'quote inside it must be doubled ("").'
    )


def _place(row: int, first_line: int, last_line: int) -> str:
    name = f"row {row}" if row else "the header"
    lines = f"line {first_line}" if last_line <= first_line else f"starts at line {first_line}, ends at {last_line}"
    return f"{name} ({lines})"
