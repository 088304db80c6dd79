"""What every reader yields, and the tally of what it read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a data file.

    Attributes:
        text: the text as it stands in the file, never empty.
        label: the class name as it stands in the file; None where no label was asked for.
        row: 1-based data row in the file (a header is not a data row), so an error can point back at it.
    """

    text: str
    label: str | None = None
    row: int = 0


@dataclass
class RowCounts:
    """A tally that a reader keeps up to date while it streams: `read == used + skipped` at every moment.

    Attributes:
        read: data rows seen so far.
        used: rows that became a `Document`.
        skipped: rows left out because their text, or the label asked for, was empty.
    """

    read: int = 0
    used: int = 0
    skipped: int = 0
