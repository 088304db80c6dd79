"""Hash embeddings: a few hashed rows for each id, weighted by numbers of its own.

Svenstrup, Hansen, Winther: Hash Embeddings for Efficient Word Representations, NeurIPS 2017, arXiv:1709.03933.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TieredEmbedding
from quorem.embeddings.hashing import hashed
from quorem.embeddings.planning import TableSettings, rows_for


class HashEmbedding(TieredEmbedding):
    """Sum over k hash functions of importance * row; the importances, k numbers an id, are learned.

    Args:
        assignment: the tier.
        dim: D.
        rows: of the shared table.
        functions: k.
    """

    uniqueness: ClassVar[str] = "every id has importances of its own"
    settings: ClassVar[tuple[str, ...]] = ("rows", "functions")
    knows_each = True
    row_tables: tuple[str, ...] = ("importance",)

    def __init__(self, assignment: Assignment, dim: int, *, rows: int, functions: int = 2) -> None:
        super().__init__(assignment, dim, rows=rows, functions=functions)
        if rows < 1 or functions < 1:
            raise ValueError(f"rows={rows}, functions={functions}: 1 or more of each needed")
        self.shared = nn.Parameter(torch.empty(rows, dim))
        self.importance = nn.Parameter(torch.empty(assignment.tail, functions))
        self.reset_parameters(dim**-0.5)

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the number of shared rows."""
        return {"rows": rows_for(wanted, tail, size), "functions": wanted.functions}

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """The weighted sum."""
        importance = self.read("importance", tail)
        vectors = torch.zeros(*tail.shape, self.dim, dtype=importance.dtype, device=tail.device)
        for number in range(self.importance.shape[1]):
            row = F.embedding(hashed(tail, len(self.shared), seed=number), self.shared)
            vectors = vectors + importance[..., number, None] * row
        return vectors

    def reset_tail(self, std: float) -> None:
        """Importances about 1 / sqrt(k), not all alike, so that ids with the same buckets differ; rows have `std`."""
        scale = self.importance.shape[1] ** -0.5
        nn.init.normal_(self.importance, mean=scale, std=0.1 * scale)
        nn.init.normal_(self.shared, std=std)
