"""Composition over partitions: one table for each partition of the ids, one row for each of its blocks.

Shi, Mudigere, Naumov, Yang: Compositional Embeddings Using Complementary Partitions for Memory-Efficient Recommendation
Systems, KDD 2020, arXiv:1909.02107, sec. 3 (partitions) and 4.1 (operations). Partitions are complementary if any two
ids are in different blocks of at least one of them: what an id reads is then its own.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TieredEmbedding
from quorem.embeddings.fitting import fit_by_gradient
from quorem.embeddings.planning import TableSettings

OPERATIONS = ("multiply", "add", "concat")
SMALL = 0.1  # standard deviation of what is a token's own, beside that of what is shared
FITTED_IN_TURN = 3  # times; the first brings nearly all


class PartitionEmbedding(TieredEmbedding):
    """The rows of an id's blocks, one a partition, combined by an operation.

    Args:
        assignment: the tier, and the order of the ids that share rows.
        dim: D.
        sizes: blocks of each partition; every one must be non-empty.
        operation: multiply, add (all rows D wide) or concat (D divided among them, the first ones wider).
        rank: multiply: how many products are summed. At the root of the number of ids any dense table is reached.
        own_rank: numbers of each token's own, which one matrix (own_rank, D) widens; the result is added to what shared
            rows give. 0 for none.
        names: parameter names of the tables.
        options: as for every embedding.
    """

    settings: ClassVar[tuple[str, ...]] = ("operation", "rank", "own_rank")

    def __init__(
        self,
        assignment: Assignment,
        dim: int,
        *,
        sizes: Sequence[int],
        operation: str,
        rank: int = 1,
        own_rank: int = 0,
        names: Sequence[str],
        **options: Any,
    ) -> None:
        chosen = {**({"rank": rank} if rank != 1 else {}), **({"own_rank": own_rank} if own_rank else {})}
        super().__init__(assignment, dim, operation=operation, **chosen, **options)
        if operation not in OPERATIONS:
            raise ValueError(f"operation {operation!r}: one of {', '.join(OPERATIONS)} needed")
        if rank < 1 or (rank > 1 and operation != "multiply"):
            raise ValueError(f"rank {rank} with operation {operation}: only multiply can sum products, 1 or more")
        if not 0 <= own_rank <= dim:
            raise ValueError(f"own_rank={own_rank}: 0 to the width, {dim}, needed")
        self.operation, self.rank, self.own_rank, self.names = operation, rank, own_rank, tuple(names)
        count = len(sizes)
        if operation == "concat" and count > dim:
            raise ValueError(f"operation concat: {count} partitions do not fit into width {dim}")
        for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
            width = dim // count + (index < dim % count) if operation == "concat" else rank * dim
            self.register_parameter(name, nn.Parameter(torch.empty(size, width)))
        if own_rank:
            self.row_tables = ("own_numbers",)
            self.own_numbers = nn.Parameter(torch.empty(assignment.tail, own_rank))
            self.own_projection = nn.Parameter(torch.empty(own_rank, dim))
        self.reset_parameters(dim**-0.5)

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """How rows are combined."""
        products = {} if wanted.rank in (None, 1) else {"rank": wanted.rank}
        own = {"own_rank": wanted.own_rank} if wanted.own_rank else {}
        return {"operation": wanted.operation, **products, **own}

    @property
    def capacity(self) -> int:
        """Own rows, and all combinations of the tables' rows."""
        return self.assignment.own_rows + math.prod(len(table) for table in self.tables)

    @property
    def tables(self) -> list[nn.Parameter]:
        """The table of each partition."""
        return [getattr(self, name) for name in self.names]

    def codes(self, tail: Tensor) -> tuple[Tensor, ...]:
        """The block of each partition, int64 (*batch) each, of tail int64 (*batch): exact integer arithmetic."""
        raise NotImplementedError

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """The operation over the blocks' rows, and what is the token's own."""
        rows = [F.embedding(code, table) for code, table in zip(self.codes(tail), self.tables, strict=True)]
        if self.operation == "concat":
            combined = torch.cat(rows, dim=-1)
        else:
            combined = rows[0]
            for row in rows[1:]:
                combined = combined * row if self.operation == "multiply" else combined + row
            combined = combined if self.rank == 1 else combined.unflatten(-1, (self.rank, self.dim)).sum(-2)
        return combined + self.read("own_numbers", tail) @ self.own_projection if self.own_rank else combined

    def tail_scores(self, hidden: Tensor, tail: Tensor) -> Tensor:
        """The same products. Of a sum: one for each shared row, not for each token, and own_rank numbers a token."""
        if self.operation != "add":
            return super().tail_scores(hidden, tail)
        scores = torch.zeros(tail.shape, dtype=hidden.dtype, device=hidden.device)
        for code, table in zip(self.codes(tail), self.tables, strict=True):
            scores = scores + (hidden @ table.T).gather(-1, code)
        if self.own_rank:
            narrow = hidden @ self.own_projection.T
            scores = scores + (self.read("own_numbers", tail) @ narrow.unsqueeze(-1)).squeeze(-1)
        return scores

    def reset_tail(self, std: float) -> None:
        """Zero-mean normal rows.

        Of k factors, summed over s products, each has (std / sqrt(s))^(1/k); a term of a sum std / sqrt(k); a part of a
        concatenation std. Tokens' own numbers are small beside that.
        """
        count = len(self.names)
        row_std = {
            "multiply": (std / self.rank**0.5) ** (1 / count),
            "add": std / count**0.5,
            "concat": std,
        }[self.operation]
        for table in self.tables:
            nn.init.normal_(table, std=row_std)
        if self.own_rank:
            nn.init.normal_(self.own_numbers, std=SMALL * std)  # not 0: the matrix would have no gradient
            nn.init.normal_(self.own_projection, std=self.own_rank**-0.5)

    def fit_tail(self, weight: Tensor) -> None:
        """Shared rows, then tokens' own numbers by the largest singular values of what is left, in turn."""
        if not self.own_rank:
            self.fit_shared(weight)
            return
        own = torch.zeros_like(weight)
        for _ in range(FITTED_IN_TURN):
            self.fit_shared(weight - own)
            self.own_numbers.data.zero_()
            left = weight - self.tail_vectors(torch.arange(len(weight), device=weight.device))
            values, right = torch.linalg.eigh((left.T @ left).double())
            kept = right[:, values.argsort(descending=True)[: self.own_rank]].to(left.dtype)
            self.own_numbers.data.copy_(left @ kept)
            self.own_projection.data.copy_(kept.T)
            own = self.own_numbers @ self.own_projection

    def fit_shared(self, weight: Tensor) -> None:
        """Set the shared rows to the best for weight (V - K, D), if tokens' own numbers were 0."""
        self.reset_tail(float(weight.std()))
        if self.own_rank:
            self.own_numbers.data.zero_()
        fit_by_gradient(self.tail_vectors, self.tables, weight)
