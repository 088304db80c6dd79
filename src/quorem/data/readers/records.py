"""The records of a CSV file, each with its place in the file, or what is wrong with one.

A quoted field may hold line breaks, so that a quote which is text swallows rows up to the next one. Where that breaks a
record, each row swallowed is a bad row; where the record comes out whole all the same, it is doubted aloud.
"""

import csv
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.once import log_once
from quorem.data.readers.lines import Lines
from quorem.errors import UserError

logger = logging.getLogger(__name__)

FIELD_LIMIT = 2**31 - 1  # characters; the largest limit that a C long holds on every platform
QUOTINGS: dict[str, dict[str, Any]] = {  # data.quoting -> what csv calls it
    "standard": {"strict": True},
    "none": {"strict": True, "quoting": csv.QUOTE_NONE},
    "backslash": {"strict": True, "doublequote": False, "escapechar": "\\"},
}
SEPARATOR_LINE = re.compile(r'"?sep=([^\w"\r\n])"?\s*', re.IGNORECASE)  # a spreadsheet's, above the header


@dataclass(frozen=True)
class Dialect:
    """How a file is cut into fields.

    Attributes:
        delimiter: one character.
        quoting: a key of QUOTINGS.
        header: whether the first record names the columns; else they have numbers, from 1 on.
        declared: whether a line such as sep=; stands above everything else.
    """

    delimiter: str = ","
    quoting: str = "standard"
    header: bool = True
    declared: bool = False


class BrokenQuotes(BadRow):
    """A row that cannot be read for its quotes, or that such a row has swallowed."""


class Record(NamedTuple):
    """One parsed record, and where it stands: row 0 is the header; lines are 1-based."""

    row: int
    first_line: int
    last_line: int
    fields: list[str]
    swallowed: int = 0  # rows that its lines would be without quotes, where all of them would and they are several

    @property
    def place(self) -> str:
        """For error messages."""
        return _place(self.row, self.first_line, self.last_line)


def read_records(
    path: Path, dialect: Dialect, encoding: str | None, counts: RowCounts | None = None
) -> tuple[list[str], Iterator[Record | BadRow]]:
    """The names of the columns, and the records below the header, each as wide as it is, or what is wrong with them.

    A record that repeats the header, as where files were joined, is a header too: it is left out with a warning.

    Raises:
        UserError: at the call for an empty file or a broken header.
    """
    records = parse_records(path, dialect, encoding, counts)  # started, so that dropping it unread closes the file
    first = next(records, None)
    if first is None:
        needed = "its first line must name the columns, with the data rows below it" if dialect.header else "add rows"
        raise UserError(f"{path} is empty: {needed}.")
    if dialect.header:
        if isinstance(first, BadRow):
            raise first
        return first.fields, _without_headers(path, _check_width(path, records, len(first.fields), dialect), first)
    if isinstance(first, BadRow):
        raise first
    width = len(first.fields)
    return [str(number) for number in range(1, width + 1)], _check_width(path, chain([first], records), width, dialect)


def parse_records(
    path: Path, dialect: Dialect, encoding: str | None, counts: RowCounts | None = None
) -> Iterator[Record | BadRow]:
    """All records, the header first, of whatever width, or what is wrong with them.

    After a broken record come as many bad rows more as it has swallowed: lines with the right number of delimiters.
    """
    csv.field_size_limit(FIELD_LIMIT)
    lines = _RecordLines(Lines(path, encoding, counts), dialect)
    reader = csv.reader(lines, delimiter=dialect.delimiter, **QUOTINGS[dialect.quoting])  # begins anew after an error
    row = 0 if dialect.header else 1
    while True:
        first_line = lines.begin_record()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (BadRow, csv.Error) as error:
            itself = isinstance(error, csv.Error)  # else the error is of a line, which csv has not taken
            yield error if isinstance(error, BadRow) else _broken(path, row, first_line, lines.number, error)
            swallowed = max(0, lines.fitting() - itself)
            for further in range(row + 1, row + 1 + swallowed):
                yield BrokenQuotes(
                    f"{path}, row {further} (between lines {first_line} and {lines.number}): swallowed by an open "
                    f"quote in row {row}."
                )
            row += swallowed
        else:
            if not fields and lines.width is None:
                continue  # blank lines above the header
            lines.width = len(fields) if lines.width is None else lines.width
            several = lines.taken > 1 and lines.fitting() == lines.taken
            yield Record(row, first_line, lines.number, fields, lines.taken if several else 0)
        row += 1


