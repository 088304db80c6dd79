"""How long a run will take, logged as soon as a few of its steps have been timed; spans of time in words."""

import logging
import time

logger = logging.getLogger(__name__)

TIMED = 4
"""Steps after the first, which makes what the others find made."""
WORTH_LOGGING = 10.0  # seconds


def duration(seconds: float) -> str:
    """Seconds, minutes from two of them on, or hours and minutes: 50 s, 30 min, 5 h 0 min."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"


class StepTimer:
    """Times the first steps of a run, or of the rest of one.

    Args:
        start: steps done before.
        total_steps: in all.

    Attributes:
        marks: after these steps `note` needs to be called, when the device has done what it was given.
    """

    def __init__(self, start: int, total_steps: int) -> None:
        self.marks, self.total_steps, self._began = (start + 1, start + 1 + TIMED), total_steps, 0.0

    def note(self, done: int) -> None:
        """Take the time after a step, counted from 1, and log what is left after the last mark."""
        first, last = self.marks
        if done == first:
            self._began = time.perf_counter()
        elif done == last:
            seconds, left = (time.perf_counter() - self._began) / TIMED, self.total_steps - done
            if seconds * left >= WORTH_LOGGING:
                logger.info("%.3g s a step: %s more will take about %s", seconds, f"{left:,}", duration(seconds * left))
