"""Predicting with whatever a fine-tuning run has learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quorem.config.shape import check_shape
from quorem.errors import UserError
from quorem.finetuning.checkpoint import models_to_use
from quorem.finetuning.predict import Predictor, load_predictor, predict_with
from quorem.finetuning.text_task import TextTask
from quorem.tasks import TASKS, load_task
from quorem.training.run_folder import read_settings


def predict(
    run: str | Path, path: str | Path | Sequence[str | Path], *, out: str | Path, **options: Any
) -> dict[str, int]:
    """Predict every row of data files: whatever fine-tuning reads.

    The output has the input's columns and rows, in order, and what the task predicts beside them: of classification
    `prediction`, the most probable class, and `probability`, the model's for it. They stay empty where the text is
    empty. Of a text file the columns are `line`, its number, and `text`; where a file is one document, the column is
    `file`. The rows of several files have a column `file` before all others, unless they have one. Rows are streamed;
    the output appears when it is complete.

    Args:
        run: a finished fine-tuning run, or its model folder.
        path: the data: a file, a folder, a pattern such as data/*.csv, or several of these.
        out: the file to write: CSV, JSON Lines or Parquet by the ending of its name (`WRITERS`); must not exist.
        options: `text_column`: the column of text; None for that of the run or, where the first file has none of that
            name, "text". `precision`: bf16, fp32 or auto. `format`: of the data, as data.format; auto: by its name or,
            where that says nothing, that of the run. `bad_rows`: error, or skip: rows that cannot be read are left
            out, counted, and listed beside the output. `encoding`, `delimiter`, `quoting`, `header`: as in section
            data; None for what the run's data has (an encoding only where a file is not UTF-8).

    Returns:
        Number of rows `read`, `predicted`, `empty` and `bad`; the last three add up to the first.

    Raises:
        UserError: for files that cannot be used.
    """
    return predict_with(lambda: load_predictor_of(Path(run)), path, out=out, **options)


def load_predictor_of(folder: Path) -> Predictor:
    """The model of a fine-tuning run, whatever it learned.

    Args:
        folder: of the run, or its model/.

    Raises:
        UserError: if there is none, it is damaged, or its task predicts no columns.
    """
    source = models_to_use(folder)[0]
    if not (source / "config.json").exists():
        found = (
            "a pre-training run: run quorem finetune on it first"
            if (folder / "discriminator").exists()
            else "no classifier"
        )
        raise UserError(f"{folder}: has {found} (no model/config.json)")
    task = load_task(task_name(source) or "classification")
    if not isinstance(task, TextTask):
        raise UserError(f"{folder}: is a run of --task {task.name}, which quorem recommend uses")
    return load_predictor(task, folder)


def task_name(source: Path) -> str | None:
    """The task that the model in a folder has learned, by its config.json; None if it is none of TASKS.

    Raises:
        UserError: if config.json is damaged.
    """
    config = read_settings(source / "config.json")
    made, problem = config.get("architectures") or [], config.get("problem_type")
    check_shape(made, [str], f"{source / 'config.json'}: architectures")
    of_kind = [name for name, line in TASKS.items() if line.architecture in made]
    exact = [name for name in of_kind if TASKS[name].problem_type == problem]
    return next(iter(exact or of_kind), None)
