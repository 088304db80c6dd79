"""The contract of every token embedding, and the rows of their own that frequent tokens have in most of them."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.fitting import fit_by_gradient
from quorem.embeddings.planning import Planned

ROWS_AT_ONCE = 2**16  # of a table that is looked through


class TokenEmbedding(Planned, nn.Module):
    """Maps ids to vectors.

    Args:
        assignment: which rows an id reads; shared with the generator's head.
        dim: D, width of a vector.
        options: what else the kind needs to be built, as a config stores it.
    """

    uniqueness: ClassVar[str] = ""
    """Why no two ids share everything they read; empty where some do."""
    row_tables: tuple[str, ...] = ()
    """Names of the parameters with a row for each id, or for each after the tier, of which a vector reads one."""
    sparse = False
    """Whether their gradients are sparse: torch's COO tensors of the rows read, not coalesced."""

    def __init__(self, assignment: Assignment, dim: int, **options: Any) -> None:
        super().__init__()
        self.assignment = assignment
        self.dim = dim
        self.options = options

    @property
    def num_embeddings(self) -> int:
        """V, by torch.nn.Embedding's name."""
        return self.assignment.vocab_size

    @property
    def embedding_dim(self) -> int:
        """D, by torch.nn.Embedding's name."""
        return self.dim

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers and of the index, by torch.Tensor's name."""
        return sum(tensor.nbytes for tensor in (*self.parameters(), *self.buffers()))

    def extra_repr(self) -> str:
        """For print: sizes, how many numbers there are, and their bytes with those of the index."""
        numbers = sum(parameter.numel() for parameter in self.parameters())
        own = f"{self.assignment.own_rows:,} tokens with a row of their own"
        return f"{self.num_embeddings:,} x {self.dim}: {numbers:,} numbers, {self.nbytes / 1e6:,.1f} MB, {own}"

    @property
    def capacity(self) -> int:
        """How many ids the present rows can tell apart."""
        return self.assignment.vocab_size

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (*batch, D), in the parameters' dtype, of ids int64 (*batch) in [0, V)."""
        raise NotImplementedError

    def row_parameters(self) -> list[nn.Parameter]:
        """The parameters that `row_tables` names: a step reads few rows of them, however many there are."""
        return [getattr(self, name) for name in self.row_tables]

    def read(self, name: str, rows: Tensor) -> Tensor:
        """Rows (*batch, width) of the table `name`, one of `row_tables`, at rows int64 (*batch)."""
        return F.embedding(rows, getattr(self, name), sparse=self.sparse)

    def reset_parameters(self, std: float) -> None:
        """Draw parameters anew from torch's global generator; `std` is that of the composed vectors' entries."""
        raise NotImplementedError

    @torch.no_grad()
    def from_dense(self, weight: Tensor) -> float:
        """Set the parameters to those whose vectors are nearest, in least squares, to a dense table's.

        Args:
            weight: (V, D).

        Returns:
            The share of the table's variance that is `explained`.
        """
        raise NotImplementedError

    @torch.no_grad()
    def refit(self, weight: Tensor) -> float:
        """As `from_dense`, but every token goes on reading the rows that it reads."""
        return self.from_dense(weight)

    @torch.no_grad()
    def explained(self, weight: Tensor) -> float:
        """The share of a dense table's variance that these vectors hold: 1 - |error|^2 / |weight - its mean row|^2."""
        error, total, mean = 0.0, 0.0, weight.mean(0)
        for start in range(0, len(weight), ROWS_AT_ONCE):
            part = weight[start : start + ROWS_AT_ONCE]
            error += float((self.rows(start, start + len(part)) - part).double().square().sum())
            total += float((part - mean).double().square().sum())
        return 1 - error / max(total, 1e-300)

    @torch.no_grad()
    def to_dense(self) -> Tensor:
        """The dense table (V, D) of all vectors. Memory grows with V."""
        return self.rows(0, self.assignment.vocab_size)

    @torch.no_grad()
    def grown(self, vocab_size: int) -> "TokenEmbedding":
        """The same embedding for a larger vocabulary: every id keeps its rows and its vector, new ids get new codes.

        Args:
            vocab_size: at least V. The new ids are V, V + 1, ...

        Raises:
            ValueError: if there is no room for more ids.
        """
        larger = type(self)(self.assignment.grown(vocab_size), self.dim, **self.options)
        for old, new in zip(self.parameters(), larger.parameters(), strict=True):
            new.data = new.data.to(old)
            new.data[tuple(slice(size) for size in old.shape)] = old
        return larger

    def tier_rows(self) -> Tensor:
        """Vectors (K, D) of the first K ranks, those with a row of their own, differentiable."""
        grid = self.assignment
        return self(grid.ids(torch.arange(grid.own_rows, device=next(self.parameters()).device)))

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """Vectors (*batch, D) of the ranks K + tail, tail int64 (*batch) in [0, V - K)."""
        return self(self.assignment.ids(self.assignment.own_rows + tail))

    def tail_scores(self, hidden: Tensor, tail: Tensor) -> Tensor:
        """Products float (n, c) of hidden (n, D) with the vectors of the ranks K + tail, tail int64 (n, c)."""
        return (self.tail_vectors(tail) @ hidden.unsqueeze(-1)).squeeze(-1)

    def digit_rows(self, moduli: Sequence[int]) -> list[Tensor]:
        """Rows (values, D) of the digits that a hierarchical softmax chooses after the first, most significant first.

        Args:
            moduli: values of every digit but the most significant, least significant first.

        Returns:
            What the head may share; nothing, if the embedding has no such rows for these digits.
        """
        return []

    def rows(self, start: int, stop: int) -> Tensor:
        """Vectors (stop - start, D) of the ids start..stop-1, differentiable; nothing larger is allocated."""
        device = next(self.parameters()).device
        return self(torch.arange(start, stop, device=device))

    def chunks(self, size: int) -> list[Tensor]:
        """Inputs to `chunk_rows`, one for each run of `size` ids; what they hold is small or a view."""
        device = next(self.parameters()).device
        return [torch.arange(i, min(i + size, self.assignment.vocab_size), device=device) for i in self._starts(size)]

    def chunk_rows(self, chunk: Tensor) -> Tensor:
        """The vectors (size, D) of one element of `chunks`."""
        return self(chunk)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (n, V) of every id for hidden (n, D): the tied softmax, all at once. For reference and small V."""
        return hidden @ self.rows(0, self.assignment.vocab_size).to(hidden.dtype).T

    def _starts(self, size: int) -> range:
        return range(0, self.assignment.vocab_size, size)


class TieredEmbedding(TokenEmbedding):
    """A row of its own for each of the first K ranks; every other rank's vector is made of shared parameters.

    A subclass makes its parameters and says how vectors come from them. Special tokens belong to the tier: they are
    read most, and what they learn must not move the tokens they would share rows with.
    """

    def __init__(self, assignment: Assignment, dim: int, **options: Any) -> None:
        super().__init__(assignment, dim, **options)
        self.own = nn.Parameter(torch.empty(assignment.own_rows, dim))

    def tier_rows(self) -> Tensor:
        """The rows themselves."""
        return self.own

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """Vectors (*batch, D) of the ranks K + tail, tail int64 (*batch) in [0, V - K)."""
        raise NotImplementedError

    def reset_tail(self, std: float) -> None:
        """Draw the shared parameters anew; `std` is that of the composed vectors' entries."""
        raise NotImplementedError

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (*batch, D) of ids int64 (*batch)."""
        ranks, own_rows = self.assignment.ranks(ids), self.assignment.own_rows
        if self.assignment.tail == 0:
            return F.embedding(ranks, self.own)
        shared = self.tail_vectors((ranks - own_rows).clamp(min=0))
        if own_rows == 0:
            return shared
        own = F.embedding(ranks.clamp(max=own_rows - 1), self.own)
        return torch.where((ranks < own_rows).unsqueeze(-1), own, shared)

    def reset_parameters(self, std: float) -> None:
        """Entries of every vector start with mean 0 and standard deviation `std`."""
        if len(self.own):
            nn.init.normal_(self.own, std=std)
        if self.assignment.tail:
            self.reset_tail(std)

    @torch.no_grad()
    def from_dense(self, weight: Tensor) -> float:
        """The tier's rows are copied; the rest is fitted."""
        return self._fit(weight, self.fit_tail)

    @torch.no_grad()
    def refit(self, weight: Tensor) -> float:
        """As in `TokenEmbedding`."""
        return self._fit(weight, self.refit_tail)

    def _fit(self, weight: Tensor, fit: Callable[[Tensor], None]) -> float:
        if weight.shape != (self.assignment.vocab_size, self.dim):
            raise ValueError(f"a table of shape {(self.assignment.vocab_size, self.dim)} needed, not {weight.shape}")
        ranked = weight[self.assignment.ids(torch.arange(len(weight), device=weight.device))]
        if self.assignment.tail:
            fit(ranked[self.assignment.own_rows :])
        self.own.copy_(ranked[: self.assignment.own_rows])
        return self.explained(weight)

    def fit_tail(self, weight: Tensor) -> None:
        """Set the shared parameters to the best for weight (V - K, D), the vectors of the ranks after the tier.

        A kind without a closed form starts at random, from torch's global generator, and goes down the gradient.
        """
        self.reset_tail(float(weight.std()))
        parameters = [parameter for name, parameter in self.named_parameters() if name != "own"]
        fit_by_gradient(self.tail_vectors, parameters, weight)

    def refit_tail(self, weight: Tensor) -> None:
        """As `fit_tail`; a kind that chooses which rows a token reads keeps its choice."""
        self.fit_tail(weight)
