"""Masking: which positions the generator fills, and what it sees there.

Clark, Luong, Le, Manning: ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators, ICLR 2020,
arXiv:2003.10555, sec. 2. Counts of masked positions are exact, drawn without replacement; special tokens are never
masked.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

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
