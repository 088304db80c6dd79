"""The same run with several seeds: the mean and the spread of its scores, and the models' average."""

import logging
import statistics
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from quorem.config.shape import is_number
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.finetuning.checkpoint import SEED
from quorem.finetuning.finetune import finetune_task
from quorem.finetuning.task import Task
from quorem.lock import locked
from quorem.training import processes
from quorem.training.longer import check_not_shorter, finished_result
from quorem.training.run_folder import Run, flat

logger = logging.getLogger(__name__)

NO_SCORES = ("baselines.", "keep_state", "test.rows", "unknown_targets")


def finetune_seeds(task: Task, config: Any, out: Path, *, number: int, source: Source | None = None) -> dict[str, Any]:
    """Fine-tune with the seeds train.seed, train.seed + 1, ..., each into `out`/seed-N, unless it is finished there.

    The rows held out are the same for all (data.split_seed). `quorem predict` on `out` averages what the models say.

    Args:
        task: what is learned.
        config: its settings; train.seed is the first seed.
        out: the folder of all runs.
        number: how many, at least 1; a folder with some may get more.
        source: what to read instead of data.path.

    Returns:
        What result.json holds: `seeds`; `mean` of every score; `spread`, its `min`, `max` and `std` (of a sample; 0 of
        one run); `ensemble`, the scores of the models' average; and `baselines`.

    Raises:
        UserError: for settings, data or folders that cannot be used.
    """
    if number < 1:
        raise UserError(f"--seeds {number}: 1 or more needed")
    config = task.resolve(config)
    seeds = [config.train.seed + place for place in range(number)]
    with locked(out, mine=processes.rank() == 0):
        if (out / "metrics.jsonl").exists():
            raise UserError(f"--seeds {number}: {out} holds a single run: choose another --out")
        names = [path.parent.name.removeprefix(SEED) for path in out.glob(f"{SEED}*/config.yaml")]
        there = [int(name) for name in names if name.isdecimal()]
        if more := sorted(set(there) - set(seeds)):
            raise UserError(f"--seeds {number}: {out} holds {SEED}{more[0]} too: give more, or choose another --out")
        with processes.main_process_first():
            run = Run(out, config)
        runs = {seed: replace(config, train=replace(config.train, seed=seed)) for seed in seeds}
        runs = {seed: task.without_baseline(each) for seed, each in runs.items()}
        if run.earlier is not None:
            begun = task.begin(config, source)
            check_not_shorter(out, config.train, run.earlier, task.program(begun).order)
            for seed in there:
                finished_result(Run(out / f"{SEED}{seed}", runs[seed]), otherwise="choose another --out")
            run.accept()
        if run.result is not None and run.result.get("seeds") == seeds:
            run.write_environment(inputs=task.begin(config, source).inputs)
            logger.info("%s: this run is finished; nothing to do", out)
            return run.result
        found = []
        for seed, each in runs.items():
            logger.info("seed %s", seed)
            found.append(finetune_task(task, each, out / f"{SEED}{seed}", source=source))
        begun = task.begin(config, source)
        run.write_environment(inputs=begun.inputs)
        result = {"seeds": seeds, **spread(found, leave_out=begun.facts)}
        if torch.accelerator.is_available():
            begun.model.to(torch.accelerator.current_accelerator())  # where the average is judged
        result["ensemble"] = task.judge_average(begun, [out / f"{SEED}{seed}" / "model" for seed in seeds])
        result |= task.baselines(begun)  # once: the rows are the same for all
        run.finish(result | {"keep_state": True})
    return result


def spread(results: list[dict[str, Any]], *, leave_out: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """The mean of every score that all results have, by its dotted name, and its min, max and standard deviation.

    Args:
        results: of runs, as result.json has them.
        leave_out: names in them that hold no scores, such as what is known of the data.
    """
    flattened = [dict(flat({k: v for k, v in result.items() if k not in leave_out})) for result in results]
    names = [
        name
        for name, value in flattened[0].items()
        if is_number(value) and not name.startswith(NO_SCORES) and all(name in each for each in flattened)
    ]
    values = {name: [float(each[name]) for each in flattened] for name in names}
    return {
        "mean": {name: statistics.fmean(some) for name, some in values.items()},
        "spread": {
            name: {"min": min(some), "max": max(some), "std": statistics.stdev(some) if len(some) > 1 else 0.0}
            for name, some in values.items()
        },
    }
