"""Which epochs are judged and which model is kept; training ends when train.patience is over."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quorem.finetuning.task import Begun, Task
from quorem.training import processes
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)


class EarlyStopping:
    """Called after every step: judges the model after each epoch, keeps the best, and stops when patience is over.

    With train.keep_epoch=last it judges and keeps the last alone.

    Args:
        task: what is learned; it judges and saves.
        begun: its model and data.
        run: the folder that keeps model/ of that epoch.
        program: whose order of rows says where epochs end.

    Attributes:
        state: what the best and the last epoch found (None before the first), and how many epochs there were since the
            best; part of every checkpoint.
    """

    def __init__(self, task: Task, begun: Begun, run: Run, program: Any) -> None:
        self.task, self.begun, self.run, self.program = task, begun, run, program
        self.state: dict[str, Any] = {"best": None, "last": None, "since_best": 0}

    @property
    def patience_is_over(self) -> bool:
        """Whether as many epochs in a row as train.patience were no better."""
        patience = self.begun.config.train.patience
        return patience is not None and self.state["since_best"] >= patience

    def __call__(self, step: int) -> bool:
        each = self.program.order.steps_per_epoch
        if step != self.program.total_steps and (step % each or self.begun.config.train.keep_epoch == "last"):
            return False
        self.begun.model.eval()
        found = {"epoch": round(step / each, 2), **self.task.judge(self.begun)}
        self.run.log({"step": step, "held_out": found})
        shown = ", ".join(f"{name} {found[name]:.4f}" for name in self.task.shown)
        logger.info("epoch %g, held out: %s", found["epoch"], shown)
        best, by = self.state["best"], self.task.chosen_by
        better = best is None or found[by] > best[by] or self.begun.config.train.keep_epoch == "last"
        since = 0 if better else self.state["since_best"] + 1
        self.state.update(last=found, since_best=since, best=found if better else best)
        if better:
            self.run.save_model("model", self._save)
        over = processes.all_reduce_max(int(self.patience_is_over)) > 0
        if over:
            logger.info("train.patience=%s: no better %s since epoch %g: training stops", since, by, best["epoch"])
        return over

    def restore(self, state: dict[str, Any]) -> bool:
        """Go on from a checkpoint; whether training had ended there."""
        self.state.update(state)
        if self.patience_is_over:
            best, patience = self.state["best"]["epoch"], self.begun.config.train.patience
            logger.info("train.patience=%s: training had ended, no better since epoch %g", patience, best)
        return self.patience_is_over

    @property
    def _save(self) -> Callable[[Path], None]:
        return lambda folder: self.task.save(self.begun, folder)
