"""Recommending for the users of a log of events: a row for each, by the last of their sequences."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from quorem.config.events import is_log
from quorem.config.next_item import SessionDataSettings
from quorem.data.documents import RowCounts
from quorem.data.events.source import EventSource
from quorem.data.extended import format_for
from quorem.data.readers.table import Column, TableRow
from quorem.data.writers import Head
from quorem.errors import UserError


def event_source(
    path: str | Path | Sequence[str | Path],
    data: SessionDataSettings,
    *,
    text_column: str | None,
    format: str,
    bad_rows: str,
) -> EventSource | None:
    """The log that files are by the settings of a run, or by their names; None for rows of items.

    Args:
        path: as `quorem.recommending.recommend.recommend` has it.
        data: section data of the run.
        text_column: of rows of items: with it files are no log.
        format: a key of READERS, or auto; text is no log either.
        bad_rows: error or skip.

    Raises:
        UserError: for files or settings that cannot be used.
    """
    place = [str(path)] if isinstance(path, str | Path) else [str(each) for each in path]
    settings = replace(data, path=place[0] if len(place) == 1 else place, bad_rows=bad_rows)
    if text_column is not None or format in ("text", "folder") or not is_log(settings):
        return None
    settings = replace(
        settings,
        format=format_for(settings.path, format, data.format),
        test_period=None,
        min_events=1,
        min_item_events=1,
    )
    return EventSource.of_log(settings, latest=True)


def rows_of_users(source: EventSource, counts: RowCounts) -> Iterator[tuple[Path, TableRow]]:
    """A row for each user, with what they had last, in the order in which that began; `counts` tells how many."""
    for number, (user, _, items) in enumerate(source.sequences(), start=1):
        counts.read += 1
        yield source.files[0], TableRow(number, items, cells=(user,))


def note_bad(source: EventSource, counts: RowCounts) -> None:
    """Add the bad events of a log to a tally of users."""
    facts = source.facts()
    counts.read, counts.skipped, counts.bad = counts.read + facts.bad, counts.skipped + facts.bad, facts.bad
    counts.messages += facts.messages


def head_of_users(source: EventSource, added: Sequence[Column]) -> Head:
    """The columns of the output: that of the users, as the log has it, and what is added.

    Raises:
        UserError: if the log's column has the name of one that is added.
    """
    name = source.user_column
    if name in [column.name for column in added]:
        raise UserError(f"{source}: already has a column {name!r}, which recommendations would repeat: rename it")
    return Head([], [Column(name)], added)
