"""Adam as google-research/electra runs it."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from quorem.training.skippable import Skippable


class GoogleAdam(Skippable):
    """Adam as google-research/electra runs it: without bias correction, with decoupled weight decay.

    `parameter -= lr * (mean / (sqrt(square) + eps) + weight_decay * parameter)`. Without the correction the first
    updates are 3 to 7 times larger than Adam's and stay larger for about 1,000 steps, so warm up. As in torch's fused
    optimizers a step changes nothing if the attribute `found_inf`, float32 () on the parameters' device, is 1.0.

    Args:
        params: dense parameters or groups of them; float32 or float64, because the second moment stalls in half
            precision. Parameters without a gradient are skipped.
        lr: learning rate of the groups that bring none.
        betas: decay of the running mean and of the running square of the gradient.
        eps: added outside the square root.
        weight_decay: scaled by `lr`, not by the gradient's size.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update_group(self, group: dict[str, Any], skip: Tensor | None = None) -> None:
        """Update a group; not if skip, float32 (), is 1.0."""
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
                self.state[parameter]["exp_avg_sq"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [self.state[parameter]["exp_avg"] for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        mean_decay, square_decay = group["betas"]

        keep: Any = 1.0
        if skip is not None:
            keep = 1.0 - skip
            gradients = [gradient.masked_fill(skip.bool(), 0.0) for gradient in gradients]
        torch._foreach_mul_(means, 1 - (1 - mean_decay) * keep)
        torch._foreach_add_(means, gradients, alpha=1 - mean_decay)
        torch._foreach_mul_(squares, 1 - (1 - square_decay) * keep)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - square_decay)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"])
        if skip is not None:
            torch._foreach_div_(denominators, keep)  # by 0: what is added to the parameters is 0
        # The decay comes first so that both terms see the old parameter, as in the reference.
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"] * keep)
        torch._foreach_addcdiv_(parameters, means, denominators, -group["lr"])
