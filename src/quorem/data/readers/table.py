"""A file as a table: all its rows, with everything they hold, to be written again with more beside it."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quorem.data.bad_rows import BadRow
from quorem.data.documents import Document, RowCounts


class Column(NamedTuple):
    """A column.

    Attributes:
        name: of the column; a number, from 1 on, where a file names none.
        kind: string, integer, number, boolean or vector (a list of numbers), or a field of Arrow's schema.
    """

    name: str
    kind: Any = "string"


@dataclass(slots=True)
class TableRow:
    """A row.

    Attributes:
        number: its 1-based number in the file, as that of a document.
        text: what is to be read of it; None or blank where there is nothing.
        cells: its values, by column.
        keys: names that it has, where every row has names of its own.
    """

    number: int
    text: str | None
    cells: Sequence[Any] = ()
    keys: Collection[str] = ()

    def values(self, names: Sequence[str]) -> Sequence[Any]:
        """What it has for the names of all columns."""
        return self.cells


@dataclass(frozen=True)
class Table:
    """A file.

    Attributes:
        text_column: the column of text that was chosen; None in formats without columns.
        columns: those of every row; None where every row has names of its own.
        rows: in file order, blank ones too, or what is wrong with one.
        survey: reads the file for the names that `columns` does not know, each with its kind, None where no row has a
            value.
        named: whether the columns have names in the file.
        metadata: of Arrow's schema.
    """

    text_column: str | None
    columns: tuple[Column, ...] | None
    rows: Iterator[TableRow | BadRow]
    survey: Callable[[], dict[str, str | None]] | None = None
    named: bool = True
    metadata: dict[bytes, bytes] | None = None


FILE_COLUMN = Column("file")


def file_table(
    read: Callable[..., Iterator[Document]], path: Path, counts: RowCounts | None = None, **options: Any
) -> Table:
    """The table of a file that is one document: a row with the name of the file.

    Args:
        read: of a Reader; it may take `bad_rows`, and then finds the row bad instead of raising.
        path: the file.
        counts: a tally of several files, for what readers say of the first of them alone; its messages are taken out.
        options: of the reader.
    """
    return Table(None, (FILE_COLUMN,), _file_rows(read, path, RowCounts() if counts is None else counts, options))


def _file_rows(
    read: Callable[..., Iterator[Document]], path: Path, counts: RowCounts, options: dict[str, Any]
) -> Iterator[TableRow | BadRow]:
    documents = list(read(path, counts=counts, **options))
    messages, counts.messages = counts.messages, []
    for message in messages:
        yield BadRow(message)
    for document in documents:
        yield TableRow(document.row, document.text, (str(path),))
    if not documents and not messages:
        yield TableRow(1, None, (str(path),))
