"""Least squares by gradient, for tables without a closed form."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

STEPS, ROWS_AT_ONCE, RATE = 400, 2**13, 0.1


@torch.enable_grad()
def fit_by_gradient(
    vectors_of: Callable[[Tensor], Tensor], parameters: Iterable[nn.Parameter], weight: Tensor, *, seed: int = 0
) -> None:
    """Bring vectors near to the rows of a table, by Adam with a rate that falls to 0.

    Args:
        vectors_of: from numbers of rows int64 (n,) to vectors (n, D).
        parameters: what they are made of; each is changed in place, from where it is.
        weight: (rows, D).
        seed: of the rows that a step looks at, ROWS_AT_ONCE of them.
    """
    chosen = [parameter for parameter in parameters if parameter.numel()]
    optimizer = torch.optim.Adam(chosen, lr=RATE * float(weight.std()), betas=(0.9, 0.99))
    rng = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        rows = torch.arange(len(weight))
        if len(weight) > ROWS_AT_ONCE:
            rows = torch.randint(len(weight), (ROWS_AT_ONCE,), generator=rng)
        rows = rows.to(weight.device)
        for group in optimizer.param_groups:
            group["lr"] = RATE * float(weight.std()) * (1 - step / STEPS)
        loss = (vectors_of(rows) - weight[rows]).square().sum(-1).mean()
        gradients = torch.autograd.grad(loss, chosen)
        for parameter, gradient in zip(chosen, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    for parameter in chosen:
        parameter.grad = None
