"""How a kind of table describes itself: the settings it takes, and its rows for a size."""

from typing import Any, ClassVar, Protocol


class TableSettings(Protocol):
    """The settings asked of a table; None where nothing is asked."""

    @property
    def operation(self) -> str | None: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def own_rank(self) -> int: ...
    @property
    def divisor(self) -> int | None: ...
    @property
    def digits(self) -> int: ...
    @property
    def moduli(self) -> str | None: ...
    @property
    def hidden(self) -> int: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def functions(self) -> int: ...
    @property
    def parts(self) -> int | None: ...


class Planned:
    """The plan of a kind of table. K tokens have a row of their own, the tail of V - K shares rows."""

    settings: ClassVar[tuple[str, ...]] = ()
    """Settings of the table that it takes, beside those of all (tier, assignment, budget, start)."""
    is_grid: ClassVar[bool] = False
    """Whether ids share rows by codes that tell them apart, so that a larger tier leaves fewer shared rows."""
    neighbours_share: ClassVar[bool] = False
    """Whether ids that follow each other share a row: tokens in like contexts should."""
    knows_each: ClassVar[bool] = False
    """Whether each token has numbers or codes of its own: vectors can then be the leaves of a softmax."""
    shares_digits: ClassVar[bool] = False
    """Whether its moduli are digits that a hierarchical softmax can choose one by one, with the table's rows."""

    @classmethod
    def size_range(cls, wanted: TableSettings, tail: int, dim: int) -> tuple[int, int]:
        """The smallest and the largest `size` of `plan`; memory rises from one to the other.

        Args:
            wanted: the settings.
            tail: ids that share rows, at least 1.
            dim: D.
        """
        return 1, tail

    @classmethod
    def least_tier(cls, wanted: TableSettings, ids: int) -> int:
        """The fewest of `ids` that need their own row, so that the codes tell the others apart."""
        return 0

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """What a config stores of the table beside the tier: its options, and `divisor` where it chooses one.

        Args:
            wanted: the settings.
            tail: ids that share rows, at least 1.
            dim: D.
            size: what scales the shared part, of `size_range`; None for the kind's own choice.

        Raises:
            ValueError: for settings that cannot be used.
        """
        raise NotImplementedError


def parse_moduli(text: str | None) -> list[int] | None:
    """Moduli as they are given: "97,101".

    Raises:
        ValueError: for anything else.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"moduli={text}: numbers separated by commas needed, for example 97,101") from None


def rows_for(wanted: TableSettings, tail: int, size: int | None) -> int:
    """Number of shared rows: as asked for, otherwise as in the square grid."""
    return wanted.rows or size or max(1, round(2 * tail**0.5))
