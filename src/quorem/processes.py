"""The processes of a run that a launcher (torchrun, accelerate launch) has started; one where there is no launcher.

Gradients are added up here, after each process's backward passes, instead of by a wrapper around the model: shares of
a step may be uneven or empty, the parts of a loss add up as they are, and weights keep their names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.distributed.tensor import DTensor


def state() -> PartialState:
    """Accelerate's knowledge of the processes; the first call joins those of the launcher."""
    return PartialState(cpu=not torch.cuda.is_available())


def count() -> int:
    """How many there are."""
    return int(state().num_processes)


def rank() -> int:
    """Which one this is, from 0; process 0 writes the run folder."""
    return int(state().process_index)


@contextmanager
def first() -> Iterator[None]:
    """What process 0 does alone; the others follow when it is done."""
    with state().main_process_first():
        yield


def wait() -> None:
    """Go on when all have come here."""
    state().wait_for_everyone()


def leave() -> None:
    """Part from the others, at the very end: a process that exits with its threads of talk alive may be aborted."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def total(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums over all processes of tensors of the same shapes; new ones, where the others are."""
    found = {}
    for name, value in values.items():
        moved = value.detach().to(state().device, copy=True)
        if count() > 1:
            distributed.all_reduce(moved)
        found[name] = moved.to(value.device)
    return found


def most(number: int) -> int:
    """The largest of the processes' numbers."""
    found = torch.tensor(number, device=state().device)
    if count() > 1:
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def add_gradients(parameters: Iterable[nn.Parameter], flags: Sequence[bool]) -> list[bool]:
    """Replace the gradients of each process by their sum over all, and say which flags any process has set.

    A gradient that no process has stays None. One that is cut (quorem.sharding) is a mean already.

    Args:
        parameters: the same ones in every process.
        flags: as many in every process.
    """
    if count() == 1:
        return list(flags)
    every = []
    for parameter in parameters:
        if isinstance(parameter, DTensor):
            if parameter.grad is not None:
                parameter.grad.mul_(count())
        elif parameter.requires_grad:
            every.append(parameter)
    there = torch.tensor([*(p.grad is not None for p in every), *flags], dtype=torch.int32, device=state().device)
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    anywhere = [bool(value) for value in there.tolist()]
    used = [parameter for parameter, has in zip(every, anywhere, strict=False) if has]
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in used if parameter.grad is not None]
    flat = _flatten_dense_tensors(gradients)
    distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, _unflatten_dense_tensors(flat, gradients), strict=True):
        gradient.copy_(summed)
    return anywhere[len(every) :]
