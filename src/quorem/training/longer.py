"""Training a run longer than it was begun for: the same command with more steps or epochs."""

import logging
from typing import Any

from quorem.config.settings import TrainSettings
from quorem.data.batches import EpochOrder
from quorem.errors import UserError
from quorem.training.loop import warmup_steps
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)


def finished_result(run: Run, *, otherwise: str) -> dict[str, Any] | None:
    """What a finished run gave, if nothing is left to do; None if it is to be trained, or trained on.

    Args:
        run: as it was opened.
        otherwise: what to do instead of training on a run that has no checkpoint.

    Raises:
        UserError: if it is finished, other steps are asked for, and it has no checkpoint.
    """
    if run.earlier is None and run.result is not None:
        run.clean(run.result)
        logger.info("%s: this run is finished; nothing to do", run.folder)
        return run.result
    if run.result is not None and run.last_checkpoint() is None:
        raise UserError(
            f"{run.folder}: this run is finished, and its optimizer's state was not kept (train.keep_state=true keeps "
            f"it), so that it cannot continue with other steps: {otherwise}"
        )
    return None


def lengthen(run: Run, train: TrainSettings, order: EpochOrder, *, others_follow_steps: bool = False) -> None:
    """Let a run that was begun for fewer steps go on to more, and say whether that is what one long run learns.

    Args:
        run: its folder; nothing is done to one that was begun for as many.
        train: the settings it goes on with.
        order: of its batches.
        others_follow_steps: whether anything but the learning rate depends on the number of steps in all.

    Raises:
        UserError: if there are not more steps.
    """
    if run.earlier is None:
        return
    before, now, done = order.steps(run.earlier), order.steps(train), run.last_checkpoint() or 0
    if now < before:
        raise UserError(
            f"{run.folder}: was begun for {before:,} steps, and {now:,} are fewer: choose another --out or delete it"
        )
    run.accept()
    same_rates = train.schedule == "constant" and warmup_steps(train, now) == warmup_steps(run.earlier, before)
    if now == before or (same_rates and not others_follow_steps):
        logger.info(
            "%s: continues from step %s to %s, as one run of %s steps does", run.folder, *_counts(done, now, now)
        )
    elif done:
        logger.warning(
            "%s: continues from step %s to %s, but it is not what one run of %s steps learns: until now the schedule "
            "was that of %s steps, and the learning rate changes at once (train.schedule=constant with train.warmup in "
            "steps can continue exactly)", run.folder, *_counts(done, now, now, before),
        )  # fmt: skip


def _counts(*numbers: int) -> Any:
    return (f"{number:,}" for number in numbers)
