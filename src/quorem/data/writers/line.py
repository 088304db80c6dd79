"""What a writer is given: a row of a table, and what is to stand before and after its own values."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from quorem.data.readers.table import Column, TableRow


class Line(NamedTuple):
    """A row to write.

    Attributes:
        before: values by the names of their columns.
        row: as it was read.
        after: as `before`.
    """

    before: dict[str, Any]
    row: TableRow
    after: dict[str, Any]


class Head(NamedTuple):
    """What all rows of a file have.

    Attributes:
        before: columns that stand before those of the rows.
        columns: those of the rows; none where every row has names of its own and the writer needs no others.
        after: columns that stand after those of the rows.
        named: whether columns have names.
        metadata: of Arrow's schema.
    """

    before: Sequence[Column]
    columns: Sequence[Column]
    after: Sequence[Column]
    named: bool = True
    metadata: dict[bytes, bytes] | None = None

    @property
    def names(self) -> list[str]:
        """Of the rows' own columns."""
        return [column.name for column in self.columns]

    @property
    def all(self) -> list[Column]:
        """Every column, in order."""
        return [*self.before, *self.columns, *self.after]


Write = Callable[[Sequence[Line]], None]
"""What takes rows, as many as it is given, and writes them."""
