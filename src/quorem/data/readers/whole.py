"""Files that are one document each, in folders that may be labels: what the readers of text files and MIDI share."""

from collections.abc import Callable, Iterator
from pathlib import Path

from quorem.data.bad_rows import BAD_ROWS, BadRow
from quorem.data.documents import SPLITS, Document, RowCounts
from quorem.data.readers.compression import DamagedFile
from quorem.data.readers.lines import ForeignFormat
from quorem.errors import check_choice

BAD = (BadRow, DamagedFile, ForeignFormat)  # elsewhere the last two are the loss of all rows, here of one


def whole_document(
    path: Path,
    read: Callable[[], str],
    *,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    bad_rows: str = "error",
) -> Iterator[Document]:
    """The document of a file, none if its text is blank.

    Its label is the name of the folder that the file is in; a file right in a folder of a split has none, and is
    skipped where labels are asked for. Its split is the name of the folder above that one, where that is one of SPLITS:
    aclImdb/train/pos/0_9.txt has the label pos and the split train.

    Args:
        path: the file.
        read: what makes its text, called at once; raises one of BAD where the file has none that can be read.
        label_column: None for unlabelled documents; its name does not count.
        counts: a tally to keep up to date while streaming; a file is a row.
        bad_rows: error, or skip: a bad file is left out and counted.

    Raises:
        UserError: at the call for another value of bad_rows, whatever `read` raises besides and, unless bad rows are
            skipped, for a bad file.
    """
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    counts = RowCounts() if counts is None else counts
    try:
        text = read()
    except BAD as error:
        if bad_rows == "error":
            raise
        counts.skip_bad(str(error))
        return iter(())
    return _document(path, text, label_column is not None, counts)


def _document(path: Path, text: str, labelled: bool, counts: RowCounts) -> Iterator[Document]:
    counts.read += 1
    label, split = (folder.name for folder in (*path.absolute().parents, path)[:2])
    if not text.strip() or (labelled and label in SPLITS):
        counts.skipped += 1
        return
    counts.used += 1
    yield Document(text, label if labelled else None, 1, split if split in SPLITS else None)
