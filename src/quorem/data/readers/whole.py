"""Files that are one document each, in folders that may be labels: the formats `folder` and `midi`."""

from collections.abc import Callable, Iterator
from pathlib import Path

from quorem.data.bad_rows import BadRow
from quorem.data.documents import SPLITS, RowCounts
from quorem.data.readers.compression import DamagedFile
from quorem.data.readers.lines import ForeignFormat, Lines
from quorem.data.readers.table import FILE_COLUMN, ColumnNames, Table, TableRow

Content = tuple[str, tuple[str | None, ...]]
"""The text of a file, and the values of further columns."""


def open_folder(
    path: Path, names: ColumnNames, *, counts: RowCounts | None = None, encoding: str | None = None
) -> Table:
    """A text file of a folder as one document; its text arrives exactly as written.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        names: whether labels are read; the name of their column does not count.
        counts: not used: nothing is counted inside the file.
        encoding: a Python codec; None for UTF-8. A byte order mark overrides it.
    """
    return whole_table(path, names, lambda: ("".join(Lines(path, encoding)), ()))


def whole_table(path: Path, names: ColumnNames, read: Callable[[], Content]) -> Table:
    """A file that is one document, as a table with one row: the name of the file.

    The label is the name of the folder that the file is in; a file right in a folder of a split has none. The split is
    the name of the folder above that one, if it is one of SPLITS: aclImdb/train/pos/0_9.txt has the label pos and the
    split train.

    Args:
        path: the file.
        names: whether labels are read.
        read: its content. An error that says that the file is damaged, of another format or bad makes the row bad.
    """
    return Table(None, (FILE_COLUMN,), _rows(path, read, labelled=names.label is not None))


def _rows(path: Path, read: Callable[[], Content], *, labelled: bool) -> Iterator[TableRow | BadRow]:
    try:
        text, more = read()
    except (BadRow, DamagedFile, ForeignFormat) as error:  # elsewhere the last two end all rows, here there is one
        yield BadRow(str(error))
        return
    label, split = (folder.name for folder in (*path.absolute().parents, path)[:2])
    yield TableRow(
        1,
        text,
        label if labelled and label not in SPLITS else None,
        split if split in SPLITS else None,
        more,
        cells=(str(path),),
    )
