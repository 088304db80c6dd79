"""Read the text files of a folder: one file is one document, labelled by the folder that it is in.

Guarantees: one file is in memory at a time; texts arrive exactly as written; a file without text is left out and
counted; one that cannot be decoded is an error that names it, or skipped and listed.
"""

from collections.abc import Iterator
from pathlib import Path

from quorem.data.bad_rows import BAD_ROWS, BadRow
from quorem.data.documents import SPLITS, Document, RowCounts
from quorem.data.readers.lines import Lines
from quorem.errors import UserError, check_choice


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

    Its label is the name of the folder that the file is in; a file right in a folder of a split has none, and is
    skipped where labels are asked for. Its split is the name of the folder above that one, where
    that is one of SPLITS: aclImdb/train/pos/0_9.txt has the label pos and the split train.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        text_column: must be None: a file has no columns. Every reader takes it, so that callers need not know formats.
        label_column: None for unlabelled documents; its name does not count.
        counts: a tally to keep up to date while streaming; a file is a row.
        bad_rows: error, or skip: a file that cannot be decoded is left out and counted.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.

    Raises:
        UserError: at the call for a text column, and for a file that is missing, a folder, unreadable, damaged or,
            unless they are skipped, not in this encoding.
    """
    path = Path(path)
    if text_column is not None:
        raise UserError(
            f"{path} is read as one document: it has no column {text_column!r}: leave the column out, or set "
            "data.format if its rows are the documents."
        )
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    counts = RowCounts() if counts is None else counts
    try:
        text = "".join(Lines(path, encoding))
    except BadRow as error:
        if bad_rows == "error":
            raise
        counts.skip_bad(str(error))
        return iter(())
    return _read_document(path, text, label_column is not None, counts)


def _read_document(path: Path, text: str, labelled: bool, counts: RowCounts) -> Iterator[Document]:
    counts.read += 1
    label, split = (folder.name for folder in (*path.absolute().parents, path)[:2])
    if not text.strip() or (labelled and label in SPLITS):
        counts.skipped += 1
        return
    counts.used += 1
    yield Document(text, label if labelled else None, 1, split if split in SPLITS else None)
