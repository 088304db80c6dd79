"""Softmax over digits whose rows all prefixes share: time, memory and parameters grow with V^(1/k).

    p(d_(j+1) | h, d_1 .. d_j) = softmax(R_(j+1) s_(j+1) + c_(j+1))[d_(j+1)]
    s_1 = h,   s_(j+1) = f_j(s_j, G_j[d_j])

The rows R of a level's values are shared by all prefixes, and tied to the input's where that has the same digits, D
wide; what was chosen before enters through a small network (quorem.heads.condition). LightRNN (arXiv:1610.09893)
factors its softmax so. Two tokens of a bucket differ only by how the network conditions shared rows. quorem.heads.tree
is better where tokens have numbers of their own.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings import TokenEmbedding
from quorem.embeddings.assignment import IDS_AT_ONCE
from quorem.heads.condition import Condition
from quorem.heads.levels import LevelsHead


class DigitsHead(LevelsHead):
    """p(class | h), then p(digit | h, digits before it), most significant first.

    Args:
        embedding: gives the tier's rows (tied first-level weights) and, where its digits are these, the values' rows.
        never: ids that are never targets; each must have a row of its own.
        condition: how a chosen digit enters, a kind of Condition.
        moduli: values of every digit but the most significant, least significant first, as in MixedRadixEmbedding.
    """

    def __init__(
        self, embedding: TokenEmbedding, *, never: Iterable[int] = (), condition: str = "mlp", moduli: Sequence[int]
    ) -> None:
        super().__init__(embedding, never=never, moduli=moduli)
        dim = embedding.dim
        self.tied = bool(embedding.digit_rows(self.moduli))
        for level, size in enumerate(self.sizes[1:], 1):
            self.register_parameter(f"bias_{level}", nn.Parameter(torch.zeros(size)))
            self.register_parameter(f"rows_{level}", None if self.tied else nn.Parameter(torch.empty(size, dim)))
            last = level == len(moduli)  # whose scale is its condition's
            self.register_parameter(f"scale_{level}", None if last else nn.Parameter(torch.ones(())))
        self.conditions = nn.ModuleList(Condition(condition, dim, size) for size in self.sizes[:-1])
        self.reset_parameters(dim**-0.5)

    def reset_parameters(self, std: float) -> None:
        """Scores of all levels start with the spread of a tied softmax whose rows have standard deviation `std`."""
        nn.init.normal_(self.bucket, std=std)
        nn.init.zeros_(self.bias)
        # Tied rows of a product of k have std^(1/k): the rest of the scale is put here.
        product = self.tied and getattr(self.embedding, "operation", "") == "multiply"
        scale = std ** (1 - 1 / len(self.sizes)) if product else 1.0
        for level, condition in enumerate(self.conditions, 1):
            rows, inner = getattr(self, f"rows_{level}"), getattr(self, f"scale_{level}")
            nn.init.zeros_(getattr(self, f"bias_{level}"))
            if rows is not None:
                nn.init.normal_(rows, std=std)
            if inner is not None:
                nn.init.constant_(inner, scale)
            assert isinstance(condition, Condition)
            condition.reset_parameters(scale if inner is None else 1.0)

    @torch.no_grad()
    def start_at_unigram(self, counts: Tensor) -> None:
        """Biases = log mass of the tier's tokens and of the buckets; other digits by their share over all prefixes."""
        grid = self.embedding.assignment
        masses = [torch.zeros(len(self._bias(level)), dtype=torch.float64) for level in range(len(self.sizes))]
        masses = [mass.to(counts.device) for mass in masses]
        for start in range(0, len(counts), IDS_AT_ONCE):
            share = counts[start : start + IDS_AT_ONCE].double().clamp(min=0.5)
            ranks = grid.ranks(torch.arange(start, start + len(share), device=counts.device))
            masses[0].index_add_(0, self._classes(ranks), share)
            tail = ranks >= grid.own_rows
            codes = ranks[tail] - grid.own_rows
            for level in range(1, len(self.sizes)):
                masses[level].index_add_(0, self._digit(codes, level), share[tail])
        for level, mass in enumerate(masses):
            self._bias(level).copy_((mass / mass.sum()).log())

    def _bias(self, level: int) -> Tensor:
        return self.bias if level == 0 else getattr(self, f"bias_{level}")

    def _after(self, state: Tensor, level: int, digit: Tensor) -> Tensor:
        return self.conditions[level - 1](state, digit)

    def _scores(self, state: Tensor, level: int, prefix: Tensor) -> Tensor:
        rows = self.embedding.digit_rows(self.moduli)[level - 1] if self.tied else getattr(self, f"rows_{level}")
        inner = getattr(self, f"scale_{level}")
        scores = F.linear(state if inner is None else state * inner, rows, self._bias(level))
        return scores.masked_fill(~self._existing(level, prefix), -torch.inf).float()
