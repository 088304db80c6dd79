"""Measure a few steps of a run before it starts, then discard them."""

import sys
import time
from dataclasses import dataclass, replace

import psutil  # type: ignore[import-untyped]
import torch

from quorem.config.settings import TrainSettings
from quorem.plan.memory import free_bytes
from quorem.training.interrupt import Stopped
from quorem.training.loop import Program, fit
from quorem.training.run_folder import Run
from quorem.training.timing import duration

STEPS = 5
"""The first one is not timed, unless it is the only one: it makes what the others find made."""


@dataclass(frozen=True)
class DryRun:
    """Time and memory of a few steps.

    Attributes:
        seconds_a_step: the mean.
        total_steps: of the whole run.
        peak_bytes: peak memory of this process; on a GPU, peak memory of its tensors.
        free_bytes: memory still free at the peak.
    """

    seconds_a_step: float
    total_steps: int
    peak_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        whole = duration(self.seconds_a_step * self.total_steps)
        return (
            f"dry run: {self.seconds_a_step:.3g} s a step, {self.total_steps:,} steps in about {whole}; "
            f"{self.peak_bytes / 1e6:,.0f} MB of memory at the peak, {self.free_bytes / 1e6:,.0f} MB still free; "
            "no file is kept"
        )


def measure_steps(
    program: Program, optimizer: torch.optim.Optimizer, train: TrainSettings, *, total_steps: int, run: Run
) -> DryRun:
    """Run a few steps and measure them; they change the program's weights.

    Args:
        program: the run's.
        optimizer: its.
        train: settings of the loop, with its schedule.
        total_steps: of the run.
        run: a run in a temporary folder.
    """
    steps, times = min(STEPS, total_steps), [time.perf_counter()]
    settings = replace(train, checkpoint_every=steps + 1, tracker=None)
    try:
        fit(
            program,
            optimizer,
            settings=settings,
            total_steps=steps,
            schedule=str(train.schedule),
            run=run,
            after_step=lambda _: times.append(time.perf_counter()),
        )
    except Stopped as stopped:
        raise KeyboardInterrupt from stopped  # there is no checkpoint to resume from
    first, last = times[steps > 1], times[-1]  # the loop has waited for the device after the first step and the last
    return DryRun((last - first) / max(1, steps - 1), total_steps, peak_bytes(), free_bytes())


def peak_bytes() -> int:
    """The most memory that this process has had; on a GPU, that its tensors have had."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # which Windows lacks

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
