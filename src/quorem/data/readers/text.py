"""Stream documents from a plain-text file, one a line, plain or gzipped.

Guarantees: one line is in memory at a time; texts arrive exactly as written, without their line end; blank lines alone
are left out, and those are counted.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import decode_lines, without_line_end
from quorem.errors import UserError


def read_text(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    counts: RowCounts | None = None,
) -> Iterator[Document]:
    """The documents of a text file, one for each line that is not blank, in file order; deterministic.

    The file is UTF-8 with or without byte order mark, gzipped if its name ends in .gz. Lines end in LF or CRLF; every
    other character, a tab or a form feed too, is part of the text. A document's `row` is the number of its line.

    Args:
        path: the file.
        text_column: must be None: lines have no columns. Every reader takes it, so that callers need not know formats.
        label_column: the same.
        counts: a tally to keep up to date while streaming; blank lines are skipped rows.

    Raises:
        UserError: at the call for a column, and if the file is missing, a folder, unreadable, empty or bad in its first
            line; while streaming for a carriage return inside a line, bytes that are not UTF-8, a NUL byte or a
            damaged gzip file, and at the end if every line is blank.
    """
    path = Path(path)
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
    lines = decode_lines(path)  # started here, so dropping it unread still closes the file
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path} is empty: write one document in each line.")
    return _read_documents(path, chain([first], lines), RowCounts() if counts is None else counts)


def _read_documents(path: Path, lines: Iterator[str], counts: RowCounts) -> Iterator[Document]:
    row, used = 0, False  # of this file: `counts` may already hold other files
    for row, line in enumerate(lines, start=1):
        text = without_line_end(path, row, line)
        counts.read += 1
        if not text.strip():
            counts.skipped += 1
            continue
        used = True
        counts.used += 1
        yield Document(text=text, row=row)
    if not used:
        raise UserError(f"{path}: all {row} lines are blank: write one document in each line.")
