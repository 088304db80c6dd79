"""The contract of every generator head, and the exact draw they share.

Losses and draws never wait for a GPU: no shape there depends on a value, and no number is taken to the host.

Every draw inverts a cumulative distribution with one float64 uniform a position. So the noise of a step is (n,) numbers
whatever the vocabulary, can be drawn for a whole global batch and then sliced, and has none of the faults of Gumbel
noise in low precision or of torch.multinomial beyond 2**24 categories.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings import TokenEmbedding

BLOCK = 256  # shares that a draw among many narrows down to first


class GeneratorHead(nn.Module):
    """p(token | hidden) over the ids of an embedding, some of which are never targets and have probability 0.

    Args:
        embedding: the generator's token embedding, whose rows the head is tied to. It is not a sub-module of the head,
            so that it is saved once; `tie` replaces it.
        never: ids that are never targets (padding and other special tokens).
    """

    reads_all: ClassVar[bool] = False
    """Whether its loss reads every row of the embedding, whose gradients are dense then."""

    def __init__(self, embedding: TokenEmbedding, *, never: Iterable[int] = ()) -> None:
        super().__init__()
        self.tie(embedding)
        self.never_ids = tuple(sorted(set(never)))
        for each in self.never_ids:
            if not 0 <= each < embedding.assignment.vocab_size:
                raise ValueError(f"never={each}: an id from 0 to {embedding.assignment.vocab_size - 1} needed")
        self._never: Tensor | None = None  # the same on the parameters' device, made when first asked for

    @property
    def embedding(self) -> TokenEmbedding:
        """The embedding the head is tied to."""
        return self._tied[0]

    def tie(self, embedding: TokenEmbedding) -> None:
        """Read rows from `embedding` from now on."""
        self._tied = (embedding,)

    @property
    def num_targets(self) -> int:
        """How many ids can be targets."""
        return self.embedding.assignment.vocab_size - len(self.never_ids)

    def never(self, device: torch.device) -> Tensor:
        """The ids that are never targets, int64 (k,); copied to a device once, since a copy makes the host wait."""
        if self._never is None or self._never.device != device:
            self._never = torch.tensor(self.never_ids, dtype=torch.int64, device=device)
        return self._never

    def reset_parameters(self, std: float) -> None:
        """Draw parameters anew; `std` is that of the embedding's composed vectors."""
        raise NotImplementedError

    def start_at_unigram(self, counts: Tensor) -> None:
        """Set the biases so that, but for the hidden vector, the head gives the unigram distribution.

        Args:
            counts: int64 (V,), how often each id is a target; 0 counts as one half.
        """
        raise NotImplementedError

    def start_at_vectors(self, counts: Tensor) -> None:
        """Set the rows of what stands for several tokens by the vectors that the embedding has got from elsewhere.

        Args:
            counts: int64 (V,), how often each id occurs: its weight in a mean.
        """

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Exact -log p (nats), float32 (n,), of targets int64 (n,) for hidden (n, D)."""
        raise NotImplementedError

    def sample(
        self, hidden: Tensor, uniforms: Tensor, exclude: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """Exact draws int64 (n,), one for each row of hidden (n, D); no gradient.

        Args:
            hidden: (n, D).
            uniforms: float64 (n,) in [0, 1), the only source of randomness.
            exclude: int64 (n,), an id never to be drawn in that row; the others keep their proportions.
            temperature: above 0; the scores of every level are divided by it, so that above 1 draws are more even.
        """
        raise NotImplementedError

    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable ids: log-probabilities float32 and ids int64, (n, k) each, falling; no gradient.

        Where fewer than k ids can be targets, all of those.
        """
        raise NotImplementedError

    def full_log_prob(self, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """All of log p, a piece at a time: ids int64 (c,) and log-probabilities float32 (n, c); no gradient.

        Every id comes exactly once.
        """
        raise NotImplementedError

    def log_prob(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Exact log p, float32 (n,), of ids int64 (n,) for hidden (n, D)."""
        return -self.nll(hidden, ids)


def draw(scores: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from softmax(scores), float32, by inverting its cumulative distribution.

    Args:
        scores: float32 (n, c) logits or log-probabilities; -inf is never drawn; at least one finite a row.
        uniforms: float64 (n,) in [0, 1).

    Returns:
        The index int64 (n,), and what is left of each uniform: float64 (n,) in [0, 1), uniform and independent of the
        index, fit for a draw inside the chosen part.
    """
    shares = torch.softmax(scores.float(), dim=-1)
    if shares.shape[-1] <= 2 * BLOCK:
        return _invert(shares, uniforms)
    # A cumulative sum in float64 over thousands of shares costs more than the scores: first a block of them is drawn.
    blocks = F.pad(shares, (0, -shares.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    block, uniforms = _invert(blocks.sum(-1), uniforms)
    index, uniforms = _invert(blocks[torch.arange(len(block), device=block.device), block], uniforms)
    index = (block * BLOCK + index).clamp(max=shares.shape[-1] - 1)  # where scores are not numbers
    return index, uniforms


def _invert(shares: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Index and left-over of a draw in proportion to shares, float32 (n, c), at least one positive a row."""
    cumulative = shares.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    level = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    index = torch.searchsorted(cumulative, level.unsqueeze(-1), right=True).squeeze(-1)
    index = index.clamp(max=shares.shape[-1] - 1)  # scores that are not numbers are reported with the loss, not here
    upper = cumulative.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    lower = cumulative.gather(-1, (index - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1).masked_fill(index == 0, 0.0)
    return index, ((level - lower) / (upper - lower)).clamp(0.0, 1.0 - 2**-53)


def without_autocast(hidden: Tensor) -> torch.autocast:
    """A context in which nothing is cast down."""
    return torch.autocast(hidden.device.type, enabled=False)
