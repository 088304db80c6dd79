"""The ordinary table: one row for each id (the paper's naive partition)."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TokenEmbedding


class DenseEmbedding(TokenEmbedding):
    """A (V, D) table, with the parameter name of torch.nn.Embedding."""

    uniqueness: ClassVar[str] = "every id has a row of its own"

    def __init__(self, assignment: Assignment, dim: int) -> None:
        super().__init__(assignment, dim)
        self.weight = nn.Parameter(torch.empty(assignment.vocab_size, dim))
        self.reset_parameters(dim**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (*batch, D) of ids int64 (*batch)."""
        return F.embedding(ids, self.weight)

    def from_dense(self, weight: Tensor) -> float:
        """A copy."""
        self.weight.data.copy_(weight)
        return 1.0

    def reset_parameters(self, std: float) -> None:
        """Entries from N(0, std^2)."""
        nn.init.normal_(self.weight, std=std)

    def chunks(self, size: int) -> list[Tensor]:
        """Slices (size, D) of the table; one split, so that its gradient is put together once."""
        return list(self.weight.split(size))

    def chunk_rows(self, chunk: Tensor) -> Tensor:
        """The slice itself."""
        return chunk
