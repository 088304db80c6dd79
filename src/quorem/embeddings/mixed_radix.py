"""Generalised quotient-remainder: k digits of a mixed radix, k tables, about k V^(1/k) rows.

Shi et al. 2020, arXiv:1909.02107, sec. 3.1, example 3.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.partition import PartitionEmbedding
from quorem.embeddings.planning import TableSettings, parse_moduli


class MixedRadixEmbedding(PartitionEmbedding):
    """Digit j of an id is (id // (m_1 ... m_(j-1))) mod m_j; the last is what is left, so that it can grow.

    Args:
        assignment: the tier, and the order of the ids that share rows.
        dim: D.
        moduli: m_1 to m_(k-1); the last digit has ceil(tail / their product) values.
        operation: multiply, add or concat.
        more: rank and own_rank, as for every partition.
    """

    uniqueness: ClassVar[str] = "the digits give the id back"
    settings: ClassVar[tuple[str, ...]] = (*PartitionEmbedding.settings, "digits", "moduli")
    is_grid = True
    neighbours_share = True
    shares_digits = True

    def __init__(
        self, assignment: Assignment, dim: int, *, moduli: Sequence[int], operation: str = "multiply", **more: Any
    ) -> None:
        if not moduli or min(moduli) < 1:
            raise ValueError(f"moduli {list(moduli)}: one or more numbers, each at least 1, needed")
        self.moduli = tuple(moduli)
        sizes = digit_sizes(assignment.tail, moduli)
        names = [f"digit_{number}" for number in range(1, len(sizes) + 1)]
        super().__init__(assignment, dim, sizes=sizes, operation=operation, names=names, moduli=list(moduli), **more)

    @classmethod
    def size_range(cls, wanted: TableSettings, tail: int, dim: int) -> tuple[int, int]:
        """First moduli, from that of the fewest rows on."""
        return even_moduli(tail, wanted.digits)[0], tail

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the first modulus."""
        moduli = parse_moduli(wanted.moduli) or even_moduli(tail, wanted.digits, first=size)
        return {"moduli": moduli, **super().plan(wanted, tail, dim, size)}

    def codes(self, tail: Tensor) -> tuple[Tensor, ...]:
        """The digits, least significant first."""
        digits = []
        for modulus in self.moduli:
            digits.append(tail % modulus)
            tail = tail // modulus
        return *digits, tail

    def digit_rows(self, moduli: Sequence[int]) -> list[Tensor]:
        """The tables themselves, if their rows are whole vectors."""
        whole = self.operation != "concat" and self.rank == 1
        return list(self.tables[-2::-1]) if whole and tuple(moduli) == self.moduli else []


def digit_sizes(tail: int, moduli: Sequence[int]) -> list[int]:
    """How many values each digit of 0 to tail - 1 takes, least significant first, the one that is left over last."""
    sizes = []
    for modulus in moduli:
        sizes.append(min(modulus, tail))
        tail = -(-tail // modulus)
    return [*sizes, tail]


def even_moduli(tail: int, digits: int, *, first: int | None = None) -> list[int]:
    """All moduli but the last of `digits` digits that tell `tail` ids apart, exactly.

    They are of about equal size, the fewest rows: the least m with m^digits >= tail; but for the first, if it is given.
    """
    if first is not None and digits > 2:
        return [first, *even_moduli(-(-tail // first), digits - 1)]
    if first is not None:
        return [first]
    root = max(1, round(tail ** (1 / digits)) - 1)
    while root**digits < tail:
        root += 1
    return [root] * (digits - 1)
