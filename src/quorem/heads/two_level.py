"""Two-level softmax on the embedding's own partition: exact, in time and memory that grow with sqrt(V).

First level: a class for every token with a row of its own, and one for every bucket (quotient). Second level: the
remainder inside the bucket, with the remainder rows shared by all buckets and, where widths allow, tied to the input's:

    p(v | h) = softmax(W h + b)[v]                                      v has its own row
             = softmax(W h + b)[K + q] * softmax(R f(h, G[q]) + c)[r]   otherwise

It is a class-factorised softmax (Goodman 2001, arXiv:cs/0108006; LightRNN, arXiv:1610.09893) whose second level is
conditioned on the bucket. The last, incomplete bucket leaks nothing: its missing remainders have probability 0. All of
it is computed in the parameters' precision (float32, unless they were cast), also under autocast.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings import TokenEmbedding
from quorem.embeddings.assignment import IDS_AT_ONCE
from quorem.heads.base import GeneratorHead, draw, without_autocast

CONDITIONS = ("mlp", "multiply")


class TwoLevelHead(GeneratorHead):
    """p(class | h) p(remainder | h, bucket).

    Args:
        embedding: gives the tier's rows (tied first-level weights) and, for operations multiply and add, the remainder
            rows.
        never: ids that are never targets; each must have a row of its own.
        condition: how a bucket enters, f(h, g): `multiply` is h * g; `mlp` is LayerNorm(h + MLP([h, g])).
    """

    def __init__(self, embedding: TokenEmbedding, *, never: Iterable[int] = (), condition: str = "mlp") -> None:
        super().__init__(embedding, never=never)
        if condition not in CONDITIONS:
            raise ValueError(f"condition {condition!r}: one of {', '.join(CONDITIONS)} needed")
        grid, dim = embedding.assignment, embedding.dim
        if grid.tail == 0:
            raise ValueError("every token has a row of its own, so there is no second level: use the full head")
        if any(token >= grid.own_rows for token in self.never_ids):
            raise ValueError(f"never={self.never_ids}: each needs a row of its own, but there are {grid.own_rows}")
        self.condition = condition
        rows = getattr(embedding, "remainder", None)
        self.tied = rows is not None and rows.shape[-1] == dim
        self.bucket = nn.Parameter(torch.empty(grid.num_quotients, dim))
        self.bias = nn.Parameter(torch.zeros(grid.own_rows + grid.num_quotients))
        self.gate = nn.Parameter(torch.empty(grid.num_quotients, dim))
        self.remainder_bias = nn.Parameter(torch.zeros(grid.divisor))
        self.remainder = None if self.tied else nn.Parameter(torch.empty(grid.divisor, dim))
        if condition == "mlp":
            self.mix = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, dim))
            self.norm = nn.LayerNorm(dim)
        self.reset_parameters(dim**-0.5)

    def reset_parameters(self, std: float) -> None:
        """Scores of both levels start with the spread of a tied softmax whose rows have standard deviation `std`."""
        nn.init.normal_(self.bucket, std=std)
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.remainder_bias)
        if self.remainder is not None:
            nn.init.normal_(self.remainder, std=std)
        # Tied remainder rows of a product have std^(1/2): the other half of the scale is put here.
        scale = std**0.5 if self.tied and getattr(self.embedding, "operation", "") == "multiply" else 1.0
        if self.condition == "multiply":
            nn.init.normal_(self.gate, mean=scale, std=0.02 * scale)
        else:
            nn.init.normal_(self.gate, std=1.0)
            for layer in self.mix:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=(3 * layer.in_features) ** -0.5)
                    nn.init.zeros_(layer.bias)
            nn.init.constant_(self.norm.weight, scale)
            nn.init.zeros_(self.norm.bias)

    @torch.no_grad()
    def start_at_unigram(self, counts: Tensor) -> None:
        """Biases = log mass of the tier's tokens and of the buckets; remainders by their share over all buckets."""
        first = torch.zeros_like(self.bias, dtype=torch.float64)
        second = torch.zeros_like(self.remainder_bias, dtype=torch.float64)
        for start in range(0, len(counts), IDS_AT_ONCE):
            share = counts[start : start + IDS_AT_ONCE].double().clamp(min=0.5)
            ids = torch.arange(start, start + len(share), device=counts.device)
            classes, _, remainders = self._codes(self.embedding.assignment.ranks(ids))
            first.index_add_(0, classes, share)
            second.index_add_(0, remainders, share.where(classes >= self.embedding.assignment.own_rows, 0.0))
        self.bias.copy_((first / first.sum()).log())
        self.remainder_bias.copy_((second / second.sum()).log())

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Exact -log p, float32 (n,)."""
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            first = torch.log_softmax(self._first(hidden), dim=-1)
            ranks = self.embedding.assignment.ranks(targets)
            classes, quotients, remainders = self._codes(ranks)
            chosen = first.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
            shared = (ranks >= self.embedding.assignment.own_rows).nonzero().squeeze(-1)
            second = torch.log_softmax(self._second(hidden[shared], quotients[shared]), dim=-1)
            inside = second.gather(-1, remainders[shared].unsqueeze(-1)).squeeze(-1)
            return -chosen.index_add(0, shared, inside)

    @torch.no_grad()
    def sample(self, hidden: Tensor, uniforms: Tensor, exclude: Tensor | None = None) -> Tensor:
        """Exact draws: the class, then the remainder.

        Excluding v = (q, r) multiplies the mass of its bucket by 1 - p(r | q) and takes r out of it.
        """
        grid = self.embedding.assignment
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            first = self._first(hidden)
            if exclude is not None:
                classes, quotients, remainders = self._codes(grid.ranks(exclude))
                tail = (classes >= grid.own_rows).nonzero().squeeze(-1)
                inside = torch.log_softmax(self._second(hidden[tail], quotients[tail]), dim=-1)
                inside = inside.gather(-1, remainders[tail].unsqueeze(-1)).squeeze(-1)
                left = torch.full_like(uniforms, -torch.inf, dtype=torch.float32)
                left[tail] = torch.log1p(-inside.exp().clamp(max=1.0))
                rows = torch.arange(len(hidden), device=hidden.device)
                first = first.index_put((rows, classes), first[rows, classes] + left)
            classes, left_over = draw(first, uniforms)
            shared = (classes >= grid.own_rows).nonzero().squeeze(-1)
            bucket = classes[shared] - grid.own_rows
            scores = self._second(hidden[shared], bucket)
            if exclude is not None:
                same = (quotients[shared] == bucket) & (grid.ranks(exclude)[shared] >= grid.own_rows)
                hit = same.nonzero().squeeze(-1)
                scores[hit, remainders[shared][hit]] = -torch.inf
            ranks = classes.clone()
            ranks[shared] = grid.own_rows + bucket * grid.divisor + draw(scores, left_over[shared])[0]
            return grid.ids(ranks)

    @torch.no_grad()
    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Exact by branch and bound: p(v) <= p(q), so buckets are opened in falling order while they can still win."""
        grid = self.embedding.assignment
        k = min(k, self.num_targets)
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            first = torch.log_softmax(self._first(hidden), dim=-1)
            values, ranks = first[:, : grid.own_rows].topk(min(k, grid.own_rows), dim=-1)
            values = F.pad(values, (0, k - values.shape[-1]), value=-torch.inf)
            ranks = F.pad(ranks, (0, k - ranks.shape[-1]))
            mass, order = first[:, grid.own_rows :].sort(dim=-1, descending=True)
            for step in range(grid.num_quotients):
                rows = (mass[:, step] > values[:, -1]).nonzero().squeeze(-1)
                if len(rows) == 0:
                    break
                bucket = order[rows, step]
                inside = torch.log_softmax(self._second(hidden[rows], bucket), dim=-1) + mass[rows, step].unsqueeze(-1)
                start = grid.own_rows + bucket.unsqueeze(-1) * grid.divisor
                codes = start + torch.arange(grid.divisor, device=start.device)
                best, where = torch.cat([values[rows], inside], dim=-1).topk(k, dim=-1)
                values[rows], ranks[rows] = best, torch.cat([ranks[rows], codes], dim=-1).gather(-1, where)
            return values, grid.ids(ranks)

    @torch.no_grad()
    def full_log_prob(self, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The tier first, then a bucket at a time."""
        grid = self.embedding.assignment
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            first = torch.log_softmax(self._first(hidden), dim=-1)
            ranks = torch.arange(grid.own_rows, device=hidden.device)
            yield grid.ids(ranks), first[:, : grid.own_rows]
            for q in range(grid.num_quotients):
                size = min(grid.divisor, grid.tail - q * grid.divisor)
                bucket = torch.full((len(hidden),), q, dtype=torch.int64, device=hidden.device)
                inside = torch.log_softmax(self._second(hidden, bucket), dim=-1)[:, :size]
                start = grid.own_rows + q * grid.divisor
                yield (
                    grid.ids(torch.arange(start, start + size, device=hidden.device)),
                    inside + first[:, grid.own_rows + q].unsqueeze(-1),
                )

    def _codes(self, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First-level class, quotient and remainder, int64 (n,) each."""
        grid = self.embedding.assignment
        quotients, remainders = grid.digits(ranks)
        return torch.where(ranks < grid.own_rows, ranks, grid.own_rows + quotients), quotients, remainders

    def _first(self, hidden: Tensor) -> Tensor:
        """Scores (n, K + Q) of the tier's tokens and the buckets."""
        grid = self.embedding.assignment
        scores = F.linear(hidden, torch.cat([self.embedding.tier_rows(), self.bucket]), self.bias)
        if self.never_ids:
            never = grid.ranks(torch.tensor(self.never_ids, device=hidden.device))
            scores = scores.index_fill(-1, never, -torch.inf)
        return scores.float()

    def _second(self, hidden: Tensor, quotients: Tensor) -> Tensor:
        """Scores (n, m) of the remainders inside each row's bucket; -inf where the last bucket has none."""
        grid = self.embedding.assignment
        gate = F.embedding(quotients, self.gate)
        if self.condition == "multiply":
            mixed = hidden * gate
        else:
            mixed = self.norm(hidden + self.mix(torch.cat([hidden, gate], dim=-1)))
        rows = getattr(self.embedding, "remainder") if self.remainder is None else self.remainder  # noqa: B009
        scores = F.linear(mixed, rows, self.remainder_bias)
        missing = quotients.unsqueeze(-1) * grid.divisor + torch.arange(grid.divisor, device=hidden.device) >= grid.tail
        return scores.masked_fill(missing, -torch.inf).float()
