"""Documents from Python: a Hugging Face dataset, or any collection of mappings that can be read again."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.session import join_items
from quorem.data.readers.table import LABEL, MORE, TEXT, ColumnNames, TableRow
from quorem.data.readers.tally import to_documents
from quorem.data.readers.value import to_text, to_whole_text
from quorem.data.source import DEFAULT_TEXT_COLUMN, Source
from quorem.errors import UserError, did_you_mean


@dataclass(frozen=True)
class DatasetSource(Source):
    """Rows in memory or memory-mapped, instead of files; one at a time is read.

    Attributes:
        rows: mappings from column to value; a collection, not an iterator, for it is read more than once.
    """

    rows: Iterable[Mapping[str, Any]] = ()

    @classmethod
    def of_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        text_column: str = DEFAULT_TEXT_COLUMN,
        label_column: str | None = None,
        split_column: str | None = None,
        more_columns: tuple[str, ...] = (),
    ) -> "DatasetSource":
        """Rows as a source; a ClassLabel gives the names of its classes.

        Raises:
            UserError: if the rows cannot be read twice, or are a dictionary of splits.
        """
        rows = rows_of(rows, text_column)
        if isinstance(rows, Mapping):
            raise UserError(f"dataset: these are splits ({', '.join(map(str, rows))}): give one, as dataset['train']")
        if isinstance(rows, Iterator):
            raise UserError("dataset: an iterator can be read once only: give a list or a datasets.Dataset")
        return cls((), "dataset", text_column, label_column, {}, split_column, more_columns, rows)

    def documents(self, counts: RowCounts | None = None) -> Iterator[Document]:
        """The documents of all rows, in order; see `Source.documents`.

        Raises:
            UserError: at the call if there are no rows, or the first lacks a column; while streaming for a later one,
                and at the end if no row could be used.
        """
        first = next(iter(self.rows), None)
        if first is None:
            raise UserError("dataset: it has no rows")
        self._check(first, 1)
        return to_documents(
            str(self),
            self._rows(),
            labelled=self.label_column is not None,
            counts=RowCounts() if counts is None else counts,
            unusable="rows have an empty text or label: check the names of the columns",
            empty="has no rows",
        )

    def share_read(self, counts: RowCounts) -> float | None:
        """How much of the data is read, 0 to 1, by rows; None for a collection that does not know its length."""
        return counts.read / max(1, len(self.rows)) if isinstance(self.rows, Sized) else None

    def fingerprint(self) -> str:
        """What the datasets library keeps as such, or the sha256 of the columns that are read."""
        known = getattr(self.rows, "_fingerprint", None)
        if known:
            return hashlib.sha256(f"{known} {self._read_columns()}".encode()).hexdigest()
        digest = hashlib.sha256()
        for number, row in enumerate(self.rows, start=1):
            self._check(row, number)
            digest.update(json.dumps([row[name] for name in self._read_columns()], default=str).encode() + b"\n")
        return digest.hexdigest()

    def __str__(self) -> str:
        return "dataset"

    def _columns(self) -> list[str | None]:
        """Text, label, split and further columns; None for what is not read."""
        return ColumnNames((), self.label_column, self.split_column, self.more_columns).in_order(str(self.text_column))

    def _read_columns(self) -> list[str]:
        return [name for name in self._columns() if name is not None]

    def _check(self, row: Mapping[str, Any], number: int) -> None:
        for name in self._read_columns():
            if name not in row:
                raise UserError(f"dataset, row {number}: no column {name!r}.{did_you_mean(name, row)}")

    def _rows(self) -> Iterator[TableRow]:
        classes = getattr((getattr(self.rows, "features", None) or {}).get(self.label_column), "names", None)
        for number, row in enumerate(self.rows, start=1):
            self._check(row, number)
            values: list[str | None] = []
            for field, name in enumerate(self._columns()):
                if name is None:
                    values.append(None)
                    continue
                place, value = f"dataset, row {number}: column {name!r}", row[name]
                if field == LABEL and classes and isinstance(value, int):
                    value = classes[value] if value >= 0 else None  # -1 is the library's "no label"
                if field >= MORE:
                    values.append(to_whole_text(place, value))
                elif field == TEXT and isinstance(value, list | tuple):
                    values.append(join_items(place, (to_text(place, item) or "" for item in value)))
                elif value is None or isinstance(value, str | int | float):
                    values.append(to_text(place, value))
                else:
                    kind = type(value).__name__
                    raise UserError(f"{place} is a {kind}, where text is needed: map it to text")
            yield TableRow.of(number, values)


def rows_of(rows: Any, text_column: str | None = None) -> Any:
    """The rows of a table of pandas or Arrow as mappings, and texts alone as rows of one column; all else as it is."""
    if hasattr(rows, "to_pylist"):  # Arrow
        rows = rows.to_pylist()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas, whose missing values are no texts
        rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
    elif hasattr(rows, "tolist"):  # a column of it, or an array
        rows = rows.tolist()
    if isinstance(rows, list) and rows and isinstance(rows[0], str):
        rows = [{str(text_column): text} for text in rows]
    return rows
