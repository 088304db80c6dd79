"""Chinese-remainder embedding: an id's remainders by pairwise coprime moduli.

Shi et al. 2020, arXiv:1909.02107, sec. 3.1, example 4. By the Chinese remainder theorem ids below the moduli's product
have distinct remainders.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.mixed_radix import even_moduli
from quorem.embeddings.partition import PartitionEmbedding
from quorem.embeddings.planning import TableSettings, parse_moduli


class ChineseRemainderEmbedding(PartitionEmbedding):
    """One table a modulus.

    Args:
        assignment: the tier, and the order of the ids that share rows.
        dim: D.
        moduli: pairwise coprime, their product at least the number of ids that share rows.
        operation: multiply, add or concat.
        more: rank and own_rank, as for every partition.
    """

    uniqueness: ClassVar[str] = "the moduli are coprime and their product is large enough (Chinese remainder theorem)"
    settings: ClassVar[tuple[str, ...]] = (*PartitionEmbedding.settings, "digits", "moduli")
    is_grid = True

    def __init__(
        self, assignment: Assignment, dim: int, *, moduli: Sequence[int], operation: str = "multiply", **more: Any
    ) -> None:
        check_moduli(moduli, assignment.tail)
        self.moduli = tuple(moduli)
        sizes = [min(modulus, assignment.tail) for modulus in moduli]
        names = [f"remainder_{number}" for number in range(1, len(sizes) + 1)]
        super().__init__(assignment, dim, sizes=sizes, operation=operation, names=names, moduli=list(moduli), **more)

    @classmethod
    def size_range(cls, wanted: TableSettings, tail: int, dim: int) -> tuple[int, int]:
        """First moduli, from that of the fewest rows on."""
        return even_moduli(tail, wanted.digits)[0], tail

    @classmethod
    def least_tier(cls, wanted: TableSettings, ids: int) -> int:
        """The fewest own rows with which the moduli still tell all other ids apart."""
        moduli = parse_moduli(wanted.moduli)
        return max(0, ids - math.prod(moduli)) if moduli else 0

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the first modulus."""
        moduli = parse_moduli(wanted.moduli) or coprime_moduli(tail, wanted.digits, first=size)
        return {"moduli": moduli, **super().plan(wanted, tail, dim, size)}

    def codes(self, tail: Tensor) -> tuple[Tensor, ...]:
        """The remainders."""
        return tuple(tail % modulus for modulus in self.moduli)


def check_moduli(moduli: Sequence[int], tail: int) -> None:
    """Check what makes the remainders distinct.

    Raises:
        ValueError: naming the moduli that are not coprime, or what their product lacks.
    """
    if not moduli or min(moduli) < 1:
        raise ValueError(f"moduli {list(moduli)}: one or more numbers, each at least 1, needed")
    for index, modulus in enumerate(moduli):
        for other in moduli[index + 1 :]:
            if math.gcd(modulus, other) > 1:
                raise ValueError(
                    f"moduli {list(moduli)}: {modulus} and {other} share the factor {math.gcd(modulus, other)}, "
                    "so two ids would share all rows: pairwise coprime numbers needed"
                )
    if math.prod(moduli) < tail:
        raise ValueError(
            f"moduli {list(moduli)}: their product {math.prod(moduli)} is below the {tail} ids to tell apart"
        )


def coprime_moduli(tail: int, digits: int, *, first: int | None = None) -> list[int]:
    """Pairwise coprime moduli near the digits-th root of tail, or not below `first`, their product at least tail."""
    root = max(2, round(tail ** (1 / digits)), first or 0)
    while True:
        moduli: list[int] = []
        candidate = root
        while len(moduli) < digits:
            if all(math.gcd(candidate, modulus) == 1 for modulus in moduli):
                moduli.append(candidate)
            candidate += 1
        if math.prod(moduli) >= tail:
            return moduli
        root += 1
