"""Quotient-remainder embedding: ceil(tail / m) + m shared rows, and own rows for the tier.

Shi, Mudigere, Naumov, Yang: Compositional Embeddings Using Complementary Partitions for Memory-Efficient Recommendation
Systems, KDD 2020, arXiv:1909.02107, sec. 3 (partitions) and 4 (operations).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TokenEmbedding

OPERATIONS = ("multiply", "add", "concat")


class QuotientRemainderEmbedding(TokenEmbedding):
    """Own rows for the first K ranks; for every other rank, its quotient's and its remainder's row, combined.

    The dense (V, D) table is never allocated.

    Args:
        assignment: rank -> own row or (quotient, remainder).
        dim: D; even for concat.
        operation: multiply, add (both rows D wide) or concat (both D / 2 wide).
    """

    def __init__(self, assignment: Assignment, dim: int, *, operation: str = "multiply") -> None:
        super().__init__(assignment, dim)
        if operation not in OPERATIONS:
            raise ValueError(f"operation {operation!r}: one of {', '.join(OPERATIONS)} needed")
        if operation == "concat" and dim % 2:
            raise ValueError(f"operation concat needs an even width, not {dim}")
        self.operation = operation
        width = dim // 2 if operation == "concat" else dim
        self.own = nn.Parameter(torch.empty(assignment.own_rows, dim))
        self.quotient = nn.Parameter(torch.empty(assignment.num_quotients, width))
        self.remainder = nn.Parameter(torch.empty(min(assignment.divisor, assignment.tail), width))
        self.reset_parameters(dim**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (*batch, D) of ids int64 (*batch)."""
        ranks = self.assignment.ranks(ids)
        own_rows = self.assignment.own_rows
        if self.assignment.tail == 0:
            return F.embedding(ranks, self.own)
        shared = self._compose(ranks)
        if own_rows == 0:
            return shared
        own = F.embedding(ranks.clamp(max=own_rows - 1), self.own)
        return torch.where((ranks < own_rows).unsqueeze(-1), own, shared)

    def reset_parameters(self, std: float) -> None:
        """Zero-mean normal rows whose composition has entries of standard deviation `std`.

        A product of two has std^(1/2) each, a sum std / sqrt(2), a concatenation std.
        """
        factor_std = {"multiply": std**0.5, "add": std / 2**0.5, "concat": std}[self.operation]
        if len(self.own):
            nn.init.normal_(self.own, std=std)
        if len(self.quotient):
            nn.init.normal_(self.quotient, std=factor_std)
            nn.init.normal_(self.remainder, std=factor_std)

    def _compose(self, ranks: Tensor) -> Tensor:
        quotients, remainders = self.assignment.digits(ranks)
        quotient, remainder = F.embedding(quotients, self.quotient), F.embedding(remainders, self.remainder)
        if self.operation == "multiply":
            return quotient * remainder
        if self.operation == "add":
            return quotient + remainder
        return torch.cat([quotient, remainder], dim=-1)
