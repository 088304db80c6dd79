"""Quotient-remainder embedding: ceil(tail / m) + m shared rows, and own rows for the tier.

Shi et al. 2020, arXiv:1909.02107, sec. 2 and 3.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from quorem.embeddings.assignment import Assignment, square_divisor
from quorem.embeddings.partition import PartitionEmbedding
from quorem.embeddings.planning import TableSettings


class QuotientRemainderEmbedding(PartitionEmbedding):
    """Own rows for the first K ranks; for every other rank, its quotient's and its remainder's row, combined.

    The dense (V, D) table is never allocated.

    Args:
        assignment: rank -> own row or (quotient, remainder).
        dim: D.
        operation: multiply, add or concat.
        more: rank and own_rank, as for every partition.
    """

    uniqueness: ClassVar[str] = "quotient * divisor + remainder gives the id back"

    settings: ClassVar[tuple[str, ...]] = (*PartitionEmbedding.settings, "divisor")
    is_grid = True
    neighbours_share = True

    quotient: Tensor
    remainder: Tensor

    def __init__(self, assignment: Assignment, dim: int, *, operation: str = "multiply", **more: Any) -> None:
        sizes = (assignment.num_quotients, min(assignment.divisor, assignment.tail))
        names = ("quotient", "remainder")
        super().__init__(assignment, dim, sizes=sizes, operation=operation, names=names, **more)

    @classmethod
    def size_range(cls, wanted: TableSettings, tail: int, dim: int) -> tuple[int, int]:
        """Divisors, from that of the fewest rows on."""
        return square_divisor(tail), tail

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the divisor."""
        return {"divisor": wanted.divisor or size or square_divisor(tail), **super().plan(wanted, tail, dim, size)}

    def codes(self, tail: Tensor) -> tuple[Tensor, ...]:
        """Quotient and remainder by the divisor."""
        return self.assignment.tail_digits(tail)

    def digit_rows(self, moduli: Sequence[int]) -> list[Tensor]:
        """The remainders' rows, if they are whole vectors."""
        whole = self.operation != "concat" and self.rank == 1
        return [self.remainder] if whole and tuple(moduli) == (self.assignment.divisor,) else []

    def fit_shared(self, weight: Tensor) -> None:
        """Least squares in closed form, for each column the (quotients, divisor) matrix of its entries.

        multiply: the singular vectors of its `rank` largest singular values; add: row mean plus column mean less the
        mean of all; concat: row means or column means. Where the last bucket is incomplete, the full buckets are
        fitted, then the last one's row to its members. (Its few members then do not move the remainders' rows, as they
        would in the least squares of all.)
        """
        divisor = self.remainder.shape[0]
        full = len(weight) // divisor
        grid = weight[: full * divisor].float().view(full, divisor, self.dim)
        quotient, remainder = self._closed_form(grid)
        self.quotient.data[:full].copy_(quotient)
        self.remainder.data.copy_(remainder)
        if full < len(self.quotient):
            self.quotient.data[full].copy_(self._last_row(weight[full * divisor :].float()))

    def _last_row(self, members: Tensor) -> Tensor:
        """The quotient's row that is best for `members` (n, D), the vectors of its first n remainders."""
        rows = self.remainder[: len(members)].float()
        if self.operation == "concat":
            return members[:, : self.quotient.shape[1]].mean(0)
        if self.operation == "add":
            return (members - rows).mean(0)
        factors = rows.view(len(members), self.rank, self.dim).permute(2, 0, 1)  # for each column (n, rank)
        return torch.linalg.pinv(factors).matmul(members.T.unsqueeze(-1)).squeeze(-1).T.flatten()

    def _closed_form(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = grid.mean(1), grid.mean(0)
        if self.operation == "add":
            mean = grid.mean((0, 1))
            return rows - mean / 2, columns - mean / 2
        if self.operation == "concat":
            left = self.quotient.shape[1]
            return rows[:, :left], columns[:, left:]
        left, values, right = torch.linalg.svd(grid.permute(2, 0, 1), full_matrices=False)
        kept = min(self.rank, values.shape[-1])
        scale = values[:, :kept].sqrt()
        quotient = torch.zeros(grid.shape[0], self.rank, self.dim, device=grid.device)
        remainder = torch.zeros(grid.shape[1], self.rank, self.dim, device=grid.device)
        quotient[:, :kept] = (left[:, :, :kept] * scale.unsqueeze(1)).permute(1, 2, 0)
        remainder[:, :kept] = (right[:, :kept].mT * scale.unsqueeze(1)).permute(1, 2, 0)
        return quotient.flatten(1), remainder.flatten(1)
