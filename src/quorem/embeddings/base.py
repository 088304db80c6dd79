"""The contract of every token embedding."""

import torch
from torch import Tensor, nn

from quorem.embeddings.assignment import Assignment


class TokenEmbedding(nn.Module):
    """Maps ids to vectors.

    Args:
        assignment: which rows an id reads; shared with the generator's head.
        dim: D, width of a vector.
    """

    def __init__(self, assignment: Assignment, dim: int) -> None:
        super().__init__()
        self.assignment = assignment
        self.dim = dim

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (*batch, D), in the parameters' dtype, of ids int64 (*batch) in [0, V)."""
        raise NotImplementedError

    def reset_parameters(self, std: float) -> None:
        """Draw parameters anew from torch's global generator; `std` is that of the composed vectors' entries."""
        raise NotImplementedError

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
