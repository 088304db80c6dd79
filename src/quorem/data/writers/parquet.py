"""Write rows as Parquet; the library pyarrow is the extra quorem[parquet]."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from quorem.data.readers.parquet import ArrowRow
from quorem.data.readers.table import Column
from quorem.data.writers.cell import to_field
from quorem.data.writers.line import Head, Line, Write
from quorem.errors import UserError
from quorem.files import new_bytes

GROUP_ROWS, GROUP_BYTES = 100_000, 2**26  # rows are kept in memory up to either, and written as one row group


@contextmanager
def write_parquet(path: Path, head: Head) -> Iterator[Write]:
    """A Parquet file to fill. What was read from Parquet keeps its types and metadata; lists and objects become JSON.

    Raises:
        UserError: if the file exists, another process is writing it, pyarrow is not installed, or has no such type.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path}: writing .parquet needs pyarrow: pip install 'quorem[parquet]'") from error
    schema = pyarrow.schema([_field(column) for column in head.all], metadata=head.metadata)
    held: list[Any] = []

    with new_bytes(path) as file:
        try:
            with parquet.ParquetWriter(file, schema) as writer:

                def flush() -> None:
                    if held:
                        table = pyarrow.Table.from_batches(held, schema)
                        writer.write_table(table, row_group_size=len(table))
                        held.clear()

                def write(lines: Sequence[Line]) -> None:
                    for batch, some in groupby(lines, lambda line: getattr(line.row, "batch", None)):
                        held.append(_batch(schema, head, batch, list(some)))
                    if (
                        sum(each.num_rows for each in held) >= GROUP_ROWS
                        or sum(each.nbytes for each in held) >= GROUP_BYTES
                    ):
                        flush()

                yield write
                flush()
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError) as error:
            reason = (str(error).splitlines() or ["?"])[0]
            raise UserError(f"{path}: cannot be written as Parquet ({reason}): write a .jsonl or .csv") from error


def _batch(schema: Any, head: Head, batch: Any, lines: list[Line]) -> Any:
    """Rows as a RecordBatch; those of one batch of Parquet are taken from it."""
    import pyarrow

    own: Sequence[Any]
    rows = [line.row for line in lines]
    if batch is not None:
        own = batch.arrow.take(pyarrow.array([row.index for row in rows if isinstance(row, ArrowRow)])).columns
    else:
        own = _arrays(head.columns, [row.values(head.names) for row in rows])
    before = _arrays(head.before, [list(line.before.values()) for line in lines])
    after = _arrays(head.after, [list(line.after.values()) for line in lines])
    return pyarrow.RecordBatch.from_arrays([*before, *own, *after], schema=schema)


def _arrays(columns: Sequence[Column], rows: list[Any]) -> list[Any]:
    import pyarrow

    return [
        pyarrow.array([_value(column.kind, row[place]) for row in rows], _field(column).type)
        for place, column in enumerate(columns)
    ]


def _field(column: Column) -> Any:
    import pyarrow

    if not isinstance(column.kind, str):
        return column.kind
    types = {"integer": pyarrow.int64(), "number": pyarrow.float64(), "boolean": pyarrow.bool_()}
    types["vector"] = pyarrow.list_(pyarrow.float32())
    return pyarrow.field(column.name, types.get(column.kind, pyarrow.string()))


def _value(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "vector":
        return list(map(float, value))
    return {"integer": int, "number": float, "boolean": bool}.get(kind, to_field)(value)
