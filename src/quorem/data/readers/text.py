"""Stream documents from a plain-text file, one a line or one a paragraph.

Guarantees: one document is in memory at a time; texts arrive exactly as written, without their line end; blank lines
alone are left out, and as documents those are counted.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from quorem.data.bad_rows import BadRow
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import numbered_lines
from quorem.data.readers.session import parse_items, wonder_at_lists
from quorem.data.readers.table import Column, Table, TableRow
from quorem.data.readers.tally import Row, to_documents
from quorem.errors import UserError, check_choice

DOCUMENTS = ("line", "paragraph")


def read_text(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    bad_rows: str = "error",
    encoding: str | None = None,
    documents: str = "line",
    lists: bool = False,
) -> Iterator[Document]:
    """The documents of a text file, in file order; deterministic.

    Lines end in LF or CRLF; every other character, a tab or a form feed too, is part of the text. A document is a line
    that is not blank, or a paragraph: the lines between blank ones, joined by a line feed. Its `row` is the number of
    its line, or of the first line of its paragraph.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        text_column: must be None: lines have no columns. Every reader takes it, so that callers need not know formats.
        label_column: the same.
        counts: a tally to keep up to date while streaming; rows are lines, of which blank ones are skipped, or
            paragraphs.
        bad_rows: error, or skip: a line that cannot be read, or the paragraph that it is in, is left out and counted.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.
        documents: line or paragraph.
        lists: whether documents are lists, of which the items become the text (`parse_items`).

    Raises:
        UserError: at the call for a column or option that cannot be, and if the file is missing, a folder, unreadable,
            empty or bad in its first row; while streaming for a carriage return inside a line, bytes that are no text,
            a NUL byte (unless bad rows are skipped) or a damaged compressed file, and at the end if no row can be used.
    """
    path = Path(path)
    rows = _checked_rows(path, text_column, label_column, counts, bad_rows == "error", encoding, documents)
    return to_documents(
        path,
        _sessions(path, rows) if lists else wonder_at_lists(path, rows),
        counts=counts,
        bad_rows=bad_rows,
        unusable="lines are blank: write one document in each line.",
        empty="has blank lines only: write one document in each paragraph.",
    )


def read_text_table(
    path: str | Path,
    *,
    text_column: str | None = None,
    encoding: str | None = None,
    documents: str = "line",
    lists: bool = False,
) -> Table:
    """A text file as a table with the columns line, its number, and text; blank lines are rows, but not of paragraphs.

    Args:
        path: the file.
        text_column: must be None: lines have no columns.
        encoding: as in `read_text`.
        documents: the same.
        lists: the same.

    Raises:
        UserError: at the call for what `read_text` raises there, but a bad first row.
    """
    path = Path(path)
    rows = _checked_rows(path, text_column, None, None, False, encoding, documents)
    columns = (Column("line", "integer"), Column("text"))
    return Table(None, columns, _table_rows(path, rows, lists))


def _checked_rows(
    path: Path,
    text_column: str | None,
    label_column: str | None,
    counts: RowCounts | None,
    strict: bool,
    encoding: str | None,
    documents: str,
) -> Iterator[Row | BadRow]:
    """Lines or paragraphs; what is wrong with the call or the file, or if `strict` with its first row, is raised."""
    check_choice("data.documents", documents, DOCUMENTS)
    columns = [repr(name) for name in (text_column, label_column) if name is not None]
    if columns:
        raise UserError(
            f"{path} is read as plain text, a document a line: it has no column {' or '.join(columns)}. Columns, "
            + (
                "labels too, need a CSV: if this is one, name it .csv."
                if label_column is not None
                else "need a CSV: if this is one, name it .csv, or set data.format=csv to pre-train; without columns "
                "leave the column out."
            )
        )
    lines = numbered_lines(path, encoding, counts)
    first_line = next(lines, None)
    if first_line is None:
        raise UserError(f"{path} is empty: write one document in each {documents}.")
    if isinstance(first_line[1], BadRow) and strict:
        raise first_line[1]
    lines = chain([first_line], lines)
    return _line_rows(lines) if documents == "line" else _paragraph_rows(lines)


def _table_rows(path: Path, rows: Iterator[Row | BadRow], lists: bool) -> Iterator[TableRow | BadRow]:
    for row in rows:
        try:
            if isinstance(row, BadRow):
                raise row
            written = row.text or ""
            text = parse_items(f"{path}, line {row.number}", written) if lists else written
        except BadRow as error:
            yield error
        else:
            yield TableRow(row.number, text, (row.number, written))


def _line_rows(lines: Iterator[tuple[int, str | BadRow]]) -> Iterator[Row | BadRow]:
    for number, line in lines:
        yield line if isinstance(line, BadRow) else Row(number, line)


def _sessions(path: Path, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    for row in rows:
        try:
            yield (
                row
                if isinstance(row, BadRow)
                else Row(row.number, parse_items(f"{path}, line {row.number}", row.text or ""))
            )
        except BadRow as error:
            yield error


def _paragraph_rows(lines: Iterator[tuple[int, str | BadRow]]) -> Iterator[Row | BadRow]:
    """Paragraphs; a bad line of one spoils it, and the first is what is said about it."""
    start, joined, bad = 0, list[str](), list[BadRow]()
    for number, line in chain(lines, [(0, "")]):
        if isinstance(line, BadRow):
            bad.append(line)
        elif line.strip():
            joined.append(line)
            start = start if len(joined) > 1 else number
        elif bad or joined:
            yield bad[0] if bad else Row(start, "\n".join(joined))
            joined.clear()
            bad.clear()
