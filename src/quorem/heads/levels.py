"""Softmax over the levels of a code: exact, a choice at a time, for every head that has more than one level.

First level: a class for every token with a row of its own, and one for every value (bucket) of the most significant
digit. Every further level: the next digit, given those before it:

    p(v | h) = softmax(W h + b)[v]                                                   v has its own row
             = softmax(W h + b)[K + d_1] * p(d_2 | h, d_1) * p(d_3 | h, d_1, d_2)    otherwise

It is a class-factorised softmax (Goodman 2001, arXiv:cs/0108006; Morin and Bengio 2005 for trees). How a further level
scores its digits is the subclass's. Digits that no id has after a prefix have probability 0: nothing leaks, and one
comparison a level finds them. All of it is computed in the parameters' precision (float32, unless they were cast), also
under autocast; but the first level's products of a loss that gradients are recorded for are autocast's, as in the full
head: with a tier of thousands of tokens they are most of the head's work.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings import TokenEmbedding
from quorem.embeddings.assignment import is_free_to_read
from quorem.embeddings.mixed_radix import digit_sizes
from quorem.heads.base import GeneratorHead, draw, without_autocast

SHARED_BY = 16  # rows that ask for a node, on average, from which on it is read once for all of them
ROWS_AT_ONCE = 2**16  # vectors in memory at once, while means are taken


class LevelsHead(GeneratorHead):
    """p(class | h), then p(digit | h, digits before it), most significant first.

    Args:
        embedding: gives the tier's rows (tied first-level weights).
        never: ids that are never targets; each must have a row of its own.
        moduli: values of every digit but the most significant, least significant first, as in MixedRadixEmbedding.

    Raises:
        ValueError: if there is nothing to choose after the first level, or a target's row is shared.
    """

    def __init__(self, embedding: TokenEmbedding, *, never: Iterable[int] = (), moduli: Sequence[int]) -> None:
        super().__init__(embedding, never=never)
        grid = embedding.assignment
        if grid.tail == 0:
            raise ValueError("every token has its own row, so there are no further levels: use the full head")
        if not moduli or min(moduli) < 1:
            raise ValueError(f"moduli {list(moduli)}: one or more numbers, each at least 1, needed")
        if any(token >= grid.own_rows for token in self.never_ids):
            raise ValueError(f"never={self.never_ids}: each id needs its own row, but there are only {grid.own_rows}")
        self.moduli = tuple(moduli)
        # Level 0 is the most significant digit. Of a code, code // spans[j] is the number that its first digits make,
        # and bases[j] what that is multiplied by to make room for the next. Beyond the tail all numbers do the same.
        self.spans = [min(math.prod(moduli[:count]), grid.tail) for count in range(len(moduli), -1, -1)]
        self.bases = [1, *(min(modulus, grid.tail) for modulus in reversed(moduli))]
        self.sizes = digit_sizes(grid.tail, moduli)[::-1]
        self.bucket = nn.Parameter(torch.empty(self.sizes[0], embedding.dim))
        self.bias = nn.Parameter(torch.zeros(grid.own_rows + self.sizes[0]))

    @torch.no_grad()
    def start_at_vectors(self, counts: Tensor) -> None:
        """Every bucket's row becomes the mean of its tokens' vectors, weighted by their counts."""
        self.bucket.copy_(self._means(0, counts))

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Exact -log p, float32 (n,)."""
        grid, device_type = self.embedding.assignment, hidden.device.type
        cast = torch.is_autocast_enabled(device_type) and torch.is_grad_enabled()
        dtype = torch.get_autocast_dtype(device_type) if cast else self.bias.dtype
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            ranks = grid.ranks(targets)
            first = torch.log_softmax(self._first(hidden, dtype), dim=-1)
            chosen = first.gather(-1, self._classes(ranks).unsqueeze(-1)).squeeze(-1)
            in_tier = ranks < grid.own_rows
            rows = self._rows_to_follow(~in_tier)
            below = torch.zeros(len(rows), dtype=chosen.dtype, device=chosen.device)
            for log_probs, digit in self._levels(hidden[rows], (ranks[rows] - grid.own_rows).clamp(min=0)):
                below = below + log_probs.gather(-1, digit).squeeze(-1)
            return -chosen.index_add(0, rows, below.masked_fill(in_tier[rows], 0.0))

    @torch.no_grad()
    def sample(
        self, hidden: Tensor, uniforms: Tensor, exclude: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """Exact draws, a level at a time.

        Excluding v leaves its digit at every level, after its own prefix, the mass of the other ids below it.
        """
        grid = self.embedding.assignment
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            first = self._first(hidden) / temperature
            if exclude is not None:
                ranks = grid.ranks(exclude)
                excluded, left = ranks - grid.own_rows, self._left_without(hidden, ranks, temperature)
                first = first.scatter_add(-1, self._classes(ranks).unsqueeze(-1), left[0].unsqueeze(-1))
            classes, uniforms = draw(first, uniforms)
            in_tier = classes < grid.own_rows
            rows = self._rows_to_follow(~in_tier)
            state, uniforms = hidden[rows], uniforms[rows]
            digit = prefix = (classes[rows] - grid.own_rows).clamp(min=0)  # of a tier's token: drawn on, and not used
            for level in range(1, len(self.sizes)):
                state = self._after(state, level, digit)
                scores = self._scores(state, level, prefix) / temperature
                if exclude is not None:
                    without = excluded[rows]
                    same = (prefix == without // self.spans[level - 1]) & (without >= 0)
                    gone = left[level][rows].masked_fill(~same, 0.0).unsqueeze(-1)
                    scores = scores.scatter_add(-1, self._digit(without.clamp(min=0), level).unsqueeze(-1), gone)
                digit, uniforms = draw(scores, uniforms)
                prefix = prefix * self.bases[level] + digit
            drawn = torch.where(in_tier[rows], classes[rows], grid.own_rows + prefix)
            ranks = classes.index_copy(0, rows, drawn)
            return grid.ids(ranks.clamp(max=grid.vocab_size - 1))  # beyond it only for scores that are not numbers

    @torch.no_grad()
    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Exact by branch and bound: no id is likelier than its prefix, so those are followed that can still win."""
        grid = self.embedding.assignment
        k = min(k, self.num_targets)
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            first = torch.log_softmax(self._first(hidden), dim=-1)
            values, ranks = first[:, : grid.own_rows].topk(min(k, grid.own_rows), dim=-1)
            values = F.pad(values, (0, k - values.shape[-1]), value=-torch.inf)
            ranks = F.pad(ranks, (0, k - ranks.shape[-1]))
            if k == 0:
                return values, ranks
            rows = torch.arange(len(hidden), device=hidden.device)
            self._search(values, ranks, rows, hidden, torch.zeros_like(rows), first[:, grid.own_rows :], level=0)
            return values, grid.ids(ranks)

    @torch.no_grad()
    def full_log_prob(self, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The tier first, then the ids of a prefix at a time."""
        grid = self.embedding.assignment
        with without_autocast(hidden):  # never around a yield: casts that autocast keeps would outlive their weights
            hidden = hidden.to(self.bias.dtype)
            first = torch.log_softmax(self._first(hidden), dim=-1)
        yield grid.ids(torch.arange(grid.own_rows, device=hidden.device)), first[:, : grid.own_rows]
        leaves = self._leaves(hidden, 0, first[:, grid.own_rows :], level=0)
        while True:
            with without_autocast(hidden):
                found = next(leaves, None)
            if found is None:
                return
            start, log_probs = found
            stop = min(start + log_probs.shape[-1], grid.tail)
            ranks = grid.own_rows + torch.arange(start, stop, device=hidden.device)
            yield grid.ids(ranks), log_probs[:, : stop - start]

    def _classes(self, ranks: Tensor) -> Tensor:
        """First-level classes, int64 (n,)."""
        own_rows = self.embedding.assignment.own_rows
        quotients = torch.div(ranks - own_rows, self.spans[0], rounding_mode="floor")
        return torch.where(ranks < own_rows, ranks, own_rows + quotients)

    def _digit(self, codes: Tensor, level: int) -> Tensor:
        """A digit of codes int64 (n,), below the most significant."""
        return torch.div(codes, self.spans[level], rounding_mode="floor") % self.bases[level]

    def _rows_to_follow(self, followed: Tensor) -> Tensor:
        """Which positions go through further levels, int64: those of bool (n,), or all where to look makes one wait."""
        if is_free_to_read(followed.device):
            return followed.nonzero().squeeze(-1)
        return torch.arange(len(followed), device=followed.device)

    def _after(self, state: Tensor, level: int, digit: Tensor) -> Tensor:
        """The state (n, D) for a level's scores, once the digit int64 (n,) before it is chosen."""
        return state

    def _scores(self, state: Tensor, level: int, prefix: Tensor) -> Tensor:
        """Scores float32 (n, size) of a level's digits after prefixes int64 (n,); -inf for those that no id has."""
        raise NotImplementedError

    def _scores_of_one(self, state: Tensor, level: int, prefix: int) -> Tensor:
        """The same where all rows have one prefix."""
        return self._scores(state, level, torch.full(state.shape[:1], prefix, dtype=torch.int64, device=state.device))

    def _existing(self, level: int, prefix: Tensor) -> Tensor:
        """Which digits of a level any id has after prefixes int64 (n,): bool (n, size)."""
        digits = torch.arange(self.sizes[level], device=prefix.device)
        least = (prefix.unsqueeze(-1) * self.bases[level] + digits) * self.spans[level]
        return least < self.embedding.assignment.tail

    def _means(self, level: int, counts: Tensor) -> Tensor:
        """Mean vectors float32 (nodes, D) of the tokens below every node of a level, weighted by counts int64 (V,)."""
        grid, span = self.embedding.assignment, self.spans[level]
        device = self.bucket.device
        sums = torch.zeros(-(-grid.tail // span), self.embedding.dim + 1, dtype=torch.float64, device=device)
        for start in range(0, grid.tail, ROWS_AT_ONCE):
            codes = torch.arange(start, min(start + ROWS_AT_ONCE, grid.tail), device=device)
            vectors = self.embedding.tail_vectors(codes).double()
            weight = counts.to(device)[grid.ids(grid.own_rows + codes)].double().clamp(min=0.5).unsqueeze(-1)
            sums.index_add_(0, codes // span, torch.cat([vectors * weight, weight], dim=-1))
        return (sums[:, :-1] / sums[:, -1:]).to(self.bucket.dtype)

    def _first(self, hidden: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Scores float32 (n, K + Q) of the tier's tokens and the buckets, from products in dtype (hidden's if None)."""
        rows = torch.cat([self.embedding.tier_rows(), self.bucket]).to(dtype or hidden.dtype)
        scores = F.linear(hidden.to(rows.dtype), rows).float() + self.bias
        if self.never_ids:
            never = self.embedding.assignment.ranks(self.never(hidden.device))
            scores = scores.index_fill(-1, never, -torch.inf)
        return scores

    def _levels(self, hidden: Tensor, codes: Tensor, temperature: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
        """After each digit of codes int64 (n,) but the last: log p (n, size) of the next, and which it is, (n, 1)."""
        state, digit = hidden, torch.div(codes, self.spans[0], rounding_mode="floor")
        for level in range(1, len(self.sizes)):
            state = self._after(state, level, digit)
            prefix = torch.div(codes, self.spans[level - 1], rounding_mode="floor")
            digit = self._digit(codes, level)
            scores = self._scores(state, level, prefix) / temperature
            yield torch.log_softmax(scores, dim=-1), digit.unsqueeze(-1)

    def _left_without(self, hidden: Tensor, ranks: Tensor, temperature: float) -> Tensor:
        """log(1 - p(what follows a rank's digit)), the share its class keeps if it is excluded: (levels, n).

        Summed over what is left rather than subtracted from 1, which would lose it where the excluded is likely.
        """
        left = torch.full((len(self.sizes), len(ranks)), -torch.inf, dtype=torch.float32, device=hidden.device)
        own_rows = self.embedding.assignment.own_rows
        levels = list(self._levels(hidden, (ranks - own_rows).clamp(min=0), temperature))
        for level, (log_probs, digit) in reversed(list(enumerate(levels))):
            others = log_probs.scatter(-1, digit, -torch.inf).logsumexp(-1)
            left[level] = torch.logaddexp(others, log_probs.gather(-1, digit).squeeze(-1) + left[level + 1])
        return left.masked_fill(ranks < own_rows, -torch.inf)

    def _search(
        self, values: Tensor, ranks: Tensor, rows: Tensor, state: Tensor, prefix: Tensor, mass: Tensor, *, level: int
    ) -> None:
        """Improve the best of rows int64 (n,) by what follows their prefixes; mass (n, size): log p of the digits."""
        size = mass.shape[-1]
        prefix = prefix * self.bases[level]
        if level == len(self.moduli):
            codes = self.embedding.assignment.own_rows + prefix.unsqueeze(-1) + torch.arange(size, device=mass.device)
            best, where = torch.cat([values[rows], mass], dim=-1).topk(values.shape[-1], dim=-1)
            values[rows], ranks[rows] = best, torch.cat([ranks[rows], codes], dim=-1).gather(-1, where)
            return
        mass, order = mass.sort(dim=-1, descending=True)
        for step in range(size):
            place, ahead = (mass[:, step:] > values[rows, -1:]).nonzero(as_tuple=True)
            if len(place) == 0:
                break
            digits = order[place, step + ahead]
            if step and len(place) >= SHARED_BY * len((prefix[place] + digits).unique()):
                self._sweep(values, ranks, rows, state, prefix, place, digits, mass[place, step + ahead], level=level)
                break
            open_ = place[ahead == 0]
            digit = order[open_, step]
            below, after = prefix[open_] + digit, self._after(state[open_], level + 1, digit)
            inside = torch.log_softmax(self._scores(after, level + 1, below), dim=-1) + mass[open_, step].unsqueeze(-1)
            self._search(values, ranks, rows[open_], after, below, inside, level=level + 1)

    def _sweep(
        self, values: Tensor, ranks: Tensor, rows: Tensor, state: Tensor, prefix: Tensor, place: Tensor, digits: Tensor,
        mass: Tensor, *, level: int,
    ) -> None:  # fmt: skip
        """The rest of `_search` a node at a time, the likeliest first: what is below is read once for all of its rows.

        Args:
            values: as there.
            ranks: as there.
            rows: as there.
            state: as there.
            prefix: as there.
            level: as there.
            place: int64 (pairs,), which of the rows.
            digits: int64 (pairs,), what follows their prefixes.
            mass: float32 (pairs,), log p of it.
        """
        nodes, of, number = (prefix[place] + digits).unique(return_inverse=True, return_counts=True)
        total = torch.zeros(len(nodes), dtype=mass.dtype, device=mass.device).index_add_(0, of, mass.exp())
        pairs = of.argsort(stable=True).split(number.tolist())
        for each in total.argsort(descending=True).tolist():
            some = pairs[each]
            some = some[mass[some] > values[rows[place[some]], -1]]
            if len(some) == 0:
                continue
            open_, node = place[some], int(nodes[each])
            after = self._after(state[open_], level + 1, digits[some])
            scores = self._scores_of_one(after, level + 1, node)
            inside = torch.log_softmax(scores, dim=-1) + mass[some].unsqueeze(-1)
            below = torch.full_like(open_, node)
            self._search(values, ranks, rows[open_], after, below, inside, level=level + 1)

    def _leaves(self, state: Tensor, prefix: int, mass: Tensor, *, level: int) -> Iterator[tuple[int, Tensor]]:
        """The first code and log p (n, size) of every run of codes that differ in the last digit only."""
        prefix *= self.bases[level]
        if level == len(self.moduli):
            yield prefix, mass
            return
        for digit in range(mass.shape[-1]):
            if (prefix + digit) * self.spans[level] >= self.embedding.assignment.tail:
                break
            chosen = torch.full(state.shape[:1], digit, dtype=torch.int64, device=state.device)
            after = self._after(state, level + 1, chosen)
            scores = self._scores_of_one(after, level + 1, prefix + digit)
            inside = torch.log_softmax(scores, dim=-1) + mass[:, digit].unsqueeze(-1)
            yield from self._leaves(after, prefix + digit, inside, level=level + 1)
