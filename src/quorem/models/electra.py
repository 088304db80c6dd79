"""ELECTRA's objective: mask, fill in by sampling, detect what was replaced.

Clark, Luong, Le, Manning: ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators, ICLR 2020,
arXiv:2003.10555, sec. 2. What this module guarantees:
- exact counts of masked positions, without replacement; special tokens are never masked;
- the generator is scored, and sampled, at masked positions only; no gradient passes through the sampling;
- a sample equal to the original counts as original;
- losses are sums over positions divided by counts of the whole step, so padding, accumulation and the number of
  processes change nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.errors import UserError


class Inputs(NamedTuple):
    """What `Electra` takes of some rows.

    Args:
        input_ids: int64 (batch, time), the originals.
        attention_mask: as in `Masked`.
        masked_ids: int64 (batch, time), the generator's input.
        positions: int64 (n,), flat positions chosen; n may be 0.
        uniforms: float64 (n,), the noise of the draws.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    masked_ids: Tensor
    positions: Tensor
    uniforms: Tensor


@dataclass(frozen=True)
class Masked:
    """A global batch as the generator sees it, with all the randomness of its step.

    Args:
        input_ids: int64 (batch, time), the originals.
        attention_mask: bool (batch, time), real tokens, or (batch, time, time), who sees whom; None if all are real and
            see each other.
        masked_ids: int64 (batch, time), originals with [MASK] at most of the chosen positions.
        chosen: bool (batch, time), the positions to predict and to replace.
        uniforms: float64 (batch, time) in [0, 1), one for each draw from the generator.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    masked_ids: Tensor
    chosen: Tensor
    uniforms: Tensor

    @property
    def num_chosen(self) -> int:
        """Number of positions to predict."""
        return int(self.chosen.sum())

    @property
    def num_tokens(self) -> int:
        """Number of real tokens."""
        return self.input_ids.numel() if self.attention_mask is None else int(real_tokens(self.attention_mask).sum())

    def inputs(self) -> Inputs:
        """What both networks take; made on the CPU, for no shape on the device may depend on a value."""
        positions = self.chosen.flatten().nonzero().squeeze(-1)
        noise = self.uniforms.flatten()[positions]
        return Inputs(self.input_ids, self.attention_mask, self.masked_ids, positions, noise)

    def rows(self, start: int, stop: int) -> "Masked":
        """Some rows, for a micro-batch or a process: their masks and noise are what they were."""
        mask = None if self.attention_mask is None else self.attention_mask[start:stop]
        return Masked(
            self.input_ids[start:stop],
            mask,
            self.masked_ids[start:stop],
            self.chosen[start:stop],
            self.uniforms[start:stop],
        )


def mask_tokens(
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    special: Tensor,
    mask_id: int,
    rate: float,
    keep: float = 0.0,
    rng: torch.Generator | None = None,
) -> Masked:
    """Choose positions for the generator to fill and show it the mask token there.

    In every row round(rate * n), at least 1, of its n ordinary tokens are chosen, uniformly and without replacement
    (google-research/electra draws with replacement, so that fewer are masked than asked). A chosen token stays visible
    with probability keep: 0 in the paper (sec. 2), 0.15 in Google's code (pretrain/pretrain_helpers.py).

    Args:
        input_ids: int64 (batch, time), on the CPU.
        attention_mask: as in `Masked`.
        special: int64 (k,), ids never to be masked.
        mask_id: id of [MASK].
        rate: share of ordinary tokens to choose, in (0, 1].
        keep: in [0, 1).
        rng: source of randomness; torch's global one if None.

    Raises:
        UserError: if rate or keep is out of range.
    """
    if not 0 < rate <= 1:
        raise UserError(f"objective.mask_rate={rate}: a share above 0 and up to 1 is needed, usually 0.15")
    if not 0 <= keep < 1:
        raise UserError(f"objective.keep_rate={keep}: a share from 0 to below 1 is needed, usually 0 or 0.15")
    ordinary = ~torch.isin(input_ids, special)
    if attention_mask is not None:
        ordinary &= real_tokens(attention_mask)
    count = ordinary.sum(1)
    number = (count.double() * rate).round().long().clamp(min=1).minimum(count)  # float32 would be off by one at halves
    chance = torch.rand(input_ids.shape, generator=rng)
    order = chance.masked_fill(~ordinary, 2.0).argsort(1).argsort(1)
    chosen = order < number.unsqueeze(1)
    hidden = chosen & (torch.rand(input_ids.shape, generator=rng) >= keep) if keep else chosen
    uniforms = torch.rand(input_ids.shape, generator=rng, dtype=torch.float64)
    return Masked(input_ids, attention_mask, input_ids.masked_fill(hidden, mask_id), chosen, uniforms)


def real_tokens(attention_mask: Tensor) -> Tensor:
    """Real tokens, bool (batch, time), of either kind of mask: a real token sees itself, padding does not."""
    return attention_mask if attention_mask.ndim == 2 else attention_mask.diagonal(dim1=1, dim2=2)


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
