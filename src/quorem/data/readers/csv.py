"""Stream documents from a CSV or TSV file, plain or gzipped.

Guarantees: one record is in memory at a time; texts arrive exactly as written; a row that cannot be read is an error
with its place in the file, never a silently shifted, cut or dropped row. Only rows without text (or without the label
asked for) are left out, and those are counted.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import decode_lines
from quorem.errors import UserError, did_you_mean

FIELD_LIMIT = 2**31 - 1  # characters; the largest limit that a C long holds on every platform


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

    Raises:
        UserError: at the call for a missing or repeated column, and for everything `read_rows` raises at the call;
            while streaming for a broken row, and at the end if no row could be used.
    """
    path = Path(path)
    header, rows = read_rows(path)
    text_index = _find_column(path, header, text_column)
    label_index = None if label_column is None else _find_column(path, header, label_column)
    split_index = None if split_column is None else _find_column(path, header, split_column)
    return _read_documents(path, rows, text_index, label_index, split_index, RowCounts() if counts is None else counts)


def read_rows(path: str | Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header of a CSV or TSV file, and the stream of (1-based data row, fields) below it.

    The file is UTF-8 with or without byte order mark, gzipped if its name ends in .gz, split at tabs if its name has
    .tsv and at commas otherwise, with double quotes around fields that need them (RFC 4180). Lines end in LF or CRLF.
    Blank lines above the header and at the end are ignored. Raises the process-wide `csv.field_size_limit`.

    Raises:
        UserError: at the call if the file is missing, a folder, unreadable, empty or broken in its header; while
            streaming for a row with the wrong number of fields, a broken quote, bytes that are not UTF-8, a NUL byte
            or a damaged gzip file.
    """
    path = Path(path)
    csv.field_size_limit(FIELD_LIMIT)
    records = _parse_records(path)  # started here, so dropping it unread still closes the file
    header = next(records, None)
    if header is None:
        raise UserError(f"{path} is empty: its first line must name the columns, with the data rows below it.")
    return header.fields, _check_rows(path, records, len(header.fields))


def _read_documents(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    text_index: int,
    label_index: int | None,
    split_index: int | None,
    counts: RowCounts,
) -> Iterator[Document]:
    read = used = 0  # of this file: `counts` may already hold other files
    for row, fields in rows:
        read += 1
        counts.read += 1
        text = fields[text_index]
        label = None if label_index is None else fields[label_index]
        if not text.strip() or (label is not None and not label.strip()):
            counts.skipped += 1
            continue
        used += 1
        counts.used += 1
        yield Document(text, label, row, None if split_index is None else fields[split_index])
    if not read:
        raise UserError(f"{path} has a header but no data rows: add rows below line 1.")
    if not used:
        what = "text" if label_index is None else "text or label"
        raise UserError(f"{path}: all {read} data rows have an empty {what}: check the file and the column names.")


def _find_column(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        split = f"(read as CSV, its columns split at {delimiter(path)!r})"
        raise UserError(f"{path}: the header {split} has no column {name!r}.{did_you_mean(name, header)}")
    if header.count(name) > 1:
        positions = ", ".join(str(index) for index, column in enumerate(header, start=1) if column == name)
        raise UserError(f"{path}: the header has column {name!r} more than once (columns {positions}): rename them.")
    return header.index(name)


def _check_rows(path: Path, records: Iterator[Record], width: int) -> Iterator[tuple[int, list[str]]]:
    blanks: list[Record] = []  # held back: ignored if nothing but the end of the file follows
    for record in records:
        if _is_blank(record.fields, width):
            blanks.append(record)
            continue
        for row in (*blanks, record):
            # In a one-column file a blank line is a row whose only field is empty.
            fields = [""] if width == 1 and not row.fields else row.fields
            if len(fields) != width:
                raise UserError(
                    f"{path}, {row.place}: found {len(row.fields)} fields, expected {width} as in the header. Put "
                    f'double quotes around a field that contains {delimiter(path)!r}, a line break or a quote (").'
                )
            yield row.row, fields
        blanks.clear()


def _is_blank(fields: list[str], width: int) -> bool:
    return not fields or (width > 1 and len(fields) == 1 and not fields[0].strip())


def _parse_records(path: Path) -> Iterator[Record]:
    reader = csv.reader(decode_lines(path), delimiter=delimiter(path), strict=True)
    row = 0
    while True:
        first_line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(_describe_broken(path, row, first_line, reader.line_num, error)) from error
        if row == 0 and not fields:
            continue  # blank lines above the header
        yield Record(row, first_line, reader.line_num, fields)
        row += 1


def _describe_broken(path: Path, row: int, first_line: int, last_line: int, error: csv.Error) -> str:
    where = f"{path}, {_place(row, first_line, last_line)}"
    if "new-line" in str(error):
        return f"{where}: a carriage return stands outside quotes: re-save the file with LF or CRLF line ends."
    return (
        f"{where}: broken quotes ({error}). A field that starts with a double quote must end with one, and a double "
        f'quote inside it must be doubled ("").'
    )


def delimiter(path: Path) -> str:
    """What separates the fields of a file of that name: a tab for .tsv, else a comma."""
    return "\t" if ".tsv" in path.name.lower() else ","


def _place(row: int, first_line: int, last_line: int) -> str:
    name = f"row {row}" if row else "the header"
    lines = f"line {first_line}" if last_line <= first_line else f"starts at line {first_line}, ends at {last_line}"
    return f"{name} ({lines})"
