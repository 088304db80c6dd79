"""Tree softmax: the leaves are the tokens' own input vectors.

    p(d_(j+1) | h, d_1 .. d_j) = softmax over the children c of that node of  A_j h . n_c + b_c

A child in the middle of the tree has a row n_c of its own, and a leaf the input vector of its token: what the table
knows of a token decides its score, and what the generator learns of it goes into the table (tied weights, Press and
Wolf 2017, arXiv:1608.05859). A class-factorised softmax (Goodman 2001, arXiv:cs/0108006; Mnih and Hinton 2008 for
trees). With k levels a position costs k V^(1/k) products and as many gathered rows, and inner nodes have V^((k-1)/k)
rows. Every child has a bias, so that it starts exactly at the unigram distribution; A_j starts as the identity.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from quorem.embeddings import TokenEmbedding
from quorem.embeddings.assignment import IDS_AT_ONCE
from quorem.heads.levels import LevelsHead

NUMBERS_AT_ONCE = {"cpu": 2**22, "cuda": 2**26}
"""Largest number of entries of gathered rows in memory at once; what is more is gathered again in the backward pass."""


class TreeHead(LevelsHead):
    """A class of its own for every tier token and every bucket; then down the tree to a token.

    Args:
        embedding: gives the tier's rows and the leaves.
        never: ids that are never targets; each must have a row of its own.
        moduli: children of every node but the root, leaves first; the embedding's divisor, two levels, if not given.
    """

    def __init__(
        self, embedding: TokenEmbedding, *, never: Iterable[int] = (), moduli: Sequence[int] | None = None
    ) -> None:
        super().__init__(embedding, never=never, moduli=moduli or [embedding.assignment.divisor])
        tail, dim = embedding.assignment.tail, embedding.dim
        self.last = len(self.sizes) - 1
        for level in range(1, self.last + 1):
            parents = -(-tail // self.spans[level - 1])
            self.register_parameter(f"map_{level}", nn.Parameter(torch.empty(dim, dim)))
            self.register_parameter(f"level_{level}_bias", nn.Parameter(torch.zeros(parents, self.bases[level])))
            if level < self.last:
                nodes = -(-tail // self.spans[level])
                self.register_parameter(f"node_{level}", nn.Parameter(torch.empty(nodes, dim)))
        self.reset_parameters(dim**-0.5)

    def reset_parameters(self, std: float) -> None:
        """Rows of nodes from N(0, std^2), maps the identity, biases 0."""
        nn.init.normal_(self.bucket, std=std)
        nn.init.zeros_(self.bias)
        for level in range(1, self.last + 1):
            nn.init.eye_(getattr(self, f"map_{level}"))
            nn.init.zeros_(getattr(self, f"level_{level}_bias"))
            if level < self.last:
                nn.init.normal_(getattr(self, f"node_{level}"), std=std)

    @torch.no_grad()
    def start_at_vectors(self, counts: Tensor) -> None:
        """Every node's row becomes the mean of the vectors below it, weighted by their counts."""
        super().start_at_vectors(counts)
        for level in range(1, self.last):
            getattr(self, f"node_{level}").copy_(self._means(level, counts))

    @torch.no_grad()
    def start_at_unigram(self, counts: Tensor) -> None:
        """Biases = log mass of the tier's tokens and of the buckets, then of each child in its node's."""
        grid = self.embedding.assignment
        masses = [torch.zeros(-(-grid.tail // span), dtype=torch.float64, device=counts.device) for span in self.spans]
        first = torch.zeros(len(self.bias), dtype=torch.float64, device=counts.device)
        for start in range(0, len(counts), IDS_AT_ONCE):
            share = counts[start : start + IDS_AT_ONCE].double().clamp(min=0.5)
            ranks = grid.ranks(torch.arange(start, start + len(share), device=counts.device))
            first.index_add_(0, self._classes(ranks), share)
            tail = ranks >= grid.own_rows
            for mass, span in zip(masses, self.spans, strict=True):
                mass.index_add_(0, (ranks[tail] - grid.own_rows) // span, share[tail])
        self.bias.copy_((first / first.sum()).log())
        for level in range(1, self.last + 1):
            bias = getattr(self, f"level_{level}_bias")
            padded = F.pad(masses[level], (0, bias.numel() - len(masses[level])), value=1.0)
            bias.copy_((padded.view_as(bias) / masses[level - 1].unsqueeze(-1)).log())

    def _scores(self, state: Tensor, level: int, prefix: Tensor) -> Tensor:
        mapped = F.linear(state, getattr(self, f"map_{level}"))
        kind = "cpu" if state.device.type == "cpu" else "cuda"
        size = max(1, NUMBERS_AT_ONCE[kind] // (self.bases[level] * self.embedding.dim))
        if len(state) <= size:
            return self._scores_of(mapped, level, prefix)
        parts = zip(mapped.split(size), prefix.split(size), strict=True)
        if not torch.is_grad_enabled():
            return torch.cat([self._scores_of(rows, level, of) for rows, of in parts])
        found = [
            checkpoint(self._scores_of, rows, level, of, use_reentrant=False, preserve_rng_state=False)
            for rows, of in parts
        ]
        return torch.cat(found)

    def _scores_of_one(self, state: Tensor, level: int, prefix: int) -> Tensor:
        """Scores (n, size) of one node's children: their vectors are read once, not once a row."""
        mapped = F.linear(state, getattr(self, f"map_{level}"))
        place = torch.tensor([prefix], device=state.device)
        exists = self._existing(level, place)
        children = place * self.bases[level] + torch.arange(self.sizes[level], device=state.device)
        children = children.masked_fill(~exists[0], 0)
        last = level == self.last
        rows = self.embedding.tail_vectors(children) if last else getattr(self, f"node_{level}")[children]
        scores = F.linear(mapped, rows.to(mapped.dtype), getattr(self, f"level_{level}_bias")[prefix, : len(children)])
        return scores.masked_fill(~exists, -torch.inf).float()

    def _scores_of(self, mapped: Tensor, level: int, prefix: Tensor) -> Tensor:
        """Scores (n, size) of the children of nodes int64 (n,), the state being mapped already."""
        exists = self._existing(level, prefix)
        children = prefix.unsqueeze(-1) * self.bases[level] + torch.arange(self.sizes[level], device=prefix.device)
        children = children.masked_fill(~exists, 0)
        if level == self.last:
            scores = self.embedding.tail_scores(mapped, children)
        else:
            scores = (F.embedding(children, getattr(self, f"node_{level}")) @ mapped.unsqueeze(-1)).squeeze(-1)
        bias = getattr(self, f"level_{level}_bias")
        scores = scores + F.embedding(prefix.clamp(max=len(bias) - 1), bias)  # beyond it where scores are no numbers
        return scores.masked_fill(~exists, -torch.inf).float()
