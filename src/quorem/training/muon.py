"""Muon: momentum made orthogonal, for the matrices of layers.

Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks; Liu et al. 2025, arXiv:2502.16982. Its
worth here is measured in docs/results.md. torch.optim.Muon takes one matrix at a time and iterates in bf16 only, which
a processor without bf16 emulates many times slower. Here matrices of one shape go together, in a chosen precision, and
`found_inf` skips a step, as in torch's fused optimizers.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from quorem.training.sharding import like
from quorem.training.skippable import Skippable

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the iteration: singular values in (0, 1] come to between 0.7 and 1.2 in five steps (Jordan et al.)."""
ITERATIONS = 5


class Muon(Skippable):
    """Steps of lr * sqrt(max(1, rows / columns)) along the orthogonal matrix nearest to the momentum.

    Args:
        params: matrices (two dimensions), or groups of them. Those without a gradient are skipped; of one that is cut
            (quorem.training.sharding) every process makes the whole step and keeps its part.
        lr: of the groups that bring none.
        momentum: of the gradient's running mean; Nesterov's is used.
        weight_decay: decoupled: a weight shrinks by lr * weight_decay a step.
        dtype: of the iteration: bfloat16 where the device is fast at it, else float32.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        if any(parameter.ndim != 2 for group in self.param_groups for parameter in group["params"]):
            raise ValueError("Muon is for matrices: parameters of two dimensions")

    def update_group(self, group: dict[str, Any], skip: Tensor | None) -> None:
        """Update every matrix that has a gradient; not if skip, float32 (), is 1.0."""
        shapes: dict[torch.Size, list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes.setdefault(parameter.shape, []).append(parameter)
        for parameters in shapes.values():
            self._update(parameters, group, skip)

    def _update(self, parameters: list[Tensor], group: dict[str, Any], skip: Tensor | None) -> None:
        """Update matrices of one shape; not if skip, float32 (), is 1.0, which nobody waits for to know."""
        keep: Any = 1.0 if skip is None else 1.0 - skip
        directions = []
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            if skip is not None:
                gradient = gradient.masked_fill(skip.bool(), 0.0)
            mean, decay = state["momentum_buffer"], group["momentum"]
            mean.mul_(1 - (1 - decay) * keep).add_(gradient, alpha=1 - decay)
            direction = gradient.lerp(mean, decay)
            directions.append(direction.full_tensor() if isinstance(direction, DTensor) else direction)
        steps = orthogonal(torch.stack(directions), dtype=self.dtype)
        rows, columns = parameters[0].shape
        size = group["lr"] * max(1.0, rows / columns) ** 0.5
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"] * keep)
            parameter.sub_(like(parameter, (step * (size * keep)).to(parameter.dtype)))


def orthogonal(matrices: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """About the nearest matrices with orthonormal rows or columns, by Newton and Schulz's iteration.

    Args:
        matrices: (n, rows, columns).
        dtype: what is computed in.

    Returns:
        (n, rows, columns) in dtype.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).float()
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
