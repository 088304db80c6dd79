"""Quotient-remainder embedding: ceil(tail / m) + m shared rows, and own rows for the tier.

Shi et al. 2020, arXiv:1909.02107, sec. 2 and 3.
"""

from typing import ClassVar

import torch
from torch import Tensor

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.partition import PartitionEmbedding

IMPUTATIONS = 20  # rounds that fill in what an incomplete last bucket lacks


class QuotientRemainderEmbedding(PartitionEmbedding):
    """Own rows for the first K ranks; for every other rank, its quotient's and its remainder's row, combined.

    The dense (V, D) table is never allocated.

    Args:
        assignment: rank -> own row or (quotient, remainder).
        dim: D.
        operation: multiply, add or concat.
        rank: multiply: products summed.
    """

    uniqueness: ClassVar[str] = "quotient * divisor + remainder gives the id back"

    quotient: Tensor
    remainder: Tensor

    def __init__(self, assignment: Assignment, dim: int, *, operation: str = "multiply", rank: int = 1) -> None:
        sizes = (assignment.num_quotients, min(assignment.divisor, assignment.tail))
        names = ("quotient", "remainder")
        super().__init__(assignment, dim, sizes=sizes, operation=operation, rank=rank, names=names)

    def codes(self, tail: Tensor) -> tuple[Tensor, ...]:
        """Quotient and remainder by the divisor."""
        divisor = self.assignment.divisor
        return torch.div(tail, divisor, rounding_mode="floor"), tail % divisor

    def fit_tail(self, weight: Tensor) -> None:
        """Least squares in closed form, for each column the (quotients, divisor) matrix of its entries.

        multiply: the singular vectors of its `rank` largest singular values; add: row mean plus column mean less the
        mean of all; concat: row means or column means. An incomplete last bucket is filled in with the fit, in rounds.
        """
        quotients, divisor = self.quotient.shape[0], self.remainder.shape[0]
        grid = weight.float().new_zeros(quotients * divisor, self.dim)
        grid[: len(weight)] = weight
        grid[len(weight) :] = weight.float().mean(0)
        rounds = 1 if len(weight) == len(grid) else IMPUTATIONS
        for _ in range(rounds):
            fitted = self._fit_grid(grid.view(quotients, divisor, self.dim))
            grid[len(weight) :] = fitted.view(-1, self.dim)[len(weight) :]

    def _fit_grid(self, grid: Tensor) -> Tensor:
        """Fit a full grid (quotients, divisor, D), set the tables, and return what they give."""
        quotient, remainder = self._closed_form(grid)
        self.quotient.data.copy_(quotient)
        self.remainder.data.copy_(remainder)
        ranks = torch.arange(grid.shape[0] * grid.shape[1], device=grid.device)
        return self.tail_vectors(ranks).view(grid.shape)

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
