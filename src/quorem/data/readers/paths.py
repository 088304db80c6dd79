"""Follow the paths that stand in a table to MIDI files, whose words become the texts (data.paths)."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.once import log_once
from quorem.data.readers.midi import midi_text
from quorem.data.readers.table import TableRow
from quorem.errors import UserError

logger = logging.getLogger(__name__)


def path_of(table: Path, text: str) -> Path:
    """The file that a text of a table names: a path relative to the table's folder."""
    return table.parent / text.strip()


def follow_paths(
    table: Path, rows: Iterator[TableRow | BadRow], *, counts: RowCounts, labelled: bool = False, **options: Any
) -> Iterator[TableRow | BadRow]:
    """The rows of a table with the words of the MIDI files that their texts name; blank ones if they have no notes.

    A row whose file is missing or cannot be read is a bad row.

    Args:
        table: the file that the rows stand in.
        rows: its rows.
        counts: the tally of warnings.
        labelled: whether rows without a label are not used, so that their files are not read.
        options: how MIDI is spelled: see `midi_text`.
    """
    for row in rows:
        if isinstance(row, TableRow) and (row.text or "").strip() and (row.label or not labelled):
            try:
                row.text = midi_text(path_of(table, row.text or ""), counts=counts, **options)
            except UserError as error:
                yield BadRow(f"{table}, row {row.number}: {error}")
                continue
        yield row


def warn_of_path(table: Path, row: TableRow) -> None:
    """Warn of a text that is the name of an existing MIDI file."""
    if os.path.isfile(path_of(table, row.text or "")):  # False for what can be no path
        message = f"{table}, row {row.number}: the text is the path of a MIDI file: data.paths=true reads its words"
        log_once(logger, logging.WARNING, message)
