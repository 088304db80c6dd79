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


def check_some_used(counts: RowCounts, name: str) -> None:
    """Refuse data whose rows are all bad or blank, if some are bad.

    Where each file is one row, no reader sees that all of them are bad.

    Args:
        counts: what was read, all of it.
        name: of the data.

    Raises:
        UserError: if no row could be used, and some were bad.
    """
    if counts.bad and not counts.used:
        raise UserError(
            f"{name}: none of the {counts.read:,} rows can be used, and {counts.bad:,} are bad. The first: "
            f"{counts.messages[0]}"
        )


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
