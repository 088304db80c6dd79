"""Path-based composition: a row of the first partition's table, sent through a function of the second's block.

Shi et al. 2020, arXiv:1909.02107, sec. 4.2. A block costs a D x D matrix, not a row, so blocks are few: the quotients.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TieredEmbedding
from quorem.embeddings.planning import TableSettings


class PathEmbedding(TieredEmbedding):
    """f_q(row of the remainder), f_q linear or with one hidden layer, a function of its own for each quotient q.

    Args:
        assignment: rank -> own row or (quotient, remainder).
        dim: D.
        hidden: width of the hidden layer (with ReLU, as in the paper); 0 for a linear function.
    """

    uniqueness: ClassVar[str] = "quotient * divisor + remainder gives the id back"
    settings: ClassVar[tuple[str, ...]] = ("divisor", "hidden")
    is_grid = True

    def __init__(self, assignment: Assignment, dim: int, *, hidden: int = 0) -> None:
        super().__init__(assignment, dim, hidden=hidden)
        if hidden < 0:
            raise ValueError(f"hidden={hidden}: 0 (linear) or a width needed")
        self.hidden, blocks = hidden, assignment.num_quotients
        self.remainder = nn.Parameter(torch.empty(min(assignment.divisor, assignment.tail), dim))
        widths = [(hidden or dim, dim), (dim, hidden)][: 2 if hidden else 1]
        self.weights = nn.ParameterList(torch.empty(blocks, *shape) for shape in widths)
        self.biases = nn.ParameterList(torch.empty(blocks, shape[0]) for shape in widths)
        self.reset_parameters(dim**-0.5)

    @classmethod
    def size_range(cls, wanted: TableSettings, tail: int, dim: int) -> tuple[int, int]:
        """Divisors, from that of the fewest parameters on."""
        return cheapest_divisor(tail, dim), tail

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the divisor."""
        return {"divisor": wanted.divisor or size or cheapest_divisor(tail, dim), "hidden": wanted.hidden}

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """The functions are applied a block at a time, to the rows that need it, whose number the host waits for."""
        quotients, remainders = self.assignment.tail_digits(tail.flatten())
        rows = F.embedding(remainders, self.remainder)
        order = quotients.argsort(stable=True)
        sizes = torch.bincount(quotients, minlength=self.assignment.num_quotients).tolist()
        parts = [self._transform(part, block) for block, part in enumerate(rows[order].split(sizes)) if len(part)]
        vectors = torch.cat(parts)[order.argsort()] if parts else rows
        return vectors.view(*tail.shape, self.dim)

    def digit_rows(self, moduli: Sequence[int]) -> list[Tensor]:
        """The remainders' rows."""
        return [self.remainder] if tuple(moduli) == (self.assignment.divisor,) else []

    def reset_tail(self, std: float) -> None:
        """Rows have `std`, and the functions keep it on average."""
        nn.init.normal_(self.remainder, std=std)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            gain = 2.0 if number else 1.0  # ReLU halves the second moment of what it lets through
            nn.init.normal_(weight, std=(gain / weight.shape[-1]) ** 0.5)
            nn.init.zeros_(bias)

    def _transform(self, rows: Tensor, block: int) -> Tensor:
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = F.linear(rows.relu() if number else rows, weight[block], bias[block])
        return rows


def cheapest_divisor(tail: int, dim: int) -> int:
    """Ids per quotient with the fewest parameters: tail / c rows and c matrices of dim rows each."""
    return -(-tail // max(1, round((tail / dim) ** 0.5)))
