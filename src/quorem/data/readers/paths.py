"""Follow the paths that stand in a table to MIDI files, whose words become the texts (data.paths)."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BAD_ROWS, BadRow
from quorem.data.documents import Document, RowCounts
from quorem.data.once import log_once
from quorem.data.readers.midi import check_midi, midi_text
from quorem.errors import UserError, check_choice

logger = logging.getLogger(__name__)


def path_of(table: Path, text: str) -> Path:
    """The file that a text of a table stands for: a path seen from the table's folder."""
    return table.parent / text.strip()


def text_of_path(table: Path, row: int, text: str, **options: Any) -> str:
    """The words of the MIDI file that a text of a table names; blank if it has no notes.

    Args:
        table: the file that the text stands in.
        row: its number there.
        text: the path.
        options: those of `midi_text`.

    Raises:
        BadRow: with the row's place, for what `midi_text` raises.
    """
    try:
        return midi_text(path_of(table, text), **options)
    except UserError as error:
        raise BadRow(f"{table}, row {row}: {error}") from error


def follow_paths(
    table: Path, rows: Iterator[Document], *, counts: RowCounts | None = None, bad_rows: str = "error", **options: Any
) -> Iterator[Document]:
    """The rows of a table with the words of the MIDI files that their texts name, in order; deterministic.

    A path is seen from the table's folder.

    Args:
        table: the file that the rows stand in.
        rows: its documents, which `counts` has counted as used.
        counts: the tally that its reader keeps; rows whose file has no notes are skipped in it.
        bad_rows: error, or skip: a row whose file is missing or cannot be read is left out and counted.
        options: how MIDI is spelled: see `midi_text`.

    Raises:
        UserError: at the call for options that cannot be, or a library that is not installed; while streaming for a row
            whose file cannot be read, with its place, unless they are skipped, and at the end if no row could be used.
    """
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    check_midi(**options)
    return _with_texts(table, rows, RowCounts() if counts is None else counts, bad_rows, options)


def warn_of_paths(table: Path, rows: Iterator[Document], is_midi: Callable[[str], bool]) -> Iterator[Document]:
    """The rows, and a warning if the first text is the name of an existing MIDI file."""
    for first in rows:
        text = first.text.strip()
        if is_midi(text) and os.path.isfile(path_of(table, text)):  # False for what can be no path
            message = f"{table}, row {first.row}: the text is the path of a MIDI file: data.paths=true reads its words"
            log_once(logger, logging.WARNING, message)
        yield from chain([first], rows)


def _with_texts(
    table: Path, rows: Iterator[Document], counts: RowCounts, bad_rows: str, options: dict[str, Any]
) -> Iterator[Document]:
    used, first_bad = 0, ""
    for row in rows:
        try:
            text = text_of_path(table, row.row, row.text, counts=counts, **options)
        except BadRow as error:
            if bad_rows == "error":
                raise
            counts.recount_as_bad(str(error))
            first_bad = first_bad or str(error)
            continue
        if not text:
            counts.recount_as_skipped(1)
            continue
        used += 1
        yield replace(row, text=text)
    if not used:
        raise UserError(
            f"{table}: no row can be used. The first bad one: {first_bad}"
            if first_bad
            else f"{table}: no file that it names has notes."
        )
