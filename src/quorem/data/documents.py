"""The document, which every reader yields, and the tally of rows read."""

from collections.abc import Callable
from dataclasses import dataclass, field

MOST_MESSAGES = 1_000
HELD_OUT = ("test", "valid", "validation", "dev")
SPLITS = ("train", *HELD_OUT)
"""What a split may be called: train, or one of those that are held out."""
UNLABELLED = "without a label"  # rows, in a tally


def _whole() -> float:
    return 1.0


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a data file.

    Attributes:
        text: the text as it stands in the file, never empty.
        label: the class name as it stands in the file; None where no label was asked for.
        row: 1-based data row in the file (a header is not a data row), so an error can point back at it.
        split: train, test or another name of SPLITS as it stands in the file; None where there are no splits.
        more: what stands in the further columns asked for, as texts; lists and objects as JSON, None where nothing is.
    """

    text: str
    label: str | None = None
    row: int = 0
    split: str | None = None
    more: tuple[str | None, ...] = ()


@dataclass
class RowCounts:
    """A tally that a reader keeps up to date while it streams: `read == used + skipped` at every moment.

    Attributes:
        read: data rows seen so far.
        used: rows that became a `Document`.
        skipped: rows left out: their text, or the label asked for, was empty, or they were bad.
        bad: of the skipped, those that could not be read, where bad rows are skipped instead of being an error.
        messages: what was wrong with each of the first bad rows, at most MOST_MESSAGES of them.
        warnings: how often a warning was counted, by its kind.
        left_out: of the skipped, how many were left out for a reason other than that they are empty or bad.
        files: begun so far.
        share: of the file begun last, how much is read, 0 to 1; readers that stream one set it.
    """

    read: int = 0
    used: int = 0
    skipped: int = 0
    bad: int = 0
    messages: list[str] = field(default_factory=list, repr=False)
    warnings: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    left_out: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    files: int = field(default=0, repr=False, compare=False)
    share: Callable[[], float] = field(default=_whole, repr=False, compare=False)

    def begin_file(self) -> None:
        """Count a file; a reader that does not read it whole at once sets share."""
        self.files += 1
        self.share = _whole

    def totals(self) -> dict[str, int]:
        """The numbers of rows by name: read, used, skipped, bad."""
        return {name: getattr(self, name) for name in ("read", "used", "skipped", "bad")}

    def skip_bad(self, message: str) -> None:
        """Count a row that could not be read."""
        self.read += 1
        self.skipped += 1
        self.bad += 1
        if len(self.messages) < MOST_MESSAGES:
            self.messages.append(message)

    def recount_as_bad(self, message: str) -> None:
        """Count a row as bad that was counted as used."""
        self.read -= 1
        self.used -= 1
        self.skip_bad(message)

    def count_warning(self, what: str) -> int:
        """Count a warning; the number of its kind so far."""
        self.warnings[what] = self.warnings.get(what, 0) + 1
        return self.warnings[what]

    def recount_as_skipped(self, rows: int, why: str = "") -> None:
        """Count rows as skipped that were counted as used; `why` if they are not empty."""
        self.used -= rows
        self.skipped += rows
        if why:
            self.left_out[why] = self.left_out.get(why, 0) + rows

    def __str__(self) -> str:
        empty = self.skipped - self.bad - sum(self.left_out.values())
        skipped = f"{empty:,} empty" + (f", {self.bad:,} bad" if self.bad else "")
        skipped += "".join(f", {number:,} {what}" for what, number in self.left_out.items())
        warnings = "".join(f", {number:,} {what}" for what, number in self.warnings.items())
        return f"{self.read:,} rows read, {self.used:,} used, {self.skipped:,} skipped ({skipped}){warnings}"