class _RecordLines(Iterator[str]):
    """The lines that csv parses, and how many of a record's look like rows of their own.

    Attributes:
        width: fields of a row; None before the first.
        taken: lines of the record so far.
    """

    def __init__(self, lines: Lines, dialect: Dialect) -> None:
        self.width: int | None = None
        self.taken = self._fitting = 0
        self._lines, self._delimiter, self._first = lines, dialect.delimiter, ""
        self._escapes: re.Pattern[str] | None = None
        if dialect.quoting == "backslash":  # any other backslash is text
            self._escapes = re.compile(rf'\\(["\\\n{re.escape(dialect.delimiter)}]|\r(?!\n))|\\')
        if dialect.declared:
            next(lines)

    @property
    def number(self) -> int:
        """Of the line read last."""
        return self._lines.number

    def begin_record(self) -> int:
        """Count anew; returns the number of the line that comes next."""
        self.taken = self._fitting = 0
        return self.number + 1

    def fitting(self) -> int:
        """How many of the record's lines have the right number of delimiters, of a table with several columns."""
        return self._fits(self._first) + self._fitting if self.taken else 0

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += 1
        if self.taken == 1:
            self._first = line
        else:
            self._fitting += self._fits(line)
        if self._escapes is not None and "\\" in line:
            return self._escapes.sub(lambda found: found[0] if found[1] else r"\\", line)
        return line

    def _fits(self, line: str) -> bool:
        return self.width is not None and self.width > 1 and line.count(self._delimiter) == self.width - 1


def _check_width(
    path: Path, records: Iterator[Record | BadRow], width: int, dialect: Dialect
) -> Iterator[Record | BadRow]:
    blanks: list[Record] = []  # held back: ignored if nothing but the end of the file follows
    doubted: list[Record] = []  # the first
    doubts = 0
    for record in records:
        if isinstance(record, Record) and _is_blank(record.fields, width):
            blanks.append(record)
            continue
        for row in (*blanks, record):
            if isinstance(row, BadRow):
                yield row
            elif len(row.fields) == width:
                if row.swallowed:
                    doubts += 1
                    doubted = doubted or [row]
                yield row
            elif width == 1 and not row.fields:  # in a one-column file a blank line is a row whose only field is empty
                yield row._replace(fields=[""])
            else:
                yield BadRow(_describe_width(path, row, width, dialect))
        blanks.clear()
    for row in doubted:
        more = f" (and {doubts - 1:,} more rows)" if doubts > 1 else ""
        log_once(
            logger,
            logging.WARNING,
            f"{path}, {row.place}{more}: its quotes hold line breaks and the right number of {dialect.delimiter!r} for "
            f"{row.swallowed} rows, which are read as one. If quotes are text in this file, set data.quoting=none.",
        )


def _describe_width(path: Path, row: Record, width: int, dialect: Dialect) -> str:
    advice = (
        f'Put double quotes around a field that contains {dialect.delimiter!r}, a line break or a quote (").'
        if dialect.quoting != "none"
        else f"Quotes are text here (data.quoting=none), so no field can have {dialect.delimiter!r} or a line break."
    )
    above = "in the header" if dialect.header else "in the first row"
    return f"{path}, {row.place}: found {len(row.fields)} fields, expected {width} as {above}. {advice}"


def _without_headers(path: Path, records: Iterator[Record | BadRow], header: Record) -> Iterator[Record | BadRow]:
    """The records that do not repeat the header; the others keep their numbers."""
    number = 0
    for record in records:
        if isinstance(record, BadRow) or not _repeats(record.fields, header.fields):
            yield record
            continue
        number += 1
        if number == 1:
            why = "repeats the header, as where files were joined: left out, for it is no row"
            log_once(logger, logging.WARNING, f"{path}, {record.place}: {why}")
    if number > 1:
        log_once(logger, logging.WARNING, f"{path}: {number:,} rows in all repeat the header")


def _repeats(fields: list[str], header: list[str]) -> bool:
    """Whether a record is the header once more; where there is a single column, only after a byte order mark."""
    if fields == header:
        return len(header) > 1
    marked = fields[0].startswith("\ufeff") if fields else False
    return marked and [fields[0].removeprefix("\ufeff").strip('"'), *fields[1:]] == header


def _is_blank(fields: list[str], width: int) -> bool:
    return not fields or (width > 1 and len(fields) == 1 and not fields[0].strip())


def _broken(path: Path, row: int, first_line: int, last_line: int, error: Exception) -> BadRow:
    where = f"{path}, {_place(row, first_line, last_line)}"
    if "new-line" in str(error):
        return BadRow(f"{where}: a carriage return stands outside quotes: re-save the file with LF or CRLF line ends.")
    return BrokenQuotes(
        f"{where}: broken quotes ({error}). A field that starts with a double quote must end with one, and a double "
        f'quote inside it must be doubled (""). If quotes are text in this file, set data.quoting=none; if they stand '
        "behind backslashes, data.quoting=backslash. To leave such rows out, set data.bad_rows=skip."
    )


def _place(row: int, first_line: int, last_line: int) -> str:
    name = f"row {row}" if row else "the header"
    lines = f"line {first_line}" if last_line <= first_line else f"starts at line {first_line}, ends at {last_line}"
    return f"{name} ({lines})"
