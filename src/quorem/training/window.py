"""Losses of the training loop since its last record, and the steps it had to skip."""

import logging
import math
from typing import Any

import torch
from torch import Tensor

from quorem.errors import UserError

logger = logging.getLogger(__name__)

SKIPS_IN_A_ROW = 10
"""Steps whose loss or gradient is not finite are skipped; after so many in a row the run stops."""


class Window:
    """Losses and skipped steps, counted where the model is: the host reads them when it has to, not at every step.

    Attributes:
        loss: sum over the steps that were not skipped, float32 ().
        counts: int64 (3,): those steps; skipped steps since the run began; skipped steps in a row, which no
            longer falls once it has reached SKIPS_IN_A_ROW.
        taken: steps since the last record, skipped ones included.
        seconds: that a run before this one has spent on them.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), device=device)
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)
        self.taken, self.seconds = 0, 0.0
        self._skipped = 0  # that the host knows of

    def add(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Count one step.

        Args:
            loss: of the whole step, float32 ().
            norm: of its gradient, float32 ().

        Returns:
            1.0 if the step has to be skipped, else 0.0: float32 (), what optimizers of torch call found_inf.
        """
        finite = loss.isfinite() & norm.isfinite()
        self.loss += loss.masked_fill(~finite, 0.0)
        used, skipped, row = self.counts
        row = (row + 1).masked_fill(finite & (row < SKIPS_IN_A_ROW), 0)
        self.counts = torch.stack([used + finite, skipped + ~finite, row])
        self.taken += 1
        return (~finite).float()

    def check(self, step: int) -> tuple[int, int]:
        """Read the counts: steps used since the last record, and skipped since the run began; log new skipped ones.

        Args:
            step: the last that was added, counted from 1.

        Raises:
            UserError: if there were SKIPS_IN_A_ROW in a row.
        """
        used, skipped, row = self.counts.tolist()
        if skipped > self._skipped:
            new, self._skipped = skipped - self._skipped, skipped
            logger.warning("up to step %d: skipped %d steps, because their loss or gradient was not finite", step, new)
        if row >= SKIPS_IN_A_ROW:
            raise UserError(
                f"step {step}: {SKIPS_IN_A_ROW} steps in a row had a loss or gradient that is not finite: training has "
                "diverged. Lower train.learning_rate, raise train.warmup or set train.precision=fp32, with another "
                "--out"
            )
        return used, skipped

    def record(self, step: int, norm: Tensor) -> dict[str, Any]:
        """The mean loss over the steps used, the last gradient's norm if it is one, and skipped steps if there are any.

        Raises:
            UserError: as `check` does.
        """
        used, skipped = self.check(step)
        found = {"loss": float(self.loss) / used, "gradient_norm": float(norm)} if used else {}
        if not math.isfinite(float(norm)):
            found.pop("gradient_norm", None)
        return found | ({"skipped_steps": skipped} if skipped else {})

    def begin(self) -> None:
        """Start again after a record."""
        self.loss.zero_()
        self.counts[0] = 0
        self.taken, self.seconds = 0, 0.0

    def state_dict(self, seconds: float) -> dict[str, Any]:
        """For a checkpoint, with the seconds spent since the last record in this run."""
        found = {"loss": self.loss.cpu(), "counts": self.counts.cpu()}
        return found | {"taken": self.taken, "seconds": self.seconds + seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.loss.copy_(state["loss"])
        self.counts.copy_(state["counts"])
        self.taken, self.seconds = state["taken"], state["seconds"]
        self._skipped = int(state["counts"][1])
