"""From the rows of a file to its documents: counted, and where they are bad refused or skipped."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from quorem.data.bad_rows import BAD_ROWS, BadRow
from quorem.data.documents import Document, RowCounts
from quorem.errors import UserError, check_choice


class Row(NamedTuple):
    """What a file holds in one place: nothing, blank or a text; a label, a split and more where they were asked for."""

    number: int
    text: str | None = None
    label: str | None = None
    split: str | None = None
    more: tuple[str | None, ...] = ()


def asked_columns(text: str, label: str | None, split: str | None, more: Sequence[str]) -> dict[str, str]:
    """The columns asked for, by what they are; further ones by their places."""
    asked = {"text": text, "label": label, "split": split} | {f"more {place}": name for place, name in enumerate(more)}
    return {name: column for name, column in asked.items() if column is not None}


def row_of(number: int, values: Mapping[str, str | None]) -> Row:
    """A row from what stands in the columns of `asked_columns`; an empty mapping for a blank one."""
    more = tuple(value for name, value in values.items() if name.startswith("more "))
    return Row(number, values.get("text"), values.get("label"), values.get("split"), more)


def to_documents(
    path: Path | str,
    rows: Iterator[Row | BadRow],
    *,
    labelled: bool = False,
    counts: RowCounts | None = None,
    bad_rows: str = "error",
    unusable: str,
    empty: str,
) -> Iterator[Document]:
    """The documents of rows, in their order; `counts` adds up at every moment.

    Args:
        path: the file, or another name of the data.
        rows: its rows, or what is wrong with them.
        labelled: whether a row needs a label.
        counts: a tally to keep up to date; it may already hold other files.
        bad_rows: error, or skip: a bad row is counted and listed.
        unusable: the end of the message where no row was bad and none could be used: "all 5 " stands before it.
        empty: what is said of the file where it has no row.

    Raises:
        UserError: at the call for another value of bad_rows; while streaming for a bad row unless they are skipped, and
            at the end if no row could be used.
    """
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    return _to_documents(path, rows, labelled, RowCounts() if counts is None else counts, bad_rows, unusable, empty)


def _to_documents(
    path: Path | str,
    rows: Iterator[Row | BadRow],
    labelled: bool,
    counts: RowCounts,
    bad_rows: str,
    unusable: str,
    empty: str,
) -> Iterator[Document]:
    read = used = bad = 0  # of this file
    first_bad = ""
    for row in rows:
        read += 1
        if isinstance(row, BadRow):
            if bad_rows == "error":
                raise row
            counts.skip_bad(str(row))
            bad += 1
            first_bad = first_bad or str(row)
            continue
        counts.read += 1
        if not (row.text and row.text.strip()) or (labelled and not (row.label and row.label.strip())):
            counts.skipped += 1
            continue
        used += 1
        counts.used += 1
        yield Document(row.text, row.label, row.number, row.split, row.more)
    if bad and not used:
        raise UserError(f"{path}: none of its {read:,} rows can be used, and {bad:,} are bad. The first: {first_bad}")
    if not used:
        raise UserError(f"{path}: all {read} {unusable}" if read else f"{path} {empty}")
