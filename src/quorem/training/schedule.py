"""Learning-rate schedules."""

import math

from quorem.config.settings import TrainSettings
from quorem.errors import UserError, did_you_mean

SCHEDULES = ("google", "linear", "cosine", "constant")


def learning_rate_scale(step: int, *, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """The factor, 0 to 1, by which each group's `base_lr` is multiplied at one step.

    Args:
        step: updates made so far; the first update is step 0.
        total_steps: where the decay ends, at least 1.
        warmup_steps: 0 for no warm-up.
        schedule: "google" multiplies a linear decay over all steps by min(1, step / warmup), so the two overlap, the
            peak stays below 1 and step 0 changes nothing (google-research/electra optimization.py); "linear" and
            "cosine" rise to 1, then fall to 0; "constant" rises to 1 and stays. Those three start at 1 / warmup.

    Raises:
        UserError: the schedule is unknown.
    """
    if schedule not in SCHEDULES:
        raise UserError(f"schedule: '{schedule}' is unknown.{did_you_mean(schedule, SCHEDULES)}")
    if schedule == "google":
        warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
        return warmup * max(0.0, 1 - step / total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def warmup_steps(settings: TrainSettings, total_steps: int) -> int:
    """Steps of warm-up: a share of all below 1, else a number."""
    return round(settings.warmup * total_steps if settings.warmup < 1 else settings.warmup)
