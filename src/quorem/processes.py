"""The processes of a run that a launcher (torchrun, accelerate launch) has started; one where there is no launcher.

Gradients are added up here, after each process's backward passes, instead of by a wrapper around the model: shares of
a step may be uneven or empty, the parts of a loss add up as they are, and weights keep their names.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.distributed.tensor import DTensor

PATIENCE = timedelta(days=2)
"""How long a process waits for the others, which may be preparing the data. Of one that has died the launcher knows."""


def state() -> PartialState:
    """Accelerate's knowledge of the processes; the first call joins those of the launcher."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


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


def is_loss_of_another(error: BaseException) -> bool:
    """Whether an error says that another process of the run cannot be reached any more."""
    told = isinstance(error, distributed.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))
    return distributed.is_available() and distributed.is_initialized() and count() > 1 and told


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
    return _largest([number])[0]


def _largest(numbers: list[int]) -> list[int]:
    """For each of several numbers the largest of any process; the hosts talk, and wait for no device."""
    if count() == 1:
        return numbers
    found = torch.tensor(numbers)
    distributed.all_reduce(found, distributed.ReduceOp.MAX, group=_hosts())
    return found.tolist()


@cache
def _hosts() -> distributed.ProcessGroup | None:
    """The group by which hosts talk: that of all processes, where it does not need a device."""
    return None if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo", timeout=PATIENCE)


def add_gradients(parameters: Iterable[nn.Parameter], loss: Tensor, *, flag: bool) -> tuple[bool, Tensor]:
    """Replace the gradients of each process by their sum over all.

    A gradient that no process has stays None. One that is cut (quorem.sharding) is a mean already.

    Args:
        parameters: the same ones in every process.
        loss: this process's part, float32 ().
        flag: anything.

    Returns:
        Whether any process has the flag set; and the sum of the losses.
    """
    if count() == 1:
        return flag, loss
    every = []
    for parameter in parameters:
        if isinstance(parameter, DTensor):
            if parameter.grad is not None:
                parameter.grad.mul_(count())
        elif parameter.requires_grad:
            every.append(parameter)
    *anywhere, flagged = _largest([*(int(p.grad is not None) for p in every), int(flag)])
    used = [parameter for parameter, has in zip(every, anywhere, strict=True) if has]
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    summed = [loss.clone(), *(parameter.grad for parameter in used if parameter.grad is not None)]
    flat = _flatten_dense_tensors(summed)
    distributed.all_reduce(flat)
    for tensor, total in zip(summed, _unflatten_dense_tensors(flat, summed), strict=True):
        tensor.copy_(total)
    return bool(flagged), summed[0]
