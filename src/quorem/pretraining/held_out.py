"""Score both networks on rows that pre-training does not learn from, and remember the best checkpoint."""

import logging
import math
from typing import Any

import torch

from quorem.config.settings import PretrainConfig
from quorem.data.batches import HELD_OUT, step_seed
from quorem.pretraining.program import PretrainProgram
from quorem.training.device import autocast_dtype, on_device
from quorem.training.metrics import BinaryMetrics
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)


class HeldOut:
    """Judges a run's networks at every checkpoint and at the end; for `quorem.training.loop.fit`.

    Args:
        program: the run's, with rows held out.
        config: resolved settings.
        run: where scores are logged.
    """

    def __init__(self, program: PretrainProgram, config: PretrainConfig, run: Run) -> None:
        self.program, self.config, self.run = program, config, run
        self.last: dict[str, float] | None = None
        self.best_step, self.best_loss = 0, float("inf")

    def after_step(self, step: int) -> None:
        """Score the networks if a checkpoint is due."""
        if step % self.config.train.checkpoint_every and step != self.program.total_steps:
            return
        found = self.judge()
        logger.info("step %d: held-out %s", step, "  ".join(f"{key} {value:.4f}" for key, value in found.items()))
        self.last = {key: value for key, value in found.items() if math.isfinite(value)}
        self.run.log({"step": step, "held_out": self.last})
        if found["loss"] < self.best_loss:  # not if it is no number
            self.best_step, self.best_loss = step, found["loss"]

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Losses and AUC on all held-out rows: the same masks and noise each time, at the last step's settings.

        Every process scores all rows, because sharded layers need every process.
        """
        program, settings = self.program, self.config.objective
        rows, module = program.held_out, program.module
        if rows is None:
            raise ValueError("no rows are held out")
        device = next(module.parameters()).device
        dtype = autocast_dtype(self.config.train.precision, device)
        train = self.config.train
        order = rows.order(batch_size=train.batch_size, seed=0)
        sums, counted = torch.zeros(2, dtype=torch.float64, device=device), torch.zeros(2, dtype=torch.float64)
        detected = BinaryMetrics()
        was_training = module.training
        module.eval()
        for step in range(order.steps_per_epoch):
            masked = program.masked(
                *rows.batch(order.indices(step)),
                rate=settings.mask_rate_end or settings.mask_rate or 0,
                rng=torch.Generator().manual_seed(step_seed(train.seed, HELD_OUT, step)),
            )
            counted += torch.tensor([masked.num_chosen, masked.num_tokens], dtype=torch.float64)
            number = len(masked.input_ids)
            size = train.micro_batch_size or number
            for start in range(0, number, size):
                part = masked.rows(start, min(start + size, number))
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    outcome = module(*on_device(part.inputs(), device))
                detected.update(outcome.scores, outcome.is_replaced, outcome.real)
                sums += torch.stack([outcome.mlm_sum, outcome.rtd_sum]).double()
        module.train(was_training)
        mlm, rtd = (sums.cpu() / counted.clamp(min=1)).tolist()
        auc = detected.compute()["auc"]
        found = {"loss": mlm + settings.rtd_weight * rtd, "mlm_loss": mlm, "rtd_loss": rtd}
        return found if auc is None else {**found, "rtd_auc": auc}

    def state(self) -> dict[str, Any]:
        """For a checkpoint; the one of `best_step` is kept."""
        return {"best_step": self.best_step, "best_loss": self.best_loss, "last": self.last}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the result of `state`."""
        self.best_step, self.best_loss, self.last = (state[key] for key in ("best_step", "best_loss", "last"))
