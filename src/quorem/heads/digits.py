"""Softmax over the digits of a code, one level a digit: exact, in time and memory that grow with V^(1/k).

First level: a class for every token with a row of its own, and one for every value (bucket) of the most significant
digit. Every further level: the next digit, given those before it. The rows of a level's values are shared by all
prefixes, and tied to the input's where that has the same digits, D wide:

    p(v | h) = softmax(W h + b)[v]                                              v has its own row
             = softmax(W h + b)[K + d_1] * softmax(R_2 s_2 + c_2)[d_2] * ...    otherwise
    s_1 = h,   s_(j+1) = f_j(s_j, G_j[d_j])

It is a class-factorised softmax (Goodman 2001, arXiv:cs/0108006; LightRNN, arXiv:1610.09893) whose levels are
conditioned on what was chosen before. Digits that no id has after a prefix have probability 0: nothing leaks, and one
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
from quorem.embeddings.assignment import IDS_AT_ONCE
from quorem.embeddings.mixed_radix import digit_sizes
from quorem.heads.base import GeneratorHead, draw, without_autocast
from quorem.heads.condition import Condition


class DigitsHead(GeneratorHead):
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
        super().__init__(embedding, never=never)
        grid, dim = embedding.assignment, embedding.dim
        if grid.tail == 0:
            raise ValueError("every token has a row of its own, so there are no further levels: use the full head")
        if not moduli or min(moduli) < 1:
            raise ValueError(f"moduli {list(moduli)}: one or more numbers, each at least 1, needed")
        if any(token >= grid.own_rows for token in self.never_ids):
            raise ValueError(f"never={self.never_ids}: each needs a row of its own, but there are {grid.own_rows}")
        self.moduli = tuple(moduli)
        # Level 0 is the most significant digit. Of a code, code // spans[j] is the number that its first digits make,
        # and bases[j] what that is multiplied by to make room for the next. Beyond the tail all numbers do the same.
        self.spans = [min(math.prod(moduli[:count]), grid.tail) for count in range(len(moduli), -1, -1)]
        self.bases = [1, *(min(modulus, grid.tail) for modulus in reversed(moduli))]
        self.sizes = digit_sizes(grid.tail, moduli)[::-1]
        self.tied = bool(embedding.digit_rows(self.moduli))
        self.bucket = nn.Parameter(torch.empty(self.sizes[0], dim))
        self.bias = nn.Parameter(torch.zeros(grid.own_rows + self.sizes[0]))
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
            # Also for the tier's tokens, where it counts for nothing: to leave them out, the host had to wait.
            in_tier = ranks < grid.own_rows
            for log_probs, digit in self._levels(hidden, (ranks - grid.own_rows).clamp(min=0)):
                chosen = chosen + log_probs.gather(-1, digit).squeeze(-1).masked_fill(in_tier, 0.0)
            return -chosen

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
            digit = prefix = (classes - grid.own_rows).clamp(min=0)  # of a tier's token: drawn on, and not used
            state = hidden
            for level in range(1, len(self.sizes)):
                state = self.conditions[level - 1](state, digit)
                scores = self._scores(state, level, prefix) / temperature
                if exclude is not None:
                    same = (prefix == excluded // self.spans[level - 1]) & (excluded >= 0)
                    gone = left[level].masked_fill(~same, 0.0).unsqueeze(-1)
                    scores = scores.scatter_add(-1, self._digit(excluded.clamp(min=0), level).unsqueeze(-1), gone)
                digit, uniforms = draw(scores, uniforms)
                prefix = prefix * self.bases[level] + digit
            ranks = torch.where(classes < grid.own_rows, classes, grid.own_rows + prefix)
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
        with without_autocast(hidden):
            hidden = hidden.to(self.bias.dtype)
            first = torch.log_softmax(self._first(hidden), dim=-1)
            yield grid.ids(torch.arange(grid.own_rows, device=hidden.device)), first[:, : grid.own_rows]
            for start, log_probs in self._leaves(hidden, 0, first[:, grid.own_rows :], level=0):
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

    def _bias(self, level: int) -> Tensor:
        return self.bias if level == 0 else getattr(self, f"bias_{level}")

    def _first(self, hidden: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Scores float32 (n, K + Q) of the tier's tokens and the buckets, from products in dtype (hidden's if None)."""
        rows = torch.cat([self.embedding.tier_rows(), self.bucket]).to(dtype or hidden.dtype)
        scores = F.linear(hidden.to(rows.dtype), rows).float() + self.bias
        if self.never_ids:
            never = self.embedding.assignment.ranks(self.never(hidden.device))
            scores = scores.index_fill(-1, never, -torch.inf)
        return scores

    def _scores(self, state: Tensor, level: int, prefix: Tensor) -> Tensor:
        """Scores (n, size) of a level's digits after prefixes int64 (n,); -inf for those that no id has."""
        rows = self.embedding.digit_rows(self.moduli)[level - 1] if self.tied else getattr(self, f"rows_{level}")
        inner = getattr(self, f"scale_{level}")
        scores = F.linear(state if inner is None else state * inner, rows, self._bias(level))
        digits = torch.arange(self.sizes[level], device=state.device)
        least = (prefix.unsqueeze(-1) * self.bases[level] + digits) * self.spans[level]
        return scores.masked_fill(least >= self.embedding.assignment.tail, -torch.inf).float()

    def _levels(self, hidden: Tensor, codes: Tensor, temperature: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
        """After each digit of codes int64 (n,) but the last: log p (n, size) of the next, and which it is, (n, 1)."""
        state, digit = hidden, torch.div(codes, self.spans[0], rounding_mode="floor")
        for level in range(1, len(self.sizes)):
            state = self.conditions[level - 1](state, digit)
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
            open_ = (mass[:, step] > values[rows, -1]).nonzero().squeeze(-1)
            if len(open_) == 0:
                break
            digit = order[open_, step]
            below, after = prefix[open_] + digit, self.conditions[level](state[open_], digit)
            inside = torch.log_softmax(self._scores(after, level + 1, below), dim=-1) + mass[open_, step].unsqueeze(-1)
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
            chosen = torch.full((len(state),), digit, dtype=torch.int64, device=state.device)
            after = self.conditions[level](state, chosen)
            scores = self._scores(after, level + 1, torch.full_like(chosen, prefix + digit))
            inside = torch.log_softmax(scores, dim=-1) + mass[:, digit].unsqueeze(-1)
            yield from self._leaves(after, prefix + digit, inside, level=level + 1)
