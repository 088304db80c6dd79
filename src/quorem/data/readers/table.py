"""A file as a table: its rows, with the columns that were asked for and everything else that they hold."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from quorem.data.bad_rows import BadRow

Kind = TypeVar("Kind", bound="TableRow")

TEXT, LABEL, SPLIT, MORE = range(4)
"""Places in `ColumnNames.in_order`; further columns begin at MORE."""


class ColumnNames(NamedTuple):
    """The names of the columns, or keys, to read.

    Attributes:
        text: possible names of the column of text: the first one that the file has is read. Empty in formats without
            columns.
        label: the column of class names; None for unlabelled rows.
        split: the column that says train or test; None for none.
        more: further columns, for `Document.more`.
        whole: whether the rows will be written again, so that they need all columns of the file.
    """

    text: Sequence[str] = ()
    label: str | None = None
    split: str | None = None
    more: Sequence[str] = ()
    whole: bool = False

    def in_order(self, text: str) -> list[str | None]:
        """Text, label, split and the further columns, with the chosen column of text; None for what is not read."""
        return [text, self.label, self.split, *self.more]


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
        text: the text to read; None or blank where there is nothing.
        label: its class name, if labels were asked for.
        split: train or test, if splits were asked for.
        more: the further columns asked for.
        cells: its values, by column.
        keys: names that it has, where every row has names of its own.
    """

    number: int
    text: str | None = None
    label: str | None = None
    split: str | None = None
    more: tuple[str | None, ...] = ()
    cells: Sequence[Any] = ()
    keys: Collection[str] = ()

    @classmethod
    def of(cls: type[Kind], number: int, asked: Sequence[str | None], **others: Any) -> Kind:
        """A row from the values of `ColumnNames.in_order`."""
        text, label, split, *more = asked
        return cls(number, text, label, split, tuple(more), **others)

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
