"""Composition over partitions: one table for each partition of the ids, one row for each of its blocks.

Shi, Mudigere, Naumov, Yang: Compositional Embeddings Using Complementary Partitions for Memory-Efficient Recommendation
Systems, KDD 2020, arXiv:1909.02107, sec. 3 (partitions) and 4.1 (operations). Partitions are complementary if any two
ids are in different blocks of at least one of them: what an id reads is then its own.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TieredEmbedding

OPERATIONS = ("multiply", "add", "concat")


class PartitionEmbedding(TieredEmbedding):
    """The rows of an id's blocks, one a partition, combined by an operation.

    Args:
        assignment: the tier, and the order of the ids that share rows.
        dim: D.
        sizes: blocks of each partition; every one must be non-empty.
        operation: multiply, add (all rows D wide) or concat (D divided among them, the first ones wider).
        rank: multiply: how many products are summed. At the root of the number of ids any dense table is reached.
        names: parameter names of the tables.
        options: as for every embedding.
    """

    def __init__(
        self,
        assignment: Assignment,
        dim: int,
        *,
        sizes: Sequence[int],
        operation: str,
        rank: int = 1,
        names: Sequence[str],
        **options: Any,
    ) -> None:
        super().__init__(assignment, dim, operation=operation, **({"rank": rank} if rank != 1 else {}), **options)
        if operation not in OPERATIONS:
            raise ValueError(f"operation {operation!r}: one of {', '.join(OPERATIONS)} needed")
        if rank < 1 or (rank > 1 and operation != "multiply"):
            raise ValueError(f"rank {rank} with operation {operation}: 1 or more products, of multiply, can be summed")
        self.operation, self.rank, self.names = operation, rank, tuple(names)
        count = len(sizes)
        if operation == "concat" and count > dim:
            raise ValueError(f"operation concat: {count} partitions do not fit into width {dim}")
        for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
            width = dim // count + (index < dim % count) if operation == "concat" else rank * dim
            self.register_parameter(name, nn.Parameter(torch.empty(size, width)))
        self.reset_parameters(dim**-0.5)

    @property
    def capacity(self) -> int:
        """Own rows, and all combinations of the tables' rows."""
        return self.assignment.own_rows + math.prod(len(table) for table in self.tables)

    @property
    def tables(self) -> list[Tensor]:
        """The table of each partition."""
        return [getattr(self, name) for name in self.names]

    def codes(self, tail: Tensor) -> tuple[Tensor, ...]:
        """The block of each partition, int64 (*batch) each, of tail int64 (*batch): exact integer arithmetic."""
        raise NotImplementedError

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """The operation over the blocks' rows."""
        rows = [F.embedding(code, table) for code, table in zip(self.codes(tail), self.tables, strict=True)]
        if self.operation == "concat":
            return torch.cat(rows, dim=-1)
        combined = rows[0]
        for row in rows[1:]:
            combined = combined * row if self.operation == "multiply" else combined + row
        return combined if self.rank == 1 else combined.unflatten(-1, (self.rank, self.dim)).sum(-2)

    def reset_tail(self, std: float) -> None:
        """Zero-mean normal rows.

        Of k factors, summed over s products, each has (std / sqrt(s))^(1/k); a term of a sum std / sqrt(k); a part of a
        concatenation std.
        """
        count = len(self.names)
        row_std = {
            "multiply": (std / self.rank**0.5) ** (1 / count),
            "add": std / count**0.5,
            "concat": std,
        }[self.operation]
        for table in self.tables:
            nn.init.normal_(table, std=row_std)
