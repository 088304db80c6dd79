"""The full softmax over cosines: the length of a vector says nothing.

    p(v | h) = softmax(scale cos(h, e_v) + b_v)

Gupta et al. 2019 (NISER, arXiv:1909.04276): scores by plain products give frequent items long vectors, which are then
recommended too often; with lengths taken off, and a scale for the softmax to be sharp enough, sessions are predicted
better. The score of a token is no sum over the parts that its vector is made of, so any table will do.
"""

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from quorem.embeddings import TokenEmbedding
from quorem.heads.full import FullHead

SCALE = 16.0


class CosineHead(FullHead):
    """log softmax(scale cos(hidden, E) + bias), E the embedding's vectors.

    Args:
        embedding: any table.
        never: ids that are never targets.
        scale: above 0; the largest score without its bias.
    """

    products: ClassVar[bool] = False

    def __init__(self, embedding: TokenEmbedding, *, never: Iterable[int] = (), scale: float = SCALE) -> None:
        super().__init__(embedding, never=never)
        if not scale > 0:
            raise ValueError(f"scale={scale}: a number above 0 needed")
        self.scale = scale

    def query(self, hidden: Tensor) -> Tensor:
        return (F.normalize(hidden.float(), dim=-1) * self.scale).to(hidden.dtype)

    def keys(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)
