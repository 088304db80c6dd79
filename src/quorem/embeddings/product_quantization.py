"""Product quantization: a vector is cut into parts, and each part is one of 256 codewords that all tokens share.

Jégou, Douze, Schmid: Product Quantization for Nearest Neighbor Search, PAMI 2011, sec. III. The rotation: Ge, He, Ke,
Sun: Optimized Product Quantization, CVPR 2013, sec. 3.2. For token vectors: Shu, Nakayama: Compressing Word Embeddings
via Deep Compositional Code Learning, ICLR 2018, arXiv:1711.01068. The parts are partitions of the tokens in the sense
of Shi et al. 2020 (arXiv:1909.02107, sec. 3), made of what tokens have in common rather than of their ids.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import ROWS_AT_ONCE, TieredEmbedding, TokenEmbedding
from quorem.embeddings.hashing import hashed
from quorem.embeddings.planning import TableSettings

MOST = 256  # codewords of a part, so that a code is a byte
FITTED_ROWS, ROUNDS = 2**16, 25  # of k-means: rows that it looks at, and its iterations
WIDTH = 4  # of a part by default


class ProductQuantizationEmbedding(TieredEmbedding):
    """The codewords of a token's codes, side by side, times a matrix.

    Codes, uint8 (V - K, parts), are stored with the weights. Training changes codewords and matrix, not codes:
    `from_dense` chooses them, by k-means of each part; until then they are a hash of the rank.

    Args:
        assignment: the tier.
        dim: D.
        parts: that a vector is cut into, 1 to D; a token takes as many bytes.
        rows: codewords of each part, at most 256.
    """

    settings: ClassVar[tuple[str, ...]] = ("parts", "rows")
    knows_each = True

    token_codes: Tensor

    def __init__(self, assignment: Assignment, dim: int, *, parts: int, rows: int = MOST) -> None:
        super().__init__(assignment, dim, parts=parts, **({"rows": rows} if rows != MOST else {}))
        if not 1 <= parts <= dim:
            raise ValueError(f"parts={parts}: 1 to the width, {dim}, needed")
        if not 1 <= rows <= MOST:
            raise ValueError(f"rows={rows}: 1 to {MOST} codewords needed")
        self.parts, words = parts, max(1, min(rows, assignment.tail))
        width = -(-dim // parts)  # where that is too much in all, some parts have columns that say nothing
        self.codewords = nn.Parameter(torch.empty(parts, words, width))
        self.rotation = nn.Parameter(torch.empty(parts * width, dim))
        tail = torch.arange(assignment.tail)
        drawn = [hashed(tail, words, seed=part).to(torch.uint8) for part in range(parts)]
        self.register_buffer("token_codes", torch.stack(drawn, dim=-1))
        self.reset_parameters(dim**-0.5)

    @classmethod
    def size_range(cls, wanted: TableSettings, tail: int, dim: int) -> tuple[int, int]:
        """Parts."""
        return 1, dim

    @classmethod
    def plan(cls, wanted: TableSettings, tail: int, dim: int, size: int | None) -> dict[str, Any]:
        """`size` is the number of parts."""
        parts = wanted.parts or size or max(1, dim // WIDTH)
        return {"parts": parts} | ({"rows": wanted.rows} if wanted.rows else {})

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """Codewords, side by side, times the matrix."""
        return F.embedding(self._places(tail), self.codewords.flatten(0, 1)).flatten(-2) @ self.rotation

    def tail_scores(self, hidden: Tensor, tail: Tensor) -> Tensor:
        """The same products: there is one for each codeword, and a token adds up those of its codes."""
        turned = (hidden @ self.rotation.T).unflatten(-1, (self.parts, -1)).transpose(0, 1)
        products = (turned @ self.codewords.to(turned.dtype).mT).transpose(0, 1).flatten(1)  # (n, parts * words)
        return products.gather(-1, self._places(tail).flatten(1)).unflatten(-1, (-1, self.parts)).sum(-1)

    def reset_tail(self, std: float) -> None:
        """Codewords have `std`; the matrix is random, its columns orthogonal and of length 1."""
        nn.init.normal_(self.codewords, std=std)
        nn.init.orthogonal_(self.rotation)

    def fit_tail(self, weight: Tensor) -> None:
        """Principal axes, dealt out so that the parts' variances have like products; then k-means of each part."""
        from sklearn.cluster import KMeans  # takes a second

        values, axes = torch.linalg.eigh(torch.cov(weight.double().cpu().T))
        width = self.codewords.shape[2]
        self.rotation.zero_()
        for part, chosen in enumerate(_dealt_out(values.tolist(), self.parts, width)):
            self.rotation[part * width : part * width + len(chosen)] = axes[:, chosen].T.to(self.rotation)
        turned = self._turned(weight)
        seen = torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))[:FITTED_ROWS]
        for part in range(self.parts):
            numbers = turned[:, part].contiguous().numpy()
            means = KMeans(self.codewords.shape[1], n_init=1, max_iter=ROUNDS, random_state=part).fit(numbers[seen])
            self.codewords[part] = torch.from_numpy(means.cluster_centers_)
            for start in range(0, len(weight), ROWS_AT_ONCE):
                found = means.predict(numbers[start : start + ROWS_AT_ONCE])
                self.token_codes[start : start + ROWS_AT_ONCE, part] = torch.from_numpy(found)

    def refit_tail(self, weight: Tensor) -> None:
        """The mean of its tokens' parts for each codeword; one that no token has stays as it is."""
        turned, codes = self._turned(weight), self.token_codes.long().cpu()
        for part, words in enumerate(self.codewords):
            count = torch.bincount(codes[:, part], minlength=len(words)).unsqueeze(-1)
            total = torch.zeros(words.shape).index_add_(0, codes[:, part], turned[:, part])
            words.copy_(torch.where(count > 0, total / count.clamp(min=1), words.cpu()))

    @torch.no_grad()
    def grown(self, vocab_size: int) -> TokenEmbedding:
        """As in `TokenEmbedding`; the codes of new ids are a hash."""
        larger = super().grown(vocab_size)
        assert isinstance(larger, ProductQuantizationEmbedding)
        larger.token_codes[: len(self.token_codes)] = self.token_codes
        return larger

    def _places(self, tail: Tensor) -> Tensor:
        """Rows of all parts' codewords, one part after the other, int64 (*batch, parts)."""
        first = self.codewords.shape[1] * torch.arange(self.parts, device=tail.device)
        return self.token_codes[tail].long() + first

    def _turned(self, weight: Tensor) -> Tensor:
        """What the matrix makes into these vectors: (n, parts, width of a part) on the CPU."""
        inverse = torch.linalg.pinv(self.rotation.double().cpu())
        return (weight.double().cpu() @ inverse).float().unflatten(-1, (self.parts, -1))


def _dealt_out(values: list[float], parts: int, width: int) -> list[list[int]]:
    """The axes of each part, `width` at most: each, the largest first, goes where the product of values is smallest."""
    least = max(max(values) * 1e-12, 1e-300)
    shares = [math.log(max(value, least) / least) for value in values]  # none below 0
    members: list[list[int]] = [[] for _ in range(parts)]
    for axis in sorted(range(len(values)), key=lambda axis: -values[axis]):
        open_parts = [part for part in members if len(part) < width]
        min(open_parts, key=lambda part: sum(shares[each] for each in part)).append(axis)
    return members
