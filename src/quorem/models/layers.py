"""One transformer layer: attention with a joint product, the feed-forward half, and what closes both.

Queries, keys and values are one product of three matrices. Where one of the three is no plain linear layer (an adapter
of PEFT, a quantised one) each is called as it is, for a product of the weights alone would pass it over.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from quorem.models.configuration import QuoremConfig
from quorem.models.positions import rotate

WRITTEN_OUT_UP_TO = 512  # tokens; above it the (time, time) scores outweigh what the fused kernel costs on the CPU


def is_plain(linear: nn.Module) -> bool:
    """Whether a module does no more than multiply by its weight: no adapter, no other kind of weight, no hook."""
    return (
        type(linear) is nn.Linear
        and type(linear.weight) in (nn.Parameter, Tensor)
        and not linear._forward_hooks
        and not linear._forward_pre_hooks
    )


class SelfAttention(nn.Module):
    """Multi-head attention with one product for queries, keys and values."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.num_heads, self.head_size = config.num_attention_heads, config.attention_head_size
        width = self.num_heads * self.head_size
        self.query = nn.Linear(config.hidden_size, width)
        self.key = nn.Linear(config.hidden_size, width)
        self.value = nn.Linear(config.hidden_size, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden: Tensor, bias: Tensor | None, rotation: Tensor | None, shares: list[Tensor] | None = None
    ) -> Tensor:
        """Attend.

        Args:
            hidden: (batch, time, hidden_size).
            bias: added to the scores, (batch or 1, heads or 1, time, time or 1); None for nothing.
            rotation: of rotary positions (`rotation_angles`); None without.
            shares: where the attention's (batch, heads, time, time) are put, if wanted: the fused kernel has none.
        """
        query, key, value = self._projected(hidden)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if bias is not None and query.dtype == torch.float16:  # which would make infinity of it, and NaN of that
            bias = bias.clamp(min=torch.finfo(torch.float16).min / 2)
        bias = None if bias is None else bias.to(query.dtype)
        dropout = self.dropout.p if self.training else 0.0
        if shares is not None or (hidden.device.type == "cpu" and hidden.shape[1] <= WRITTEN_OUT_UP_TO):
            scores = (query * self.head_size**-0.5) @ key.transpose(-1, -2)  # (batch, heads, time, time)
            scores = scores if bias is None else scores + bias
            share = F.dropout(torch.softmax(scores, dim=-1), dropout, self.training)
            if shares is not None:
                shares.append(share)
            context = share @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2)

    def _projected(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (batch, heads, time, head_size) each, of hidden (batch, time, hidden_size)."""
        parts = (self.query, self.key, self.value)
        if all(is_plain(part) for part in parts):
            weight, offset = (torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias"))
            joint = F.linear(hidden, weight, offset)
        else:
            joint = torch.cat([part(hidden) for part in parts], dim=-1)
        query, key, value = joint.unflatten(-1, (3, self.num_heads, self.head_size)).permute(2, 0, 3, 1, 4)
        return query, key, value


class Residual(nn.Module):
    """dense -> dropout -> LayerNorm(x + input): the end of both halves of a layer (post-norm)."""

    def __init__(self, config: QuoremConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class Attention(nn.Module):
    """Self-attention and its output."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = Residual(config, config.num_attention_heads * config.attention_head_size)

    def forward(
        self, hidden: Tensor, bias: Tensor | None, rotation: Tensor | None, shares: list[Tensor] | None = None
    ) -> Tensor:
        return self.output(self.self(hidden, bias, rotation, shares), hidden)


class Intermediate(nn.Module):
    """The widening half of the feed-forward layer."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden))


class Layer(GradientCheckpointingLayer):
    """One transformer layer."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = Residual(config, config.intermediate_size)

    def forward(
        self, hidden: Tensor, bias: Tensor | None, rotation: Tensor | None, shares: list[Tensor] | None = None
    ) -> Tensor:
        hidden = self.attention(hidden, bias, rotation, shares)
        return self.output(self.intermediate(hidden), hidden)
