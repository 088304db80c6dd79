"""The tied softmax over the whole vocabulary, a chunk of ids at a time.

Works for every embedding. No (n, V) array is kept: each chunk's scores are made again in the backward pass and become
their gradient in place, as in fused losses (Hsu et al. 2024, arXiv:2410.10989). What is kept are the vectors of all
tokens, (V, D) in the precision of products. Time grows with V, so it is for vocabularies up to about 100,000 and the
yardstick for others. In training the products run in the precision of the surrounding autocast and everything after
them in float32; draws, top ids and distributions are computed in the parameters' precision throughout.
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from quorem.embeddings import TokenEmbedding
from quorem.heads.base import BLOCK, GeneratorHead, draw, without_autocast

SCORES_AT_ONCE = {"cpu": 2**22, "cuda": 2**24}
"""Largest number of scores, or of entries of token vectors of a chunk, at once: about what a core's cache holds (16 MiB
in float32; with 64 MiB a step takes twice as long), and what keeps a GPU busy."""

FACTORISES = (
    "a full softmax tied to a table of operation add or concat: a score would be the sum of its parts' scores, so that "
    "the parts were drawn independently of each other; use the two-level head, or multiply"
)


class FullHead(GeneratorHead):
    """log softmax(hidden E^T + bias), E the embedding's rows (transformers' generator_lm_head, tied)."""

    reads_all: ClassVar[bool] = True
    products: ClassVar[bool] = True
    """Whether scores are plain products, which of a sum of parts are the sum of the parts' scores."""

    def __init__(self, embedding: TokenEmbedding, *, never: Iterable[int] = ()) -> None:
        super().__init__(embedding, never=never)
        if self.products and getattr(embedding, "operation", None) in ("add", "concat"):
            raise ValueError(FACTORISES)
        self.bias = nn.Parameter(torch.zeros(embedding.assignment.vocab_size))

    def reset_parameters(self, std: float) -> None:
        """Biases to 0."""
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def start_at_unigram(self, counts: Tensor) -> None:
        """The biases are log unigram probabilities."""
        share = counts.double().clamp(min=0.5)
        self.bias.copy_((share / share.sum()).log())

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Exact -log p, float32 (n,). It has first derivatives alone."""
        size, targets = self._chunk_size(len(hidden)), self.embedding.assignment.checked(targets)
        # Finite in float32, since the gradient of a chunk's sum would be NaN if all its ids were never targets.
        least = max(torch.finfo(dtype).min for dtype in (self.bias.dtype, torch.float32))
        biases = self._masked_bias().clamp(min=least).split(size)
        tables = self.embedding.chunks(size)
        query = self.query(hidden).to(_precision(hidden))
        sums, picked, start = [], torch.zeros(len(hidden), device=hidden.device), 0
        for table, bias in zip(tables, biases, strict=True):
            # What a table makes its vectors of is made again, not kept.
            keys = checkpoint(self._keys, table, query.dtype, use_reentrant=False, preserve_rng_state=False)
            total, chosen = ChunkTerms.apply(query, keys, bias, targets - start)
            sums.append(total)
            picked = picked + chosen
            start += len(bias)
        return torch.logsumexp(torch.stack(sums, dim=-1), dim=-1) - picked

    @torch.no_grad()
    def sample(
        self, hidden: Tensor, uniforms: Tensor, exclude: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """Exact draws: first a block of ids by its mass, then the id inside it."""
        size, bias = self._chunk_size(len(hidden)), self._masked_bias()
        masses = []
        for index, (table, part) in enumerate(zip(self.embedding.chunks(size), bias.split(size), strict=True)):
            scores = self._exact_scores(hidden, table, part)
            if temperature != 1:
                scores = scores / temperature
            if exclude is not None:
                ids = torch.arange(index * size, index * size + len(part), device=hidden.device)
                scores = scores.masked_fill(ids == exclude.unsqueeze(-1), -torch.inf)
            if missing := -len(part) % BLOCK:  # of the last chunk
                scores = F.pad(scores, (0, missing), value=-torch.inf)
            masses.append(torch.logsumexp(scores.unflatten(-1, (-1, BLOCK)), dim=-1))
        block, uniforms = draw(torch.cat(masses, dim=-1), uniforms)
        drawn, rows = torch.empty_like(block), max(1, self._at_once // (BLOCK * self.embedding.dim))
        for start in range(0, len(hidden), rows):  # each position reads the vectors of its own block
            some = slice(start, start + rows)
            ids = block[some].unsqueeze(-1) * BLOCK + torch.arange(BLOCK, device=hidden.device)  # (rows, BLOCK)
            gone = ids >= len(bias)
            if exclude is not None:
                gone |= ids == exclude[some].unsqueeze(-1)
            ids = ids.clamp(max=len(bias) - 1)
            scores = (self._scores_of(hidden[some], ids) + bias[ids]) / temperature
            chosen, _ = draw(scores.masked_fill(gone, -torch.inf), uniforms[some])
            drawn[some] = ids.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        return drawn

    @torch.no_grad()
    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Exact: the best of every chunk's best."""
        k = min(k, self.num_targets)
        values = torch.empty(len(hidden), 0, device=hidden.device)
        found = torch.empty(len(hidden), 0, dtype=torch.int64, device=hidden.device)
        for ids, log_probs in self.full_log_prob(hidden):
            best, where = log_probs.topk(min(k, len(ids)), dim=-1)
            values, order = torch.cat([values, best], dim=-1).topk(min(k, values.shape[-1] + best.shape[-1]), dim=-1)
            found = torch.cat([found, ids[where]], dim=-1).gather(-1, order)
        return values, found

    @torch.no_grad()
    def full_log_prob(self, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """A chunk of ids at a time, in the order of ids."""
        size = self._chunk_size(len(hidden))
        pieces = list(zip(self.embedding.chunks(size), self._masked_bias().split(size), strict=True))
        sums = [torch.logsumexp(self._exact_scores(hidden, *piece), dim=-1) for piece in pieces]
        total = torch.logsumexp(torch.stack(sums, dim=-1), dim=-1, keepdim=True)
        for index, piece in enumerate(pieces):
            found = self._exact_scores(hidden, *piece) - total
            yield torch.arange(index * size, index * size + found.shape[-1], device=hidden.device), found

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores float32 (n, V) of every id for hidden (n, D), all at once: for small V."""
        (table,) = self.embedding.chunks(self.embedding.num_embeddings)
        return self._scores(hidden, table, self.bias)

    def query(self, hidden: Tensor) -> Tensor:
        """What of hidden (n, D) enters the products."""
        return hidden

    def keys(self, vectors: Tensor) -> Tensor:
        """What of tokens' vectors (..., D) enters them."""
        return vectors

    def _keys(self, table: Tensor, dtype: torch.dtype) -> Tensor:
        """A chunk's keys (chunk, D)."""
        return self.keys(self.embedding.chunk_rows(table)).to(dtype)

    def _scores(self, hidden: Tensor, table: Tensor, bias: Tensor) -> Tensor:
        dtype = _precision(hidden)
        return _scores(self.query(hidden).to(dtype), self._keys(table, dtype), bias)

    def _exact_scores(self, hidden: Tensor, table: Tensor, bias: Tensor) -> Tensor:
        """Scores in the parameters' precision, whatever the surrounding autocast."""
        with without_autocast(hidden):
            return self._scores(hidden.to(bias.dtype), table, bias)

    def _scores_of(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Scores float32 (n, c), without biases, of ids int64 (n, c) that differ from row to row, as precise."""
        with without_autocast(hidden):
            vectors = self.keys(self.embedding(ids))
            return (vectors @ self.query(hidden.to(vectors.dtype)).unsqueeze(-1)).squeeze(-1).float()

    def _masked_bias(self) -> Tensor:
        if not self.never_ids:
            return self.bias
        return self.bias.index_fill(0, self.never(self.bias.device), -torch.inf)

    @property
    def _at_once(self) -> int:
        return SCORES_AT_ONCE["cpu" if self.bias.device.type == "cpu" else "cuda"]

    def _chunk_size(self, num_rows: int) -> int:
        """Ids at once, whole blocks of them."""
        blocks = self._at_once // max(num_rows, self.embedding.dim) // BLOCK
        return max(1, blocks) * BLOCK


class ChunkTerms(torch.autograd.Function):
    """What an nll needs of a chunk of ids, with a backward pass that holds one array of scores and few copies of it.

    From queries (n, D) and keys (chunk, D), both in the precision of products, finite biases (chunk,) and targets
    int64 (n,), counted from the chunk's first id, come the log-sum of exponentials of the scores and the targets'
    scores, 0 where one lies elsewhere, float32 (n,) each. There is no second derivative: asking for one is an error.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        scores = _scores(query, keys, bias)
        inside = (targets >= 0) & (targets < len(keys))
        targets = targets.clamp(0, len(keys) - 1)
        sums = torch.logsumexp(scores, dim=-1)
        ctx.save_for_backward(query, keys, bias, targets, inside, sums)
        return sums, scores.gather(-1, targets.unsqueeze(-1)).squeeze(-1).masked_fill(~inside, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums: Tensor, of_chosen: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, bias, targets, inside, sums = ctx.saved_tensors
        for_query, for_keys, for_bias, _ = ctx.needs_input_grad
        with without_autocast(query):
            grad = _scores(query, keys, bias).sub_(sums.unsqueeze(-1)).exp_().mul_(of_sums.unsqueeze(-1))
            grad.scatter_add_(-1, targets.unsqueeze(-1), of_chosen.masked_fill(~inside, 0.0).unsqueeze(-1))
            of_bias = grad.sum(0).to(bias.dtype) if for_bias else None
            grad = grad.to(query.dtype)
            return grad @ keys if for_query else None, grad.t() @ query if for_keys else None, of_bias, None


def _precision(hidden: Tensor) -> torch.dtype:
    """Of the products: the surrounding autocast's, or that of hidden."""
    device = hidden.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _scores(query: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """float32 (n, chunk)."""
    return F.linear(query, keys).float().add_(bias)
