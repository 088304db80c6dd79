"""Stream documents from a plain-text file, one a line or one a paragraph.

Guarantees: one document is in memory at a time; texts arrive exactly as written, without their line end; blank lines
alone are left out, and as documents those are counted.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.readers.lines import numbered_lines
from quorem.data.readers.session import parse_items
from quorem.data.readers.table import Column, ColumnNames, Table, TableRow
from quorem.errors import UserError, check_choice

DOCUMENTS = ("line", "paragraph")


def open_text(
    path: Path,
    names: ColumnNames,
    *,
    counts: RowCounts | None = None,
    encoding: str | None = None,
    documents: str = "line",
    lists: bool = False,
) -> Table:
    """A text file as a table with the columns line, its number, and text; blank lines are rows, but not of paragraphs.

    Lines end in LF or CRLF; every other character, a tab or a form feed too, is part of the text. A document is a line
    that is not blank, or a paragraph: the lines between blank ones, joined by a line feed. Its `row` is the number of
    its line, or of the first line of its paragraph.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        names: not used: lines have no columns.
        counts: a tally that is to know how much of the file is read.
        encoding: a Python codec; None for UTF-8. A byte order mark overrides it.
        documents: line or paragraph.
        lists: whether documents are lists, of which the items become the text (`parse_items`).

    Raises:
        UserError: for an option that cannot be, and if the file is missing, a folder, unreadable or empty.
    """
    check_choice("data.documents", documents, DOCUMENTS)
    lines = numbered_lines(path, encoding, counts)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path} is empty: write one document in each {documents}.")
    lines = chain([first], lines)
    rows = _line_rows(lines) if documents == "line" else _paragraph_rows(lines)
    columns = (Column("line", "integer"), Column("text"))
    return Table(None, columns, _sessions(path, rows) if lists else rows)


def _row(number: int, text: str) -> TableRow:
    return TableRow(number, text, cells=(number, text))


def _line_rows(lines: Iterator[tuple[int, str | BadRow]]) -> Iterator[TableRow | BadRow]:
    for number, line in lines:
        yield line if isinstance(line, BadRow) else _row(number, line)


def _sessions(path: Path, rows: Iterator[TableRow | BadRow]) -> Iterator[TableRow | BadRow]:
    for row in rows:
        try:
            if isinstance(row, TableRow):
                row.text = parse_items(f"{path}, line {row.number}", row.text or "")
        except BadRow as error:
            yield error
        else:
            yield row


def _paragraph_rows(lines: Iterator[tuple[int, str | BadRow]]) -> Iterator[TableRow | BadRow]:
    """Paragraphs; a bad line spoils its paragraph, and the message is that of the first one."""
    start, joined, bad = 0, list[str](), list[BadRow]()
    for number, line in chain(lines, [(0, "")]):
        if isinstance(line, BadRow):
            bad.append(line)
        elif line.strip():
            joined.append(line)
            start = start if len(joined) > 1 else number
        elif bad or joined:
            yield bad[0] if bad else _row(start, "\n".join(joined))
            joined.clear()
            bad.clear()
