"""Check that a model fits in the free memory, before it is built."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch
from torch import nn

from quorem.embeddings import TokenEmbedding
from quorem.errors import UserError
from quorem.plan.plan import Plan
from quorem.plan.sizes import BYTES, TRAINED_BYTES, describe, spared_bytes
from quorem.training import processes, sharding

CONTROL_GROUP, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY = "memory: %s MB for weights, gradients and optimizer, plus activations (--dry-run measures them)"


def check_memory(plan: Plan) -> int:
    """Refuse a pre-training run whose weights, gradients and optimizer do not fit in the free memory.

    Activations are not counted: a dry run measures them.

    Args:
        plan: of the run.

    Returns:
        Bytes of weights, gradients and optimizer in this process.

    Raises:
        UserError: with both sizes and what to change.
    """
    config, sizes = plan.config, describe(plan)
    needed = int(sizes["training_bytes"])
    if config.train.shard_layers or sharding.asked_by_launcher():
        layers = sum(part.parameters for part in sizes["parts"] if part.name.endswith(" encoder") and part.trained)
        needed -= layers * TRAINED_BYTES * (processes.count() - 1) // processes.count()
    table = config.model.embedding.kind
    advice = "model.embedding.kind=qr" if table == "dense" else "a smaller model.embedding.budget"
    more = ", or train.shard_layers=true" if processes.count() > 1 else ""
    _check(
        needed,
        f" for {plan.vocab_size:,} tokens",
        f"{advice}, a smaller model.vocab_size or model.size (quorem describe lists the tables){more}",
    )
    return needed


def check_finetuning_memory(model: nn.Module) -> int:
    """Refuse a fine-tuning run in the same way. The weights exist already; trained ones require a gradient.

    Of tables updated by rows (`row_tables` has marked them) the gradient is not counted.

    Raises:
        UserError: with both sizes and what to change.
    """
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    needed = sum(p.numel() for p in model.parameters()) * BYTES + trained * (TRAINED_BYTES - BYTES)
    sparse = [each for each in model.modules() if isinstance(each, TokenEmbedding) and each.sparse]
    needed -= sum(spared_bytes(table) for each in sparse for table in each.row_parameters())
    _check(needed, "", "a smaller model")
    return needed


def _check(needed: int, of: str, advice: str) -> None:
    if needed * _sharing() > free_bytes():
        raise UserError(
            f"weights, gradients and the optimizer need {_gigabytes(needed)}{of}, and {_free()}: use {advice}"
        )


def _sharing() -> int:
    """How many processes of the run share this machine's memory; a GPU's is one process's own."""
    return 1 if torch.cuda.is_available() else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _gigabytes(size: int) -> str:
    number = _sharing()
    return f"{size / 1e9:,.1f} GB" + (f" in each of {number} processes" if number > 1 else "")


def _free() -> str:
    return f"{free_bytes() / 1e9:,.1f} GB of memory is free"


def has_run_out(error: BaseException) -> bool:
    """Whether an error says that the machine or the GPU is out of memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def free_bytes() -> int:
    """Free bytes where training runs: on the GPU if there is one, otherwise on the machine and in its control group."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(min(psutil.virtual_memory().available, _left_in_group()))


def _left_in_group() -> float:
    """Bytes that this process's control group (a container, a job of Slurm) and those around it may still use."""
    left = float("inf")
    for folder in _groups():
        for limit, used in (
            ("memory.max", "memory.current"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            try:
                most, now = int((folder / limit).read_text()), int((folder / used).read_text())
                kept = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # "max" is no number
                continue
            left = min(left, max(0, most - now + int(kept.get("inactive_file", 0))))  # files in memory make room
    return left


def _groups() -> Iterator[Path]:
    """Folders of the control groups that this process is in: its own and all around it, as far as they can be seen."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)  # of cgroup(7): a number, controllers (none in version 2), the group
        if not kinds or "memory" in kinds.split(","):
            group = Path(path)
            for each in (group, *group.parents):
                yield CONTROL_GROUP / kinds / each.relative_to("/")
