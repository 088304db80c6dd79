"""Stream documents from a Parquet file; the library pyarrow is the extra quorem[parquet].

Guarantees: one batch of rows is in memory at a time, of the columns needed; a row without text (or without the label
asked for) is left out and counted; a file that is no Parquet or a damaged one is an error that names it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.readers.lines import open_data
from quorem.data.readers.session import join_items
from quorem.data.readers.table import MORE, Column, ColumnNames, Table, TableRow
from quorem.data.readers.value import to_text, to_whole_text
from quorem.errors import UserError, did_you_mean

BATCH_ROWS = 1_024
ReadValue = Callable[[str, Any], str | None]  # from a place, for messages, and a value


@dataclass
class Batch:
    """Rows that were read together.

    Attributes:
        arrow: a RecordBatch.
    """

    arrow: Any
    path: Path

    @cached_property
    def columns(self) -> list[list[Any]]:
        """Its values as Python's, column by column."""
        return [self._values(name, column) for name, column in zip(self.arrow.schema.names, self.arrow, strict=True)]

    def _values(self, name: str, column: Any) -> list[Any]:
        from pyarrow import ArrowException

        try:
            return list(column.to_pylist())
        except (
            ValueError,
            OverflowError,
            UnicodeDecodeError,
        ):  # times of nanoseconds, or beyond year 9999; damaged text
            try:
                return list(column.cast("string").to_pylist())
            except (ArrowException, UnicodeDecodeError) as error:
                raise UserError(
                    f"{self.path}: column {name!r} of type {column.type} cannot be written as text: write a .parquet"
                ) from error


@dataclass(slots=True)
class ArrowRow(TableRow):
    """A row of Parquet, in a batch."""

    batch: Batch | None = None
    index: int = 0

    def values(self, names: Sequence[str]) -> Sequence[Any]:
        """Its values as Python's."""
        assert self.batch is not None
        return [column[self.index] for column in self.batch.columns]


def open_parquet(path: Path, names: ColumnNames, *, counts: RowCounts | None = None) -> Table:
    """A Parquet file as a table, of which one batch of BATCH_ROWS rows is in memory, and what pyarrow needs besides.

    Strings come as written, numbers as Python writes them, booleans as true and false; a list of strings, numbers or
    booleans is its items with tabs between them. Further columns may have lists and structs: they are JSON. Rows that
    will be written again keep the types of all columns (`ArrowRow`); otherwise only the columns asked for are read.

    Args:
        path: the file.
        names: of the columns to read.
        counts: a tally that is to know how much of the file is read.

    Raises:
        UserError: if pyarrow is not installed, the file is missing, a folder, unreadable, damaged or not Parquet, or a
            column is missing, repeated or of a type that is no text. Bad rows have characters that no text has, or
            items with tabs.
    """
    file = _open(path)
    schema = file.schema_arrow
    text_column = next((name for name in names.text if name in schema.names), names.text[0])
    try:
        readers = [
            None if name is None else (name, _column_text(path, schema, name, whole=number >= MORE))
            for number, name in enumerate(names.in_order(text_column))
        ]
    except UserError:
        file.close()
        raise
    columns = tuple(Column(field.name, field) for field in schema)
    rows = _rows(path, file, readers, RowCounts() if counts is None else counts, whole=names.whole)
    return Table(text_column, columns, rows, metadata=schema.metadata)


def _open(path: Path) -> Any:
    """A ParquetFile, to be closed."""
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("data.format=parquet needs pyarrow: pip install 'quorem[parquet]'") from error
    with open_data(path):  # a missing file, a folder and one that may not be read
        pass
    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _rows(
    path: Path, file: Any, readers: list[tuple[str, ReadValue] | None], counts: RowCounts, *, whole: bool
) -> Iterator[TableRow | BadRow]:
    """The rows of a file, which is closed at their end.

    Args:
        path: for messages.
        file: a ParquetFile.
        readers: for each of `ColumnNames.in_order` the column's name, and how a value of it becomes text.
        counts: the tally that is to know how much is read.
        whole: whether all columns are read.
    """
    from pyarrow import ArrowException

    number, total = 0, file.metadata.num_rows
    counts.share = lambda: number / max(1, total)
    asked = None if whole else [reader[0] for reader in readers if reader is not None]
    try:
        for arrow in file.iter_batches(batch_size=BATCH_ROWS, columns=asked):
            batch = Batch(arrow, path) if whole else None
            columns = [[] if reader is None else arrow.column(reader[0]).to_pylist() for reader in readers]
            for index in range(arrow.num_rows):
                number += 1
                try:
                    values = [
                        None
                        if reader is None
                        else reader[1](f"{path}, row {number}: column {reader[0]!r}", column[index])
                        for reader, column in zip(readers, columns, strict=True)
                    ]
                except BadRow as error:
                    yield error
                else:
                    yield ArrowRow.of(number, values, batch=batch, index=index)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    finally:
        file.close()


def _column_text(path: Path, schema: Any, name: str, *, whole: bool = False) -> ReadValue:
    """How a value of a column becomes text; of any type if it is taken whole."""
    from pyarrow import types

    if name not in schema.names:
        raise UserError(f"{path}: no column {name!r}.{did_you_mean(name, schema.names)}")
    if schema.names.count(name) > 1:
        raise UserError(f"{path}: column {name!r} is there more than once: rename them.")
    if whole:
        return to_whole_text
    kind = schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if _is_plain(kind):
        return to_text
    if (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)) and _is_plain(
        kind.value_type
    ):
        return _session
    raise UserError(
        f"{path}: column {name!r} is of type {kind}, where strings, numbers, booleans or lists of these are needed: "
        "write it as one of them."
    )


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    strings = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in (*strings, *numbers))


def _session(place: str, value: Any) -> str:
    return join_items(place, (to_text(place, item) or "" for item in value or ()))


def _damaged(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or ["?"])[0]
    return UserError(f"{path} is damaged or not Parquet ({reason}): write it again, or name it by its format.")
