"""Gradient-disentangled sharing: another network's table as it is, plus a difference that is learned here.

He, Gao, Chen: DeBERTaV3: Improving DeBERTa using ELECTRA-Style Pre-Training with Gradient-Disentangled Embedding
Sharing, ICLR 2023, arXiv:2111.09543, sec. 3.2. The discriminator's loss, 50 times the generator's, does not pull on the
generator's vectors, and yet both know what the generator has learned of the tokens.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.base import TokenEmbedding


class DisentangledEmbedding(TokenEmbedding):
    """base's parameters without their gradient, plus differences of the same shapes, 0 at first.

    Shared rows are summed with their differences before they are combined, so that it fits any embedding. It costs one
    more table of the same size.

    Args:
        base: the generator's embedding. It is not a sub-module, so that it is trained and saved once.
    """

    def __init__(self, base: TokenEmbedding) -> None:
        super().__init__(base.assignment, base.dim)
        self._shared = (base,)
        self.differences = nn.ParameterList(torch.zeros_like(parameter) for parameter in base.parameters())

    @property
    def base(self) -> TokenEmbedding:
        """The generator's embedding."""
        return self._shared[0]

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (*batch, D) of ids int64 (*batch)."""
        base, differences = self.base, self._named()

        def read(name: str, rows: Tensor) -> Tensor:
            """The sum of the rows that are read, rather than of whole tables."""
            shared = F.embedding(rows, getattr(base, name).detach())
            return shared + F.embedding(rows, differences[name], sparse=self.sparse)

        apart = copy.copy(base)  # of the same parameters
        apart.read = read  # type: ignore[method-assign]
        sums = {
            name: parameter.detach() + differences[name]
            for name, parameter in base.named_parameters()
            if name not in base.row_tables
        }
        return torch.func.functional_call(apart, sums, (ids,))

    def row_parameters(self) -> list[nn.Parameter]:
        """The differences of base's."""
        differences = self._named()
        return [differences[name] for name in self.base.row_tables]

    def reset_parameters(self, std: float) -> None:
        """Back to base's vectors; their `std` is base's."""
        for difference in self.differences:
            nn.init.zeros_(difference)

    @torch.no_grad()
    def merged(self) -> TokenEmbedding:
        """An embedding of base's kind with the same vectors and no tie to base."""
        found = copy.deepcopy(self.base)
        for parameter, difference in zip(found.parameters(), self.differences, strict=True):
            parameter.add_(difference)
        return found

    def _named(self) -> dict[str, nn.Parameter]:
        """The differences under the names of base's parameters."""
        names = (name for name, _ in self.base.named_parameters())
        return dict(zip(names, self.differences, strict=True))
