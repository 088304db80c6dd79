"""The ordinary table: one row for each id (the paper's naive partition)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TokenEmbedding


class DenseEmbedding(TokenEmbedding):
    """A (V, D) table, with the parameter name of torch.nn.Embedding."""

    uniqueness: ClassVar[str] = "every id has a row of its own"
    settings: ClassVar[tuple[str, ...]] = ("divisor",)  # of the head over it
    knows_each = True
    row_tables: tuple[str, ...] = ("weight",)

    def __init__(self, assignment: Assignment, dim: int) -> None:
        super().__init__(assignment, dim)
        self.weight = nn.Parameter(torch.empty(assignment.vocab_size, dim))
        self.reset_parameters(dim**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (*batch, D) of ids int64 (*batch)."""
        return self.read("weight", self.assignment.checked(ids))

    def from_dense(self, weight: Tensor) -> float:
        """A copy."""
        if weight.shape != self.weight.shape:
            raise ValueError(f"a table of shape {tuple(self.weight.shape)} needed, not {tuple(weight.shape)}")
        self.weight.data.copy_(weight)
        return 1.0

    @torch.no_grad()
    def grown(self, vocab_size: int) -> TokenEmbedding:
        """More rows; without a grid there is none that new ids would have to join."""
        if self.assignment.tail:
            return super().grown(vocab_size)
        larger = DenseEmbedding(Assignment(vocab_size, own_rows=vocab_size, divisor=1), self.dim)
        larger.weight.data = larger.weight.data.to(self.weight)
        larger.weight.data[: len(self.weight)] = self.weight
        return larger

    def reset_parameters(self, std: float) -> None:
        """Entries from N(0, std^2)."""
        nn.init.normal_(self.weight, std=std)

    def chunks(self, size: int) -> list[Tensor]:
        """Slices (size, D) of the table; one split, so that its gradient is put together once."""
        return list(self.weight.split(size))

    def chunk_rows(self, chunk: Tensor) -> Tensor:
        """The slice itself."""
        return chunk
