"""Product quantization: a vector is cut into parts, and each part is one of 256 codewords that all tokens share.

Jégou, Douze, Schmid: Product Quantization for Nearest Neighbor Search, PAMI 2011, sec. III. The rotation: Ge, He, Ke,
Sun: Optimized Product Quantization, CVPR 2013, sec. 3.2. For token vectors: Shu, Nakayama: Compressing Word Embeddings
via Deep Compositional Code Learning, ICLR 2018, arXiv:1711.01068. The parts are partitions of the tokens in the sense
of Shi et al. 2020 (arXiv:1909.02107, sec. 3), made of what tokens have in common rather than of their ids.
"""

import math
import warnings
from importlib import import_module
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
PRODUCTS_AT_ONCE = 2**22  # of vectors with codewords


class ProductQuantizationEmbedding(TieredEmbedding):
    """The codewords of a token's codes, side by side, times a matrix.

    Codes, uint8 (V - K, parts), are stored with the weights. Training changes codewords and matrix, not codes:
    `from_dense` chooses them, by k-means of each part; until then they are a hash of the rank.

    Args:
        assignment: the tier.
        dim: D.
        parts: that a vector is cut into, 1 to D; a token takes as many bytes. The first ones are wider by one if D is
            no multiple of them.
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
        self.parts, self.words = parts, max(1, min(rows, assignment.tail))
        self.codewords = nn.Parameter(torch.zeros(self.words, dim))  # of part 0, then of part 1, ...: their columns
        self.rotation = nn.Parameter(torch.eye(dim))
        tail = torch.arange(assignment.tail)
        turns, place = tail // self.words, tail % self.words  # so that every codeword is read
        codes = tail.new_empty(assignment.tail, parts, dtype=torch.uint8)
        for part in range(0 if tail.is_meta else parts):
            codes[:, part] = (place + hashed(turns, self.words, seed=part)) % self.words
        self.register_buffer("token_codes", codes)
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

    @property
    def widths(self) -> list[int]:
        """Columns of each part."""
        return [self.dim // self.parts + (part < self.dim % self.parts) for part in range(self.parts)]

    def tail_vectors(self, tail: Tensor) -> Tensor:
        """Codewords, side by side, times the matrix."""
        codewords, rotation = self._padded()
        return F.embedding(self._places(tail), codewords.flatten(0, 1)).flatten(-2) @ rotation

    def tail_scores(self, hidden: Tensor, tail: Tensor) -> Tensor:
        """The same products: there is one for each codeword, and a token adds up those of its codes."""
        codewords, rotation = self._padded()
        turned, places, scores = hidden @ rotation.T, self._places(tail).flatten(1), []
        rows = max(1, PRODUCTS_AT_ONCE // (self.parts * self.words))
        for some, read in zip(turned.split(rows), places.split(rows), strict=True):
            columns = some.unflatten(-1, (self.parts, -1)).transpose(0, 1)
            products = (columns @ codewords.to(some.dtype).mT).transpose(0, 1).flatten(1)  # (rows, parts * words)
            scores.append(products.gather(-1, read).unflatten(-1, (-1, self.parts)).sum(-1))
        return torch.cat(scores)

    def reset_tail(self, std: float) -> None:
        """Codewords have `std`; the matrix is the identity."""
        nn.init.normal_(self.codewords, std=std)
        nn.init.eye_(self.rotation)

    def fit_tail(self, weight: Tensor) -> None:
        """Principal axes, dealt out so that the parts' variances have like products; then k-means of each part."""
        values, axes = torch.linalg.eigh(_covariance(weight))
        self.rotation.copy_(axes[:, _dealt_out(values.tolist(), self.widths)].T)
        seen = torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))[:FITTED_ROWS]
        sample = self._turned(weight[seen.to(weight.device)]).split(self.widths, dim=1)
        found = [_k_means(part, self.words, seed=number) for number, part in enumerate(sample)]
        self.codewords.copy_(torch.cat([torch.from_numpy(means.cluster_centers_) for means in found], dim=1))
        for start in range(0, len(weight), ROWS_AT_ONCE):
            rows = self._turned(weight[start : start + ROWS_AT_ONCE]).split(self.widths, dim=1)
            for number, (means, part) in enumerate(zip(found, rows, strict=True)):
                codes = torch.from_numpy(means.predict(part.contiguous().numpy()))
                self.token_codes[start : start + ROWS_AT_ONCE, number] = codes.to(self.token_codes)

    def refit_tail(self, weight: Tensor) -> None:
        """The nearest orthogonal matrix, and for each codeword the mean of its tokens' parts: the best for both.

        A codeword that no token has stays as it is.
        """
        left, _, right = torch.linalg.svd(self.rotation.double().cpu())
        self.rotation.copy_(left @ right)
        total, count = torch.zeros(self.words, self.dim), torch.zeros(self.words, self.dim)
        for start in range(0, len(weight), ROWS_AT_ONCE):
            rows = self._turned(weight[start : start + ROWS_AT_ONCE])
            codes = self.token_codes[start : start + ROWS_AT_ONCE].long().cpu()
            columns = codes.repeat_interleave(torch.tensor(self.widths), dim=1)
            total.scatter_add_(0, columns, rows)
            count.scatter_add_(0, columns, torch.ones_like(rows))
        self.codewords.copy_(torch.where(count > 0, total / count.clamp(min=1), self.codewords.cpu()))

    @torch.no_grad()
    def grown(self, vocab_size: int) -> TokenEmbedding:
        """As in `TokenEmbedding`; the codes of new ids are a hash."""
        larger = super().grown(vocab_size)
        assert isinstance(larger, ProductQuantizationEmbedding)
        larger.token_codes = larger.token_codes.to(self.token_codes.device)
        larger.token_codes[: len(self.token_codes)] = self.token_codes
        return larger

    def _places(self, tail: Tensor) -> Tensor:
        """Rows of all parts' codewords, one part after the other, int64 (*batch, parts)."""
        return self.token_codes[tail].long() + self.words * torch.arange(self.parts, device=tail.device)

    def _padded(self) -> tuple[Tensor, Tensor]:
        """Codewords (parts, words, width) and matrix (parts * width, D), with zeros where a part is narrower."""
        width, narrow = -(-self.dim // self.parts), self.dim % self.parts
        if not narrow:
            return self.codewords.unflatten(1, (self.parts, width)).transpose(0, 1), self.rotation
        cut = narrow * width
        shape = (self.parts - narrow, width - 1)
        wide = self.codewords[:, :cut].unflatten(1, (narrow, width))
        rest = F.pad(self.codewords[:, cut:].unflatten(1, shape), (0, 1))
        rotation = F.pad(self.rotation[cut:].unflatten(0, shape), (0, 0, 0, 1)).flatten(0, 1)
        return torch.cat([wide, rest], 1).transpose(0, 1), torch.cat([self.rotation[:cut], rotation])

    def _turned(self, weight: Tensor) -> Tensor:
        """What an orthogonal matrix makes into these vectors, float32 (n, D) on the CPU."""
        return weight.float().cpu() @ self.rotation.float().cpu().T


def _covariance(weight: Tensor) -> Tensor:
    """Of a table's rows, float64 (D, D), a piece at a time: nothing of its size is copied."""
    mean = weight.mean(0, dtype=torch.float64).cpu()
    found = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
    for part in weight.split(ROWS_AT_ONCE):
        centred = part.double().cpu() - mean
        found += centred.T @ centred
    return found / len(weight)


def _k_means(numbers: Tensor, words: int, *, seed: int) -> Any:
    """scikit-learn's k-means of rows float32 (n, width)."""
    # Not by an import statement, at which transformers' loader of remote code would ask for the package.
    cluster, exceptions = (import_module(f"sklearn.{name}") for name in ("cluster", "exceptions"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)  # fewer different rows than codewords are fine
        rows = numbers.contiguous().numpy()
        # Starts from float64: of float32, scikit-learn turns the rows into float64 once for each of them.
        start, _ = cluster.kmeans_plusplus(rows.astype("float64"), words, random_state=seed)
        return cluster.KMeans(words, init=start.astype("float32"), n_init=1, max_iter=ROUNDS).fit(rows)


def _dealt_out(values: list[float], widths: list[int]) -> list[int]:
    """Axes, part by part: each, the largest first, goes where there is room and the product of values is smallest."""
    least = max(max(values) * 1e-12, 1e-300)
    shares = [math.log(max(value, least) / least) for value in values]  # none below 0
    members: list[list[int]] = [[] for _ in widths]
    for axis in sorted(range(len(values)), key=lambda axis: -values[axis]):
        room = [part for part, width in zip(members, widths, strict=True) if len(part) < width]
        min(room, key=lambda part: sum(shares[each] for each in part)).append(axis)
    return [axis for part in members for axis in part]
