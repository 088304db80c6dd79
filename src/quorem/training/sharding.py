"""Layers sharded among the processes: FSDP (arXiv:2304.11277), by torch's fully_shard.

Each process keeps a part of every layer's weights, gradients and optimizer state; a layer is whole while it computes.
Embeddings, softmax and heads stay whole everywhere: they are used outside of their modules, and small here. Nothing
else about a run changes: checkpoints and networks always hold the full weights.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from quorem.training import processes
from quorem.training.gradients import numbers

logger = logging.getLogger(__name__)


def asked_by_launcher() -> bool:
    """Whether `accelerate launch --use_fsdp` has started this process."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")


def shard(module: nn.Module) -> None:
    """Shard the weights of a module's layers, if there are several processes; call it before making the optimizer."""
    if processes.count() == 1:
        return
    device = processes.state().device
    module.to(device)
    mesh = init_device_mesh(device.type, (processes.count(),))
    for layer in module.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    sizes = [(p.to_local() if isinstance(p, DTensor) else p).numel() for p in module.parameters()]
    logger.info(
        "this process keeps %s of %s parameters",
        *(f"{size:,}" for size in (sum(sizes), sum(p.numel() for p in module.parameters()))),
    )


def unshard(module: nn.Module) -> None:
    """Give every process all weights again; for saving, not for computing."""
    for part in list(module.modules()):
        for name, parameter in list(part.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                setattr(part, name, nn.Parameter(parameter.full_tensor(), requires_grad=parameter.requires_grad))


def is_sharded(module: nn.Module) -> bool:
    """Whether some of its weights are sharded."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def full_tensors(state: Any) -> Any:
    """A state dict with whole tensors: on the CPU in process 0, None in the others, where there were parts."""
    if isinstance(state, DTensor):
        full = state.full_tensor()  # all take part
        return full.cpu() if processes.rank() == 0 else None
    if isinstance(state, Mapping):
        return {key: full_tensors(value) for key, value in state.items()}
    return [full_tensors(value) for value in state] if isinstance(state, list) else state


def like(there: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, the same in every process, sharded as another one is."""
    if not isinstance(there, DTensor):
        return value
    return distribute_tensor(value.to(there.device), there.device_mesh, there.placements)


def load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors into a module that may be sharded."""
    there = module.state_dict()
    module.load_state_dict(
        {name: like(there[name], value) if name in there else value for name, value in state.items()}
    )


@torch.no_grad()
def put(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into a module that was unsharded: its `load_state_dict` would still look for the parts."""
    there = module.state_dict()
    for name, value in state.items():
        there[name].copy_(value)


def clip(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale gradients, parts or whole, so that their norm is at most `largest`; what it was before, float32 ()."""
    gradients = numbers(parameters)
    parts = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    others = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    squares = _squares(parts)
    distributed.all_reduce(squares)
    norm = (squares + _squares(others)).sqrt()
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in (*parts, *others):
        gradient.mul_(scale)
    return norm


def _squares(tensors: list[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros((), device=processes.state().device)
    return torch.stack(torch._foreach_norm(tensors)).square().sum()
