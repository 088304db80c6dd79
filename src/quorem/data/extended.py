"""Data files whose rows are written again with more columns: what predicting and recommending share."""

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from quorem.config.settings import ReadingSettings
from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.joined import JoinedFiles
from quorem.data.readers import known_format
from quorem.data.readers.encoding import is_utf8_beside
from quorem.data.readers.table import FILE_COLUMN, Column, TableRow
from quorem.data.source import DEFAULT_TEXT_COLUMN, Source, find_files, find_format, options_for
from quorem.data.writers import Head, Line, Writer
from quorem.errors import UserError

logger = logging.getLogger(__name__)


def find_source(
    path: str | Path | Sequence[str | Path],
    chosen: str,
    text_column: str | None,
    data: ReadingSettings,
    given: dict[str, Any],
) -> Source:
    """The files, with the run's options as far as their format has them, and those given instead.

    Raises:
        UserError: if there are no such files, they have several formats, or an option given has no meaning for theirs.
    """
    place = str(path) if isinstance(path, str | Path) else [str(each) for each in path]
    place = place[0] if isinstance(place, list) and len(place) == 1 else place
    files, found = find_format(place, format_for(place, chosen, data.format))
    of_run = {name: value for name, value in options_for(data, found).items() if name != "bad_rows"}
    settings = ReadingSettings(path=[str(file) for file in files], format=found, **of_run | given)
    return Source.of(settings, text_column=text_column)


def format_for(path: str | list[str], chosen: str, of_run: str) -> str:
    """The format given, or the run's where the names of files say nothing, or several things of which it is one."""
    if chosen != "auto" or of_run == "auto":
        return chosen
    named = {known_format(file) for file in find_files(path)}
    return of_run if named == {None} or (len(named) > 1 and of_run in named) else chosen


def join(source: Source, text_column: str | None, data: ReadingSettings, *, own_encoding: bool) -> JoinedFiles:
    """The files as one table, each UTF-8 file read as that unless an encoding was given."""

    @cache  # a file is opened several times, and warned of once
    def encoding_of(file: Path) -> str | None:
        of_run = source.options.get("encoding")
        return _own_encoding(file, of_run) if own_encoding else of_run

    def options_of(file: Path) -> dict[str, Any]:
        return source.options | ({"encoding": encoding_of(file)} if "encoding" in source.options else {})

    of_run = getattr(data, "text_column", None) or DEFAULT_TEXT_COLUMN
    columns = [text_column] if text_column is not None else [of_run, DEFAULT_TEXT_COLUMN]
    return JoinedFiles(source, columns, options_of=options_of)


def head_of(source: Source, files: JoinedFiles, out: Path, writer: Writer, added: Sequence[Column]) -> Head:
    """The columns of the output, as far as the writer needs to know them.

    Raises:
        UserError: for columns that are not alike, or would be there twice.
    """
    columns = files.columns(needed=writer.needs_columns)
    names = [column.name for column in columns]
    for column in added:
        if column.name in names:
            raise _taken(str(source), column.name)
    before = [FILE_COLUMN] if len(source.files) > 1 and FILE_COLUMN.name not in names else []
    head = Head(before, columns, added, files.named, files.metadata)
    if not writer.repeats and len(set(names)) < len(names):
        last = {name: place for place, name in enumerate(names)}
        twice = next(name for place, name in enumerate(names) if last[name] != place)
        raise UserError(
            f"{source}: has several columns {twice!r}, which {out.suffix} has no room for: rename them, or write a .csv"
        )
    return head


def good_rows(
    files: JoinedFiles, counts: RowCounts, bad_rows: str, added: Sequence[Column]
) -> Iterator[tuple[Path, TableRow]]:
    """The rows that can be read, each with its file; `counts` tells how many were read, and which were bad.

    Raises:
        UserError: for a bad row unless they are skipped, and for one that has a key of those added.
    """
    for file, row in files.rows():
        if isinstance(row, BadRow):
            if bad_rows == "error":
                raise row
            counts.skip_bad(str(row))
            continue
        for column in added:
            if column.name in row.keys:
                raise _taken(f"{file}, line {row.number}", column.name)
        counts.read += 1
        yield file, row


def line_of(head: Head, file: Path, row: TableRow, found: Sequence[Any]) -> Line:
    """A row with its file, where there are several and the row has no such key, and what was found."""
    before = {} if not head.before or FILE_COLUMN.name in row.keys else {FILE_COLUMN.name: str(file)}
    return Line(before, row, dict(zip((column.name for column in head.after), found, strict=True)))


def _taken(place: str, name: str) -> UserError:
    return UserError(f"{place}: already has a column {name!r}, which predictions would repeat: rename it")


def _own_encoding(path: Path, of_run: str | None) -> str | None:
    """That of the run, unless the file is UTF-8, which is warned of."""
    if of_run is None or not is_utf8_beside(path, of_run):
        return of_run
    logger.warning("%s: is valid UTF-8 and read as that, not in the run's data.encoding=%s", path, of_run)
    return None
