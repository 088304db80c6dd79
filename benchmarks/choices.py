"""What quorem chose for a step, done otherwise: arms of benchmarks/training.py.

What makes batches beside the step is measured by benchmarks/ahead.py, precision by the arms fp32 and bf16.
"""

import os
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import quorem.models.layers
from quorem.models.layers import Layer, SelfAttention
from quorem.models.positions import rotate

CHOICES = (
    "fused attention kernel",
    "three products for q, k, v",
    "AdamW not fused",
    "layers compiled",
    "gradient checkpointing",
    "two micro-batches",
    "OMP_WAIT_POLICY=ACTIVE",
)


def environment(choice: str) -> dict[str, str]:
    """That of the process that measures the choice."""
    name, _, value = choice.partition("=")
    return {**os.environ, **({name: value} if value else {})}


def micro_batches(choice: str) -> int:
    """How many a step is made of."""
    return 2 if choice == "two micro-batches" else 1


def choose_otherwise(choice: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Change the networks as `choice` says, one of CHOICES or none; the optimizer to use."""
    layers: list[Any] = [layer for layer in module.modules() if isinstance(layer, Layer)]
    if choice == "fused attention kernel":
        quorem.models.layers.WRITTEN_OUT_UP_TO = 0
    elif choice == "three products for q, k, v":
        for layer in layers:
            layer.attention.self.forward = MethodType(_three_products, layer.attention.self)
    elif choice == "AdamW not fused":
        return torch.optim.AdamW(module.parameters(), lr=5e-4, foreach=True)
    elif choice == "layers compiled":
        for layer in layers:
            layer.compile()
    elif choice == "gradient checkpointing":
        for layer in layers:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    return optimizer


def _three_products(
    self: SelfAttention, hidden: Tensor, bias: Tensor | None, rotation: Tensor | None, shares: None = None
) -> Tensor:
    """Attention with a product each for queries, keys and values."""
    found = torch.stack([part(hidden) for part in (self.query, self.key, self.value)])
    query, key, value = found.unflatten(-1, (self.num_heads, self.head_size)).transpose(2, 3)
    if rotation is not None:
        query, key = rotate(query, rotation), rotate(key, rotation)
    scores = (query * self.head_size**-0.5) @ key.transpose(-1, -2)
    context = nn.functional.dropout(torch.softmax(scores, dim=-1), self.dropout.p, self.training) @ value
    return context.transpose(1, 2).reshape(*hidden.shape[:2], -1)
