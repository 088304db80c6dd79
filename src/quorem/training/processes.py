"""The processes of a run that a launcher (torchrun, accelerate launch) has started; one where there is no launcher.

Gradients are added up here, after each process's backward passes, instead of by a wrapper around the model: shares of
a step may be uneven or empty, the parts of a loss add up as they are, and weights keep their names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.distributed.tensor import DTensor

from quorem.training.gradients import sum_rows

WHOLE = -1  # instead of a number of rows
PATIENCE = timedelta(days=2)
"""How long a process waits for the others, which may be preparing data. If one
dies, the launcher stops all of them."""


def state() -> PartialState:
    """Accelerate's knowledge of the processes; the first call joins those of the launcher."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def count() -> int:
    """The number of processes."""
    return int(state().num_processes)


def rank() -> int:
    """The rank of this process, from 0; process 0 writes the run folder."""
    return int(state().process_index)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Process 0 runs the block first; the others wait, then run it too."""
    with state().main_process_first():
        yield


def wait_for_everyone() -> None:
    """Wait until all processes are here."""
    state().wait_for_everyone()


def destroy_process_group() -> None:
    """Leave the process group at the very end: a process that exits with live communication threads may be aborted."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def is_loss_of_another(error: BaseException) -> bool:
    """Whether an error says that another process of the run cannot be reached any more."""
    lost = isinstance(error, distributed.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))
    return distributed.is_available() and distributed.is_initialized() and count() > 1 and lost


def all_reduce_sum(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums over all processes of tensors of the same shapes; new ones, where the others are."""
    found = {}
    for name, value in values.items():
        moved = value.detach().to(state().device, copy=True)
        if count() > 1:
            distributed.all_reduce(moved)
        found[name] = moved.to(value.device)
    return found


def all_reduce_max(number: int) -> int:
    """The largest of the processes' numbers."""
    return max(each[0] for each in _of_each([number]))


def _of_each(numbers: list[int]) -> list[list[int]]:
    """The numbers of every process, in the order of their ranks; the hosts talk, and wait for no device."""
    if count() == 1:
        return [numbers]
    mine = torch.tensor(numbers)
    found = [torch.empty_like(mine) for _ in range(count())]
    distributed.all_gather(found, mine, group=_hosts())
    return [each.tolist() for each in found]


@cache
def _hosts() -> distributed.ProcessGroup | None:
    """The group by which hosts talk: that of all processes, where it does not need a device."""
    return None if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo", timeout=PATIENCE)


def all_reduce_gradients(parameters: Iterable[nn.Parameter], loss: Tensor, *, flag: bool) -> tuple[bool, Tensor]:
    """Replace the gradients of each process by their sum over all.

    A gradient that no process has stays None. One that is sharded (quorem.training.sharding) is a mean already. Sparse
    ones stay sparse: only rows that some process has read travel, and each is there once afterwards, in the same order
    in all.

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
    sum_rows(every)
    *rows_held, flags = zip(*_of_each([*map(_rows_held, every), int(flag)]), strict=True)
    summed = [loss.clone()]
    for parameter, rows in zip(every, rows_held, strict=True):
        if WHOLE in rows:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = gradient.to_dense() if gradient.is_sparse else gradient
            summed.append(parameter.grad)
        elif max(rows) > 0:
            _add_rows(parameter, rows)
    flat = _flatten_dense_tensors(summed)
    distributed.all_reduce(flat)
    for tensor, total in zip(summed, _unflatten_dense_tensors(flat, summed), strict=True):
        tensor.copy_(total)
    return any(flags), summed[0]


def _rows_held(parameter: nn.Parameter) -> int:
    """Rows of a gradient that is sparse and coalesced; WHOLE for a dense one, 0 for none."""
    if parameter.grad is None:
        return 0
    return int(parameter.grad.values().shape[0]) if parameter.grad.is_sparse else WHOLE


def _add_rows(parameter: nn.Parameter, rows: Sequence[int]) -> None:
    """Sum a sparse gradient over all processes, which hold so many rows of it.

    Each sends as many as the one that holds most, for tensors of different sizes cannot be gathered; what was added to
    that end is left out again.
    """
    indices = torch.zeros(max(rows), dtype=torch.int64, device=parameter.device)
    values = parameter.new_zeros(max(rows), *parameter.shape[1:]).detach()
    if parameter.grad is not None:
        indices[: rows[rank()]] = parameter.grad.indices()[0]
        values[: rows[rank()]] = parameter.grad.values()
    found = []
    for mine in (indices, values):
        each = [torch.empty_like(mine) for _ in rows]
        distributed.all_gather(each, mine)
        found.append(torch.cat([theirs[:held] for theirs, held in zip(each, rows, strict=True)]))
    parameter.grad = torch.sparse_coo_tensor(
        found[0].unsqueeze(0), found[1], parameter.shape, check_invariants=False
    ).coalesce()
