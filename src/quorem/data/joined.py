"""The files of a source as one table: their rows in order, each with all that it holds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.readers import READERS
from quorem.data.readers.midi import check_midi
from quorem.data.readers.paths import follow_paths
from quorem.data.readers.table import Column, Table, TableRow
from quorem.data.readers.value import wider
from quorem.data.source import Source
from quorem.errors import UserError


class JoinedFiles:
    """Files of one format, read as tables.

    Attributes:
        text_column: the column of text: the first of those offered that the first file has; None without columns.
        named: whether columns have names in the files.
        metadata: of the first file's schema, where it has one.
    """

    def __init__(
        self, source: Source, text_columns: Sequence[str], *, options_of: Callable[[Path], dict[str, Any]]
    ) -> None:
        """Open the first file.

        Args:
            source: the files; its text_column is one that a format without columns will refuse.
            text_columns: what its column of text may be called.
            options_of: a file's options, as Source has them.

        Raises:
            UserError: if the first file cannot be read, or has no such column.
        """
        self._source, self._options_of = source, options_of
        self._text_columns, self._counts = text_columns, RowCounts()  # the latter counts warnings
        if source.options_of_paths is not None:
            check_midi(**source.options_of_paths)
        first = self._open(source.files[0])
        self.text_column, self.named, self.metadata = first.text_column, first.named, first.metadata
        self._columns = first.columns
        if first.text_column is not None:
            self._text_columns = [first.text_column]

    def columns(self, *, needed: bool) -> list[Column]:
        """The columns of all files.

        Args:
            needed: whether files whose rows have names of their own are read for them; else they have no columns.

        Raises:
            UserError: for a file whose columns are not those of the first, or that cannot be read.
        """
        first, *others = self._source.files
        if self._columns is None:
            return self._all_names() if needed else []
        merged = list(self._columns)
        for file in others:
            table = self._open(file)
            if difference := _difference(merged, table.columns or ()):
                raise UserError(
                    f"{file}: its columns are not those of {first}: {difference}. Make them alike, or predict the "
                    "files one by one"
                )
            merged = [_nullable(one, other) for one, other in zip(merged, table.columns or (), strict=True)]
        return merged

    def rows(self) -> Iterator[tuple[Path, TableRow | BadRow]]:
        """The rows of all files, in order, or what is wrong with one, each with its file.

        Where data.paths is set, the text of a row is the words of the file that it names.

        Raises:
            UserError: while streaming, for a file that cannot be read.
        """
        for file in self._source.files:
            rows, paths = self._open(file).rows, self._source.options_of_paths
            if paths is not None:
                rows = follow_paths(file, rows, counts=self._counts, **paths)
            yield from ((file, row) for row in rows)

    def _open(self, file: Path) -> Table:
        reader = READERS[self._source.format]
        options = {name: value for name, value in self._options_of(file).items() if name in reader.options}
        given = [] if self._source.text_column is None else [self._source.text_column]
        names = self._text_columns if reader.has_columns else given
        return reader.table(file, text_columns=names, counts=self._counts, **options)

    def _all_names(self) -> list[Column]:
        kinds: dict[str, str | None] = {}
        for file in self._source.files:
            survey = self._open(file).survey
            for name, kind in survey().items() if survey else ():
                kinds[name] = wider(kinds.get(name), kind)
        return [Column(name, kind or "string") for name, kind in kinds.items()]


def _difference(columns: Sequence[Column], others: Sequence[Column]) -> str:
    """What others have that columns have not; empty where they are the same."""
    names, other_names = [column.name for column in columns], [column.name for column in others]
    if lacking := [name for name in names if name not in set(other_names)]:
        return f"it has no {lacking[0]!r}"
    if further := [name for name in other_names if name not in set(names)]:
        return f"it has {further[0]!r} too"
    if names != other_names:
        return f"they stand in another order ({', '.join(other_names[:20])})"
    for one, other in zip(columns, others, strict=True):
        kinds = [str(getattr(each.kind, "type", each.kind)) for each in (one, other)]
        if kinds[0] != kinds[1]:
            return f"{one.name!r} is {kinds[1]}, and {kinds[0]} there"
    return ""


def _nullable(one: Column, other: Column) -> Column:
    """A column that may be empty where that of either file may be."""
    if getattr(other.kind, "nullable", False) and not one.kind.nullable:
        return other
    return one
