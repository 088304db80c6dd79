"""The base of our optimizers: a step that changes nothing if `found_inf` is set."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quorem.embeddings.assignment import is_free_to_read


class Skippable(torch.optim.Optimizer):
    """An optimizer whose step changes nothing if the attribute `found_inf`, float32 () on its device, is 1.0.

    torch's fused optimizers do the same. On a GPU the host does not read the number:
    `update_group` gets it as a tensor.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and the gradients anew; its loss is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        skip: Tensor | None = getattr(self, "found_inf", None)
        if skip is not None and is_free_to_read(skip.device):
            if skip:
                return loss
            skip = None
        for group in self.param_groups:
            self.update_group(group, skip)
        return loss

    def update_group(self, group: dict[str, Any], skip: Tensor | None) -> None:
        """Update a group; not if skip, float32 (), is 1.0."""
        raise NotImplementedError
