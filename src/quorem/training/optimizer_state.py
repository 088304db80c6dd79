"""The state of an optimizer by parameter names: to resume a run, and to start from another run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quorem.errors import UserError
from quorem.training.checkpoints import read_last_checkpoint
from quorem.training.sharding import like


def parameter_names(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of an optimizer's parameters in the order in which its state numbers them."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def load_moments(
    optimizer: torch.optim.Optimizer, module: nn.Module, *, saved: dict[int, dict[str, Tensor]], names: list[str]
) -> None:
    """Give an optimizer the state of another one over the same parameters; its groups and rates stay as they are.

    Args:
        optimizer: over the module's parameters, which may be cut (quorem.training.sharding).
        module: they are its.
        saved: of whole parameters, as in the other's state_dict.
        names: of the other's parameters, as `parameter_names` gives them.
    """
    here, parameters = parameter_names(module, optimizer), dict(module.named_parameters())
    moments = {
        here.index(name): {
            key: like(parameters[name], value) if value.shape == parameters[name].shape else value
            for key, value in saved[number].items()
        }
        for number, name in enumerate(names)
        if number in saved
    }
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def load_optimizer_of_run(optimizer: torch.optim.Optimizer, module: nn.Module, folder: str) -> None:
    """Give a fresh optimizer the state of a finished run's; learning rates stay as they are.

    Raises:
        UserError: if the run kept no state, or its parameters or its kind of optimizer differ.
    """
    state = read_last_checkpoint(Path(folder))
    if state is None:
        raise UserError(
            f"model.init_optimizer=kept: {folder} kept no optimizer state: train it with train.keep_state=true, or "
            "leave init_optimizer out"
        )
    saved, there, here = state["optimizer"], state["parameters"], parameter_names(module, optimizer)
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    other = [name for name in there if name not in here]
    other += [
        name
        for number, name in enumerate(there)
        if name in here and not _fits(saved["state"].get(number, {}), shapes[name])
    ]
    if not other and _kinds(saved, there) != _kinds(optimizer.state_dict(), here):
        raise UserError(
            f"model.init_optimizer=kept: the optimizer of {folder} is of another kind: give that run's "
            "train.optimizer, train.table_updates and objective.recipe, or leave init_optimizer out"
        )
    if other or len(there) != len(here):
        raise UserError(
            f"model.init_optimizer=kept: the optimizer of {folder} is for other parameters"
            f"{f' ({other[0]})' if other else ''}: give the settings of that run, or leave init_optimizer out"
        )
    load_moments(optimizer, module, saved=saved["state"], names=there)


def _fits(moments: Mapping[str, Any], shape: torch.Size) -> bool:
    """Whether the state of a parameter, if any, fits its shape."""
    sizes = (shape, (*shape[:1], 1), ())  # a number for each of its, one a row, one in all
    return all(value.shape in sizes for value in moments.values() if isinstance(value, Tensor))


def _kinds(state: Mapping[str, Any], names: list[str]) -> dict[str, str | None]:
    """Which kind of optimizer each parameter has, by the groups of a state_dict."""
    kinds = {number: group.get("kind") for group in state["param_groups"] for number in group["params"]}
    return {name: kinds[number] for number, name in enumerate(names)}
