"""What a run will take, before it takes it: memory that it needs at least, and a few steps that are thrown away."""

import resource
import statistics
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import psutil  # type: ignore[import-untyped]
import torch

from quorem.describe import describe
from quorem.errors import UserError
from quorem.runs import Run
from quorem.settings import DataSettings, PretrainConfig
from quorem.train import Program, fit

STEPS = 5
"""The first one is not timed: it makes what the others find made."""


@dataclass(frozen=True)
class Rehearsal:
    """What a few steps took.

    Attributes:
        seconds_a_step: the median.
        total_steps: of the whole run.
        peak_bytes: the most memory this process has had; on a GPU, that its tensors have had there.
        free_bytes: memory that was left when it had all it needs.
    """

    seconds_a_step: float
    total_steps: int
    peak_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        seconds = self.seconds_a_step * self.total_steps
        hours, minutes = divmod(round(seconds / 60), 60)
        whole = (
            f"{hours} h {minutes} min"
            if seconds >= 3600
            else f"{minutes} min"
            if seconds >= 120
            else f"{seconds:.0f} s"
        )
        return (
            f"dry run: {self.seconds_a_step:.3g} s a step, {self.total_steps:,} steps in about {whole}; "
            f"{self.peak_bytes / 1e6:,.0f} MB of memory at the peak, {self.free_bytes / 1e6:,.0f} MB still free; "
            "nothing is kept"
        )


def rehearse(
    program: Program, optimizer: torch.optim.Optimizer, config: PretrainConfig, *, total_steps: int, run: Run
) -> Rehearsal:
    """Take a few steps of a run; they change the program's weights.

    Args:
        program: the run's.
        optimizer: its.
        config: resolved settings.
        total_steps: of the run.
        run: a folder to throw away.
    """
    settings = replace(config.train, checkpoint_every=STEPS + 1, tracker=None)
    times = [time.perf_counter()]
    fit(
        program,
        optimizer,
        settings=settings,
        total_steps=STEPS,
        schedule=str(config.train.schedule),
        run=run,
        after_step=lambda _: times.append(time.perf_counter()),
    )
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    taken = [end - start for start, end in pairwise(times[1:])]
    return Rehearsal(statistics.median(taken), total_steps, peak, free_bytes())


def check_memory(config: PretrainConfig, vocab_size: int) -> tuple[int, int]:
    """Refuse a run whose weights, gradients, optimizer and activations are more than the memory that is free.

    Args:
        config: resolved settings.
        vocab_size: the tokens there are.

    Returns:
        What weights, gradients and optimizer need, and what activations do, in bytes.

    Raises:
        UserError: with both sizes and what to change.
    """
    model, data = replace(config.model, vocab_size=vocab_size), DataSettings(max_length=config.data.max_length)
    sizes = describe(replace(config, model=model, data=data))  # where texts come from is all one
    needed, activations, free = sizes["training_bytes"], sizes["activation_bytes"], free_bytes()
    if needed > free:
        table = config.model.embedding.kind
        advice = "model.embedding.kind=qr" if table == "dense" else "a smaller model.embedding.budget"
        raise UserError(
            f"weights, gradients and the optimizer need {needed / 1e9:,.1f} GB for {vocab_size:,} tokens, and "
            f"{free / 1e9:,.1f} GB of memory are free: use {advice}, a smaller model.vocab_size or model.size "
            "(quorem describe lists the tables)"
        )
    if needed + activations > free and not torch.cuda.is_available():  # a GPU's attention kernels keep less
        rows = config.train.micro_batch_size or config.train.batch_size
        raise UserError(
            f"weights, gradients, the optimizer and what {rows} rows of {config.data.max_length} tokens keep for the "
            f"backward pass need {(needed + activations) / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free: "
            "use a smaller train.micro_batch_size, which changes nothing but memory, train.gradient_checkpointing=true "
            "or a smaller data.max_length"
        )
    return needed, activations


def free_bytes() -> int:
    """Memory that is free where training runs: on the GPU, if there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
