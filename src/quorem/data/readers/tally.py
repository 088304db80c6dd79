"""From the rows of a file to its documents: rows are counted, and bad ones are an error or skipped."""

from collections.abc import Iterator
from pathlib import Path

from quorem.data.bad_rows import BadRow
from quorem.data.documents import UNLABELLED, Document, RowCounts
from quorem.data.readers.table import TableRow
from quorem.errors import UserError


def to_documents(
    path: Path | str,
    rows: Iterator[TableRow | BadRow],
    *,
    labelled: bool,
    counts: RowCounts,
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
        unusable: the end of the error where no row was bad and none can be used: "all 5 " stands before it. Empty if
            that is no error.
        empty: the end of the error for a file without rows.

    Raises:
        UserError: for a bad row unless they are skipped, and at the end if no row can be used.
    """
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
        if not (row.text and row.text.strip()):
            counts.skipped += 1
            continue
        if labelled and not (row.label and row.label.strip()):
            counts.skipped += 1
            counts.left_out[UNLABELLED] = counts.left_out.get(UNLABELLED, 0) + 1
            continue
        used += 1
        counts.used += 1
        yield Document(row.text, row.label, row.number, row.split, row.more)
    if used or not unusable:
        return
    if bad:
        raise UserError(f"{path}: none of its {read:,} rows can be used, and {bad:,} are bad. The first: {first_bad}")
    raise UserError(f"{path}: all {read} {unusable}" if read else f"{path} {empty}")
