"""Who sees whom, and how far away: rotary angles, ALiBi, padding, documents and the causal mask."""

import torch
from torch import Tensor

from quorem.models.configuration import QuoremConfig


def rotation_angles(time: int, head_size: int, device: torch.device) -> Tensor:
    """Cosines and sines of rotary positions, float32 (2, time, head_size) (RoFormer, arXiv:2104.09864, sec. 3.2)."""
    rates = 10000.0 ** (-torch.arange(0, head_size, 2, device=device, dtype=torch.float32) / head_size)
    angles = (torch.arange(time, device=device, dtype=torch.float32).unsqueeze(-1) * rates).repeat(1, 2)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(vectors: Tensor, rotation: Tensor) -> Tensor:
    """Turn vectors (batch, heads, time, head_size) by their position."""
    cosines, sines = rotation.to(vectors.dtype)
    low, high = vectors.chunk(2, dim=-1)
    return vectors * cosines + torch.cat([-high, low], dim=-1) * sines


def alibi_bias(num_heads: int, time: int, device: torch.device) -> Tensor:
    """-slope |i - j|, float32 (1, heads, time, time): ALiBi (arXiv:2108.12409, sec. 3) made symmetric.

    Slopes fall geometrically from 1/2 to 1/256, as the paper's for 8 heads. Its rule for other numbers would give a
    generator's only head 1/256: no locality, and a generator that stays at the unigram (docs/log.md).
    """
    slopes = 2.0 ** -torch.linspace(1, 8, num_heads, device=device)
    place = torch.arange(time, device=device, dtype=torch.float32)
    return -(slopes.view(1, -1, 1, 1) * (place.unsqueeze(0) - place.unsqueeze(1)).abs())


def attention_bias(
    config: QuoremConfig, attention_mask: Tensor | None, time: int, device: torch.device
) -> Tensor | None:
    """What is added to attention scores, float32 (batch or 1, heads or 1, time, time or 1); None for nothing.

    Args:
        config: its positions, heads, and whether attention is causal: no token sees a later one then.
        attention_mask: (batch, time), true for real tokens, or (batch, time, time), whom each sees; None for all.
        time: tokens in a row.
        device: of the scores.
    """
    bias = alibi_bias(config.num_attention_heads, time, device) if config.positions == "alibi" else None
    seen = None
    if attention_mask is not None:
        seen = (attention_mask[:, None] if attention_mask.ndim == 3 else attention_mask[:, None, None]) != 0
    if config.causal:  # joined as truth values: two large negative numbers would add up to infinity
        earlier = torch.ones(time, time, dtype=torch.bool, device=device).tril()
        seen = earlier[None, None] if seen is None else seen & earlier
    if seen is None:
        return bias
    unseen = torch.zeros(seen.shape, device=device).masked_fill(~seen, torch.finfo(torch.bfloat16).min)
    return unseen if bias is None else bias + unseen
