"""Stream documents from a Parquet file; the library pyarrow is the extra quorem[parquet].

Guarantees: one batch of rows is in memory at a time, of the columns needed; a row without text (or without the label
asked for) is left out and counted; a file that is no Parquet or a damaged one is an error that names it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import open_data
from quorem.data.readers.session import join_items
from quorem.errors import UserError, did_you_mean

BATCH_ROWS = 1_024


def read_parquet(
    path: str | Path,
    *,
    text_column: str,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    split_column: str | None = None,
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

    Raises:
        UserError: at the call if pyarrow is not installed, the file is missing, a folder, unreadable, damaged or not
            Parquet, or a column is missing, repeated or of a type that is no text; while streaming for damaged data,
            and at the end if no row could be used.
    """
    path = Path(path)
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("data.format=parquet needs pyarrow: pip install 'quorem[parquet]'") from error
    with open_data(path):  # a missing file, a folder and one that may not be read
        pass
    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    columns = [name for name in (text_column, label_column, split_column) if name is not None]
    try:
        to_text = {name: _column_text(path, file.schema_arrow, name) for name in columns}
    except UserError:
        file.close()
        raise
    rows = _rows(path, file, to_text)
    next(rows)  # so that dropping it unread still closes the file
    return _documents(path, rows, text_column, label_column, split_column, RowCounts() if counts is None else counts)


def _rows(path: Path, file: Any, to_text: dict[str, Callable[[Any], str]]) -> Iterator[dict[str, str | None]]:
    """First an empty row, then those of the file as text, None for null."""
    from pyarrow import ArrowException

    try:
        yield {}
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(to_text)):
            values = {name: batch.column(name).to_pylist() for name in to_text}
            for row in range(batch.num_rows):
                found = {name: values[name][row] for name in to_text}
                yield {name: None if value is None else to_text[name](value) for name, value in found.items()}
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    finally:
        file.close()


def _documents(
    path: Path,
    rows: Iterator[dict[str, str | None]],
    text_column: str,
    label_column: str | None,
    split_column: str | None,
    counts: RowCounts,
) -> Iterator[Document]:
    row, used = 0, False  # of this file: `counts` may already hold other files
    for row, values in enumerate(rows, start=1):
        counts.read += 1
        text = values[text_column] or ""
        label = values[label_column] or "" if label_column else None
        if not text.strip() or (label is not None and not label.strip()):
            counts.skipped += 1
            continue
        if "\0" in text:
            raise UserError(f"{path}, row {row}: the text has a NUL character, which text has none of: remove it.")
        used = True
        counts.used += 1
        yield Document(text, label, row, (values[split_column] or "") if split_column else None)
    if not row:
        raise UserError(f"{path} has no rows: write some.")
    if not used:
        what = "text or label" if label_column else "text"
        raise UserError(f"{path}: all {row} rows have an empty {what}: check the file and the column names.")


def _column_text(path: Path, schema: Any, name: str) -> Callable[[Any], str]:
    """How a value of a column becomes text."""
    from pyarrow import types

    if name not in schema.names:
        raise UserError(f"{path}: no column {name!r}.{did_you_mean(name, schema.names)}")
    if schema.names.count(name) > 1:
        raise UserError(f"{path}: column {name!r} is there more than once: rename them.")
    kind = schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if _is_plain(kind):
        return _text
    if (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)) and _is_plain(
        kind.value_type
    ):
        return lambda value: join_items(f"{path}: column {name!r}", map(_text, value))
    raise UserError(
        f"{path}: column {name!r} is of type {kind}, where strings, numbers, booleans or lists of these are needed: "
        "write it as one of them."
    )


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    strings = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in (*strings, *numbers))


def _text(value: Any) -> str:
    if value is None:  # in a list
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _damaged(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or ["?"])[0]
    return UserError(f"{path} is damaged or not Parquet ({reason}): write it again, or name it by its format.")
