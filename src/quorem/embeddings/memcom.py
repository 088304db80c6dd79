"""MEmCom: a shared row times a number of the id's own.

Pansare et al.: Learning Compressed Embeddings for On-Device Inference, MLSys 2022, arXiv:2203.10135 (without bias).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TieredEmbedding
from quorem.embeddings.planning import TableSettings, rows_for


class MemComEmbedding(TieredEmbedding):
    """Row (id mod rows) times the id's multiplier: ids that share a row differ by a factor.

    Args:
        assignment: the tier, and the order of the ids that share rows.
        dim: D.
        rows: of the shared table.
    """

    uniqueness: ClassVar[str] = "every id that shares a row has a multiplier of its own"
    settings: ClassVar[tuple[str, ...]] = ("rows",)
    knows_each = True
    row_tables: tuple[str, ...] = ("multiplier",)

    def __init__(self, assignment: Assignment, dim: int, *, rows: int) -> None:
        super().__init__(assignment, dim, rows=rows)
        if rows < 1:
            raise ValueError(f"rows={rows}: 1 or more needed")
        self.shared = nn.Parameter(torch.empty(min(rows, assignment.tail), dim))
        self.rows_asked = rows
        self.multiplier = nn.Parameter(torch.empty(assignment.tail, 1))
        self.reset_parameters(dim**-0.5)

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the number of shared rows."""
        return {"rows": rows_for(wanted, tail, size)}

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """The product."""
        return F.embedding(tail % self.rows_asked, self.shared) * self.read("multiplier", tail)

    def reset_tail(self, std: float) -> None:
        """Rows have `std`, multipliers are near 1 and differ."""
        nn.init.normal_(self.shared, std=std)
        nn.init.normal_(self.multiplier, mean=1.0, std=0.1)

    def fit_tail(self, weight: Tensor) -> None:
        """For each row the first singular vectors of the ids that share it."""
        for row in range(len(self.shared)):
            left, values, right = torch.linalg.svd(weight[row :: self.rows_asked].float(), full_matrices=False)
            self.shared[row] = right[0] * values[0]
            self.multiplier[row :: self.rows_asked, 0] = left[:, 0]
