"""Whether a model fits in the memory that is free, before it is built."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

from quorem.config.settings import DataSettings, PretrainConfig, TrainSettings
from quorem.errors import UserError
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.plan.activations import encoder_bytes
from quorem.plan.sizes import BYTES, TRAINED_BYTES, describe
from quorem.training import processes, sharding
from quorem.training.device import autocast_dtype

CONTROL_GROUP, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY = "memory: %s MB of weights, gradients and optimizer, about %s MB of activations"


LESS = (
    "a smaller train.micro_batch_size, which changes nothing but memory, train.gradient_checkpointing=true or a "
    "smaller data.max_length"
)


def check_memory(config: PretrainConfig, vocab_size: int) -> tuple[int, int]:
    """Refuse a pre-training run whose weights, gradients, optimizer and activations are more than memory has room for.

    Args:
        config: resolved settings.
        vocab_size: the tokens there are.

    Returns:
        What weights, gradients and optimizer need in this process, and what activations do, in bytes.

    Raises:
        UserError: with both sizes and what to change.
    """
    model, data = replace(config.model, vocab_size=vocab_size), DataSettings(max_length=config.data.max_length)
    train = replace(config.train, batch_size=_rows(config.train), micro_batch_size=None)
    sizes = describe(replace(config, model=model, data=data, train=train))  # where texts come from is all one
    needed = sizes["training_bytes"]
    if config.train.shard_layers or sharding.asked_by_launcher():
        layers = sum(part.parameters for part in sizes["parts"] if part.name.endswith(" encoder") and part.trained)
        needed -= layers * TRAINED_BYTES * (processes.count() - 1) // processes.count()
    if needed * _sharing() > free_bytes():
        table = config.model.embedding.kind
        advice = "model.embedding.kind=qr" if table == "dense" else "a smaller model.embedding.budget"
        raise UserError(
            f"weights, gradients and the optimizer need {_gigabytes(needed)} for {vocab_size:,} tokens, and "
            f"{_free()}: use {advice}, a smaller model.vocab_size or model.size (quorem describe lists the tables)"
            + (", or train.shard_layers=true" if processes.count() > 1 else "")
        )
    _check_activations(needed, sizes["activation_bytes"], _rows(config.train), config.data.max_length or 2)
    return needed, sizes["activation_bytes"]


def check_finetuning_memory(
    model: QuoremForSequenceClassification, train: TrainSettings, *, length: int, pieces: int = 1
) -> tuple[int, int]:
    """The same for a classifier, whose weights are there already.

    Args:
        model: those of its parameters that are trained require a gradient.
        train: settings of the loop.
        length: tokens of the longest row that the encoder reads.
        pieces: most of them in a document, which is not parted.

    Raises:
        UserError: with both sizes and what to change.
    """
    rows = max(_rows(train), pieces)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    needed = sum(p.numel() for p in model.parameters()) * BYTES + trained * (TRAINED_BYTES - BYTES)
    activations = 0
    if any(parameter.requires_grad for parameter in model.electra.parameters()):
        activations = encoder_bytes(
            model.config,
            rows=rows,
            length=length,
            dtype=autocast_dtype(train.precision, torch.device("cpu")),
            checkpointing=train.gradient_checkpointing,
        )
    _check_activations(needed, activations, rows, length)
    return needed, activations


def _rows(train: TrainSettings) -> int:
    """Rows that a process works on at once, at most."""
    share = -(-train.batch_size // processes.count())
    return min(share, train.micro_batch_size or share)


def _check_activations(needed: int, activations: int, rows: int, length: int) -> None:
    if torch.cuda.is_available() or (needed + activations) * _sharing() <= free_bytes():
        return  # a GPU's attention kernels keep less
    raise UserError(
        f"weights, gradients, the optimizer and what {rows} rows of {length} tokens keep for the backward pass need "
        f"{_gigabytes(needed + activations)}, and {_free()}: use {LESS}"
    )


def _sharing() -> int:
    """How many processes of the run share this machine's memory; a GPU's is one process's own."""
    return 1 if torch.cuda.is_available() else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _gigabytes(size: int) -> str:
    number = _sharing()
    return f"{size / 1e9:,.1f} GB" + (f" in each of {number} processes" if number > 1 else "")


def _free() -> str:
    return f"{free_bytes() / 1e9:,.1f} GB of memory are free"


def has_run_out(error: BaseException) -> bool:
    """Whether an error says that there is no more memory, the machine's or the GPU's."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def free_bytes() -> int:
    """Memory that is free where training runs: the GPU's, if there is one; else what machine and control group have."""
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
