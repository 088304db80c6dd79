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
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import open_data
from quorem.data.readers.session import join_items
from quorem.data.readers.table import Column, Table, TableRow
from quorem.data.readers.tally import Row, asked_columns, row_of, to_documents
from quorem.data.readers.value import to_text, to_whole_text
from quorem.errors import UserError, did_you_mean

BATCH_ROWS = 1_024
ReadValue = Callable[[str, Any], str | None]  # from a place, for messages, and a value


def read_parquet(
    path: str | Path,
    *,
    text_column: str,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    split_column: str | None = None,
    more_columns: Sequence[str] = (),
    bad_rows: str = "error",
) -> Iterator[Document]:
    """The documents of a Parquet file, in file order; deterministic.

    Strings come as written, numbers as Python writes them, booleans as true and false; a list of strings, numbers or
    booleans is its items with tabs between them. Rows whose text or label is null or blank are skipped and counted. A
    batch of BATCH_ROWS rows is in memory, and what pyarrow holds to decode it.

    Args:
        path: the file.
        text_column: name of the column with the texts.
        label_column: name of the column with the class names; None for unlabelled documents.
        counts: a tally to keep up to date while streaming.
        split_column: name of the column that says train or test; None for none.
        more_columns: names of further columns, for `Document.more`; lists and structs are JSON there.
        bad_rows: error, or skip: a row with characters that no text has, or items with tabs, is left out and counted.

    Raises:
        UserError: at the call if pyarrow is not installed, the file is missing, a folder, unreadable, damaged or not
            Parquet, or a column is missing, repeated or of a type that is no text; while streaming for damaged data
            and, unless they are skipped, for bad rows, and at the end if no row could be used.
    """
    path = Path(path)
    file = _open(path)
    columns = asked_columns(text_column, label_column, split_column, more_columns)
    try:
        readers = {
            field: (name, _column_text(path, file.schema_arrow, name, whole=field.startswith("more ")))
            for field, name in columns.items()
        }
    except UserError:
        file.close()
        raise
    rows = _rows(path, file, readers, RowCounts() if counts is None else counts)
    next(rows)  # so that dropping it unread still closes the file
    what = "text" if label_column is None else "text or label"
    return to_documents(
        path,
        rows,
        labelled=label_column is not None,
        counts=counts,
        bad_rows=bad_rows,
        unusable=f"rows have an empty {what}: check the file and the column names.",
        empty="has no rows: write some.",
    )


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


def read_parquet_table(path: str | Path, *, text_columns: Sequence[str]) -> Table:
    """A Parquet file as a table of `ArrowRow`, which keep the types of all columns.

    Args:
        path: the file.
        text_columns: names of which the first that the file has is its column of text.

    Raises:
        UserError: what `read_parquet` raises at the call.
    """
    path = Path(path)
    file = _open(path)
    schema = file.schema_arrow
    name = next((name for name in text_columns if name in schema.names), text_columns[0])
    try:
        read = _column_text(path, schema, name)
    except UserError:
        file.close()
        raise
    columns = tuple(Column(field.name, field) for field in schema)
    rows = _table_rows(path, file, name, read)
    next(rows)  # so that dropping it unread still closes the file
    return Table(name, columns, rows, metadata=schema.metadata)


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


def _table_rows(path: Path, file: Any, name: str, read: ReadValue) -> Iterator[TableRow | BadRow]:
    """First an empty row, then those of the file."""
    from pyarrow import ArrowException

    number, place = 0, file.schema_arrow.names.index(name)
    try:
        yield TableRow(0, None)
        for arrow in file.iter_batches(batch_size=BATCH_ROWS):
            batch, texts = Batch(arrow, path), arrow.column(place).to_pylist()
            for index, text in enumerate(texts):
                number += 1
                try:
                    shown = read(f"{path}, row {number}: column {name!r}", text)
                except BadRow as error:
                    yield error
                else:
                    yield ArrowRow(number, shown, batch=batch, index=index)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    finally:
        file.close()


def _rows(
    path: Path, file: Any, readers: dict[str, tuple[str, ReadValue]], counts: RowCounts
) -> Iterator[Row | BadRow]:
    """First an empty row, then those of the file.

    Args:
        path: for messages.
        file: to read and close.
        readers: from a field of Row to the column's name and how a value of it becomes text.
        counts: the tally that is to know how much is read.
    """
    from pyarrow import ArrowException

    number, of = 0, file.metadata.num_rows
    counts.share = lambda: number / max(1, of)
    try:
        yield Row(number)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[name for name, _ in readers.values()]):
            values = {field: batch.column(name).to_pylist() for field, (name, _) in readers.items()}
            for row in range(batch.num_rows):
                number += 1
                try:
                    found = {
                        field: read(f"{path}, row {number}: column {name!r}", values[field][row])
                        for field, (name, read) in readers.items()
                    }
                    yield row_of(number, found)
                except BadRow as error:
                    yield error
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
