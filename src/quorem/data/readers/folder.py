"""Read the text files of a folder: one file is one document, labelled by the folder that it is in.

Guarantees: one file is in memory at a time; texts arrive exactly as written; a file without text is left out and
counted; one that is not UTF-8 is an error that names it.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from quorem.data.documents import SPLITS, Document, RowCounts
from quorem.data.readers.lines import BYTE_ORDER_MARK, open_data
from quorem.errors import UserError


def read_folder(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    counts: RowCounts | None = None,
) -> Iterator[Document]:
    """The document of one text file of a folder, none if the file is blank; deterministic.

    Its label is the name of the folder that the file is in; a file right in a folder of a split has none, and is
    skipped where labels are asked for. Its split is the name of the folder above that one, where
    that is one of SPLITS: aclImdb/train/pos/0_9.txt has the label pos and the split train.

    Args:
        path: the file, gzipped if its name ends in .gz.
        text_column: must be None: a file has no columns. Every reader takes it, so that callers need not know formats.
        label_column: None for unlabelled documents; its name does not count.
        counts: a tally to keep up to date while streaming; a file is a row.

    Raises:
        UserError: at the call for a text column, and for a file that is missing, a folder, unreadable, not UTF-8 or
            damaged.
    """
    path = Path(path)
    if text_column is not None:
        raise UserError(
            f"{path} is read as one document: it has no column {text_column!r}: leave the column out, or set "
            "data.format if its rows are the documents."
        )
    try:
        with open_data(path) as stream:
            raw = stream.read().removeprefix(BYTE_ORDER_MARK)
        text = raw.decode()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file ({error}): download or compress it again.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte 0x{raw[error.start]:02x} at byte offset {error.start} is not UTF-8: re-save it as UTF-8."
        ) from error
    if "\0" in text:
        raise UserError(f"{path} has a NUL byte, which text has none of: re-save it as UTF-8, or take it out.")
    return _read_document(path, text, label_column is not None, RowCounts() if counts is None else counts)


def _read_document(path: Path, text: str, labelled: bool, counts: RowCounts) -> Iterator[Document]:
    counts.read += 1
    label, split = (folder.name for folder in (*path.absolute().parents, path)[:2])
    if not text.strip() or (labelled and label in SPLITS):
        counts.skipped += 1
        return
    counts.used += 1
    yield Document(text, label if labelled else None, 1, split if split in SPLITS else None)
