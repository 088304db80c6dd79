"""Low rank: narrow rows and one matrix that widens them.

Lan et al.: ALBERT, ICLR 2020, arXiv:1909.11942, sec. 3.1 (factorized embedding parameterization).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TieredEmbedding
from quorem.embeddings.planning import TableSettings

ROWS_AT_ONCE = 2**16


class LowRankEmbedding(TieredEmbedding):
    """factor (V - K, r) times projection (r, D).

    Args:
        assignment: the tier.
        dim: D.
        rank: r.
    """

    uniqueness: ClassVar[str] = "every id has a narrow row of its own"
    settings: ClassVar[tuple[str, ...]] = ("rank",)
    knows_each = True
    row_tables: tuple[str, ...] = ("factor",)

    def __init__(self, assignment: Assignment, dim: int, *, rank: int) -> None:
        super().__init__(assignment, dim, rank=rank)
        if not 1 <= rank <= dim:
            raise ValueError(f"rank={rank}: 1 to the width, {dim}, needed")
        self.factor = nn.Parameter(torch.empty(assignment.tail, rank))
        self.projection = nn.Parameter(torch.empty(rank, dim))
        self.reset_parameters(dim**-0.5)

    @classmethod
    def size_range(cls, wanted: TableSettings, tail: int, dim: int) -> tuple[int, int]:
        """Ranks."""
        return 1, dim

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the rank."""
        return {"rank": wanted.rank or size or max(1, dim // 8)}

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """The product."""
        return self.read("factor", tail) @ self.projection

    def tail_scores(self, hidden: Tensor, tail: Tensor) -> Tensor:
        """The same products, r numbers a token instead of D."""
        narrow = hidden @ self.projection.T
        return (self.read("factor", tail) @ narrow.unsqueeze(-1)).squeeze(-1)

    def reset_tail(self, std: float) -> None:
        """Narrow rows have `std`, the projection keeps it."""
        nn.init.normal_(self.factor, std=std)
        nn.init.normal_(self.projection, std=self.projection.shape[0] ** -0.5)

    def fit_tail(self, weight: Tensor) -> None:
        """The largest singular values (Eckart and Young 1936)."""
        parts = weight.split(ROWS_AT_ONCE)  # of which alone there are copies in float64
        values, right = torch.linalg.eigh(sum(part.double().T @ part.double() for part in parts))  # D x D
        kept = right[:, values.argsort(descending=True)[: self.projection.shape[0]]]
        for part, rows in zip(parts, self.factor.split(ROWS_AT_ONCE), strict=True):
            rows.copy_(part.double() @ kept)
        self.projection.copy_(kept.T.to(self.projection.dtype))
