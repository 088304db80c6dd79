"""The hashing trick, the baseline: ids that meet in a row are one token to the model.

Weinberger, Dasgupta, Attenberg, Langford, Smola: Feature Hashing for Large Scale Multitask Learning, ICML 2009,
arXiv:0902.2206, as used for embedding tables.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TieredEmbedding
from quorem.embeddings.planning import TableSettings, rows_for

MULTIPLIERS = (0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def hashed(numbers: Tensor, buckets: int, *, seed: int = 0) -> Tensor:
    """A bucket int64 in [0, buckets) for each of numbers int64; the same on every machine (splitmix64's mixing).

    Args:
        numbers: below 2^63; any shape.
        buckets: how many.
        seed: another one is another function, not the same one shifted: it enters before the mixing.
    """
    mixed = (numbers + 1 + seed * 2**48) * MULTIPLIERS[0]  # int64 arithmetic wraps around, as meant
    for multiplier, shift in ((MULTIPLIERS[1], 30), (MULTIPLIERS[2], 27)):
        mixed = (mixed ^ ((mixed >> shift) & (2 ** (64 - shift) - 1))) * multiplier
    mixed = mixed ^ ((mixed >> 31) & (2**33 - 1))
    return (mixed & (2**63 - 1)) % buckets


class HashingEmbedding(TieredEmbedding):
    """A row for each bucket of a hash function.

    Args:
        assignment: the tier.
        dim: D.
        rows: buckets.
    """

    settings: ClassVar[tuple[str, ...]] = ("rows",)

    def __init__(self, assignment: Assignment, dim: int, *, rows: int) -> None:
        super().__init__(assignment, dim, rows=rows)
        if rows < 1:
            raise ValueError(f"rows={rows}: 1 or more needed")
        self.shared = nn.Parameter(torch.empty(rows, dim))
        self.reset_parameters(dim**-0.5)

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the number of shared rows."""
        return {"rows": rows_for(wanted, tail, size)}

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """The bucket's row."""
        return F.embedding(hashed(tail, len(self.shared)), self.shared)

    def reset_tail(self, std: float) -> None:
        """Normal rows."""
        nn.init.normal_(self.shared, std=std)

    def fit_tail(self, weight: Tensor) -> None:
        """The mean of each bucket's vectors."""
        buckets = hashed(torch.arange(len(weight), device=weight.device), len(self.shared))
        sums = torch.zeros_like(self.shared).index_add_(0, buckets, weight.to(self.shared.dtype))
        self.shared.copy_(sums / torch.bincount(buckets, minlength=len(sums)).clamp(min=1).unsqueeze(-1))
