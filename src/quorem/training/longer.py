"""Train a run longer than it was started for: the same command with more steps or epochs."""

import logging
from pathlib import Path
from typing import Any

from quorem.config.settings import TrainSettings
from quorem.data.batches import EpochOrder
from quorem.errors import UserError
from quorem.training.run_folder import Run
from quorem.training.schedule import warmup_steps

logger = logging.getLogger(__name__)


def finished_result(run: Run, *, otherwise: str) -> dict[str, Any] | None:
    """The result of a finished run; None if the run has to be trained, or trained further.

    Args:
        run: as it was opened.
        otherwise: advice for a run without a checkpoint.

    Raises:
        UserError: if it is finished, other steps are asked for, and it has no checkpoint.
    """
    if run.earlier is None and run.result is not None:
        run.clean(run.result)
        logger.info("%s: this run is finished; nothing to do", run.folder)
        return run.result
    if run.result is not None and run.last_checkpoint() is None:
        raise UserError(
            f"{run.folder}: this run is finished and did not keep its optimizer's state (train.keep_state=true keeps "
            f"it), so it cannot continue with other steps: {otherwise}"
        )
    return None


def lengthen(run: Run, train: TrainSettings, order: EpochOrder, *, others_follow_steps: bool = False) -> None:
    """Let a run that was started for fewer steps continue to more, and log whether it equals one long run.

    Args:
        run: its folder; a run started for as many steps is not changed.
        train: the settings it continues with.
        order: of its batches.
        others_follow_steps: whether anything but the learning rate depends on the number of steps in all.

    Raises:
        UserError: if there are not more steps.
    """
    if run.earlier is None:
        return
    check_not_shorter(run.folder, train, run.earlier, order)
    before, now, done = order.steps(run.earlier), order.steps(train), run.last_checkpoint() or 0
    run.accept()
    same_rates = train.schedule == "constant" and warmup_steps(train, now) == warmup_steps(run.earlier, before)
    if now == before or (same_rates and not others_follow_steps):
        logger.info(
            "%s: continues from step %s to %s, exactly like one run of %s steps", run.folder, *_counts(done, now, now)
        )
    elif done and same_rates:
        logger.warning(
            "%s: continues from step %s to %s, but not exactly like one run of %s steps: what came before followed "
            "from a length of %s", run.folder, *_counts(done, now, now, before),
        )  # fmt: skip
    elif done:
        logger.warning(
            "%s: continues from step %s to %s, but not exactly like one run of %s steps: so far the schedule was that "
            "of %s steps, and the learning rate now jumps (train.schedule=constant with train.warmup in steps "
            "continues exactly)", run.folder, *_counts(done, now, now, before),
        )  # fmt: skip


def check_not_shorter(folder: Path, train: TrainSettings, earlier: TrainSettings, order: EpochOrder) -> None:
    """Accept as many steps as a run was started for, or more.

    Raises:
        UserError: for fewer.
    """
    before, now = order.steps(earlier), order.steps(train)
    if now < before:
        raise UserError(
            f"{folder}: this run was started for {before:,} steps, and {now:,} are fewer: choose another --out or "
            "delete it"
        )


def _counts(*numbers: int) -> Any:
    return (f"{number:,}" for number in numbers)
