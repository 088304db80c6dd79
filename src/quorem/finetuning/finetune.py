"""The engine of fine-tuning: from a task, a pre-training run and data to a run folder with a model."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from quorem.data.bad_rows import report_bad_rows
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.finetuning.checkpoint import SEED
from quorem.finetuning.early_stopping import EarlyStopping
from quorem.finetuning.task import Begun, Task
from quorem.lock import locked
from quorem.plan.dry_run import DryRun, measure_steps
from quorem.plan.memory import MEMORY, check_finetuning_memory
from quorem.training import processes
from quorem.training.card import write_cards_of
from quorem.training.device import hardware
from quorem.training.longer import finished_result, lengthen
from quorem.training.loop import fit
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)


def finetune_task(task: Task, config: Any, out: Path, *, source: Source | None = None) -> dict[str, Any]:
    """Train a task's model into the run folder `out`.

    After every epoch it is judged on the held-out rows, and the best by the task's own score is kept. (The figure of
    the best epoch is chosen on the rows it is reported on; that of the last epoch is given beside it.) With
    train.patience training stops after so many epochs in a row that are not better. With train.keep_epoch=last the last
    epoch alone is judged and kept.

    Args:
        task: what is learned.
        config: its settings; what they leave open is resolved and stored.
        out: the run folder.
        source: what to read instead of data.path, such as quorem.data.dataset.DatasetSource.

    Returns:
        What result.json holds: what the task finds at the end, and `stopped_early` with the epoch if patience ran out.

    Raises:
        UserError: for settings, data or folders that cannot be used.
    """
    begun = task.begin(task.resolve(config), source)
    with locked(out, mine=processes.rank() == 0):
        return _finetune(task, begun, out)


def dry_run_task(task: Task, config: Any, *, source: Source | None = None) -> DryRun:
    """Do all that `finetune_task` does up to a few steps in a folder that is thrown away, and say what it would take.

    Judging after each epoch is not counted; of several phases the last is rehearsed, which is the longest.

    Raises:
        UserError: what `finetune_task` would raise.
    """
    begun = task.begin(task.resolve(config), source)
    program, optimizer = _program(task, begun)
    with TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run", begun.config)
        steps = program.total_steps
        return measure_steps(program, optimizer, begun.config.train, total_steps=steps, run=run)


def _finetune(task: Task, begun: Begun, out: Path) -> dict[str, Any]:
    config = begun.config
    if any(out.glob(f"{SEED}*/config.yaml")):
        raise UserError(f"{out}: holds runs of several seeds: give --seeds, or choose another --out")
    with processes.main_process_first():
        run = Run(out, config)
    if run.writes:
        report_bad_rows(begun.counts, out)
    run.write_environment(inputs=begun.inputs, seed=config.train.seed, **hardware(config.train.precision))
    if (done := finished_result(run, otherwise=task.otherwise.format(out=out))) is not None:
        return done
    begun = task.prepare(begun, run, lambda other, folder: finetune_task(task, other, folder, source=begun.source))
    program, optimizer = _program(task, begun)
    lengthen(run, config.train, program.order, others_follow_steps=task.has_phases(config))
    epochs = EarlyStopping(task, begun, run, program)
    fit(
        program,
        optimizer,
        settings=config.train,
        total_steps=program.total_steps,
        schedule=str(config.train.schedule),
        run=run,
        after_step=epochs,
        state=lambda: dict(epochs.state),
        restore=epochs.restore,
    )
    best, last = epochs.state["best"], epochs.state["last"]
    result = task.finish(begun, run, best, last)
    result |= {"stopped_early": last["epoch"]} if epochs.patience_is_over else {}
    result |= {"keep_state": True} if config.train.keep_state else {}
    result |= {"keep_epoch": "last"} if config.train.keep_epoch == "last" else {}
    write_cards_of(run, result)
    run.finish(result)
    return result


def _program(task: Task, begun: Begun) -> tuple[Any, torch.optim.Optimizer]:
    """The steps and what takes them, after a word on their size.

    Raises:
        UserError: if the model does not fit in memory.
    """
    optimizer = task.optimizer(begun)  # first, for it says what is frozen
    needed, program = check_finetuning_memory(begun.model), task.program(begun)
    logger.info("%s", task.describe(begun, program))
    logger.info(MEMORY, f"{needed / 1e6:,.0f}")
    return program, optimizer
