"""Read the text files of a folder: one file is one document, labelled by the folder that it is in.

Guarantees: one file is in memory at a time; texts arrive exactly as written; a file without text is left out and
counted; one that cannot be read as text is an error that names it, or skipped and listed.
"""

from collections.abc import Iterator
from pathlib import Path

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import Lines
from quorem.data.readers.whole import whole_document
from quorem.errors import UserError


def read_folder(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    bad_rows: str = "error",
    encoding: str | None = None,
) -> Iterator[Document]:
    """The document of one text file of a folder, none if the file is blank; deterministic.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        text_column: must be None: a file has no columns. Every reader takes it, so that callers need not know formats.
        label_column: None for unlabelled documents; its name does not count (`whole_document` has labels and splits).
        counts: a tally to keep up to date while streaming; a file is a row.
        bad_rows: error, or skip: a file that is damaged, no text, or cannot be decoded is left out and counted.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.

    Raises:
        UserError: at the call for a text column, for a file that is missing, a folder or unreadable, and, unless they
            are skipped, for one that is damaged, no text or not in this encoding.
    """
    path = Path(path)
    if text_column is not None:
        raise UserError(
            f"{path} is read as one document: it has no column {text_column!r}: leave the column out, or set "
            "data.format if its rows are the documents."
        )
    return whole_document(
        path, lambda: "".join(Lines(path, encoding)), label_column=label_column, counts=counts, bad_rows=bad_rows
    )
