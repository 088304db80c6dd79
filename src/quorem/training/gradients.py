"""Gradients, of which some hold only the rows that a step has read (torch's sparse COO tensors)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def sum_rows(parameters: Iterable[nn.Parameter]) -> None:
    """Let sparse gradients hold each row once. A GPU is waited for: how many rows are left is known there only."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()


def numbers(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """What the gradients hold, to be changed in place: of a sparse one the values (rows, width), each row once."""
    parameters = list(parameters)
    sum_rows(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return [gradient.values() if gradient.is_sparse else gradient for gradient in gradients]


def clip(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale gradients so that their norm is at most `largest`, as torch's `clip_grad_norm_` does with dense ones.

    Returns:
        The norm before that, float32 ().
    """
    held = numbers(parameters)
    norm = nn.utils.get_total_norm(held)
    torch._foreach_mul_(held, (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm
