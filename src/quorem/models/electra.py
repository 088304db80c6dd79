"""ELECTRA's objective: mask, fill in by sampling, detect what was replaced.

Clark, Luong, Le, Manning: ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators, ICLR 2020,
arXiv:2003.10555, sec. 2. What this module guarantees:
- the generator is scored, and sampled, at masked positions only; no gradient passes through the sampling;
- a sample equal to the original counts as original;
- losses are sums over positions divided by counts of the whole step, so padding, accumulation and the number of
  processes change nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.models.masking import real_tokens


def corrupt(input_ids: Tensor, positions: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Put the generator's samples in place.

    Args:
        input_ids: int64 (batch, time), the originals.
        positions: int64 (n,), flat positions, each at most once.
        samples: int64 (n,), an id for each.

    Returns:
        The discriminator's input int64 (batch, time), and is_replaced bool (batch, time): whether it differs from the
        original there.
    """
    corrupted = input_ids.clone()
    corrupted.view(-1)[positions] = samples
    return corrupted, corrupted != input_ids


@dataclass(frozen=True)
class Outcome:
    """What one micro-batch gives: losses as sums, in nats, float32 (), and what metrics need (no gradient).

    Args:
        mlm_sum: the generator's -log p summed over chosen positions.
        rtd_sum: the discriminator's binary cross-entropy summed over real tokens.
        scores: (batch, time), the discriminator's; positive means replaced.
        is_replaced: bool (batch, time).
        real: bool (batch, time).
        hidden: (n, D), what the generator's head saw.
        targets: int64 (n,).
    """

    mlm_sum: Tensor
    rtd_sum: Tensor
    scores: Tensor
    is_replaced: Tensor
    real: Tensor
    hidden: Tensor
    targets: Tensor


class Electra(nn.Module):
    """Generator and discriminator, trained together.

    Args:
        generator: has `hidden_at(input_ids, attention_mask, positions)` and `generator_lm_head`; to share embeddings,
            also `electra.embeddings`.
        discriminator: called with (input_ids, attention_mask), returns `.logits` (batch, time).
        shared_embeddings: whether both read the same embeddings: token, position and type vectors and their LayerNorm,
            as in google-research/electra. Each keeps its own projection.
        disentangled: share the token vectors only, and these without the discriminator's gradient
            (`DisentangledEmbedding`); the discriminator is saved with `merged_embeddings`.
    """

    generator: Any
    discriminator: Any

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        shared_embeddings: bool = True,
        disentangled: bool = False,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        if shared_embeddings and disentangled:
            vectors = self.generator.electra.embeddings.word_embeddings
            self.discriminator.electra.embeddings.word_embeddings = DisentangledEmbedding(vectors)
        elif shared_embeddings:
            embeddings = self.discriminator.electra.embeddings
            self.generator.electra.embeddings = embeddings
            self.generator.generator_lm_head.tie(embeddings.word_embeddings)

    @contextmanager
    def merged_embeddings(self) -> Iterator[None]:
        """While entered, the discriminator has token vectors of its own, equal to those it has, if disentangled."""
        embeddings = self.discriminator.electra.embeddings
        apart = embeddings.word_embeddings
        if isinstance(apart, DisentangledEmbedding):
            embeddings.word_embeddings = apart.merged()
        try:
            yield
        finally:
            embeddings.word_embeddings = apart

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        masked_ids: Tensor,
        positions: Tensor,
        uniforms: Tensor,
    ) -> Outcome:
        """One pass of both networks over `Inputs`. Waits for no device."""
        head = self.generator.generator_lm_head
        targets = input_ids.reshape(-1)[positions]
        hidden = self.generator.hidden_at(masked_ids, attention_mask, positions)
        mlm_sum = head.nll(hidden, targets).sum()
        samples = head.sample(hidden.detach(), uniforms)
        corrupted, is_replaced = corrupt(input_ids, positions, samples)
        scores = self.discriminator(corrupted, attention_mask).logits.float()
        real = torch.ones_like(is_replaced) if attention_mask is None else real_tokens(attention_mask)
        each = F.binary_cross_entropy_with_logits(scores, is_replaced.float(), reduction="none")
        rtd_sum = each.masked_fill(~real, 0.0).sum()
        return Outcome(mlm_sum, rtd_sum, scores.detach(), is_replaced, real, hidden.detach(), targets)


def total_loss(
    outcome: Outcome, *, num_chosen: int, num_tokens: int, mlm_weight: float = 1.0, rtd_weight: float = 50.0
) -> Tensor:
    """mlm_weight * mlm + rtd_weight * rtd, each a mean over the whole step (paper, sec. 2 and appendix A: 1 and 50).

    Args:
        outcome: of one micro-batch; the sum over a step's micro-batches is the step's loss.
        num_chosen: masked positions in the whole step; 0 counts as 1, so that an empty step has loss 0.
        num_tokens: real tokens in the whole step.
        mlm_weight: weight of the generator's loss.
        rtd_weight: weight of the discriminator's loss.
    """
    return mlm_weight * outcome.mlm_sum / max(1, num_chosen) + rtd_weight * outcome.rtd_sum / max(1, num_tokens)
