"""Rows that cannot be read: an error, or skipped, counted and listed (data.bad_rows)."""

import logging
from pathlib import Path

from quorem.data.documents import RowCounts
from quorem.errors import UserError
from quorem.files import write_bytes

logger = logging.getLogger(__name__)

BAD_ROWS = ("error", "skip")
FILE = "bad_rows.txt"
LOGGED = 3


class BadRow(UserError):
    """A row that cannot be read, with its place in the file; the rows after it can."""


def report_bad_rows(counts: RowCounts, folder: Path, *, name: str = FILE) -> None:
    """Log the first bad rows as warnings and list them in the folder's bad_rows.txt; nothing where there are none.

    Args:
        counts: what was read.
        folder: of the run, or of prepared data.
        name: of the list.
    """
    if not counts.bad:
        return
    left_out = counts.bad - len(counts.messages)
    more = [f"and {left_out:,} more"] if left_out else []
    listed = "\n".join([*counts.messages, *more, ""])
    write_bytes(folder / name, listed.encode(errors="backslashreplace"))  # names of files need not be text
    for message in counts.messages[:LOGGED]:
        logger.warning("skipped: %s", message)
    logger.warning("%s bad rows in all, skipped and listed in %s", f"{counts.bad:,}", folder / name)
