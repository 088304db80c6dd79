"""Fine-tuning tasks: one file each, one line each in `TASKS`.

Reading TASKS is light: a task's own file is imported when it is used, for it needs torch.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quorem.config.finetuning import FinetuneConfig
from quorem.config.next_item import NextItemConfig
from quorem.config.tasks import (
    MultiLabelConfig,
    MultipleChoiceConfig,
    QuestionAnsweringConfig,
    RegressionConfig,
    TaggingConfig,
)
from quorem.errors import UserError, check_choice

if TYPE_CHECKING:
    from quorem.data.source import Source
    from quorem.finetuning.task import Task
    from quorem.plan.dry_run import DryRun


class Line(NamedTuple):
    """A task.

    Attributes:
        settings: the class of its settings.
        architecture: the model class that config.json of its model folders names.
        place: where the task is: a file of this room and a class there.
        what: what it learns, for --help.
        problem_type: that of config.json, where the architecture does not say which task it is.
    """

    settings: type[Any]
    architecture: str
    place: tuple[str, str]
    what: str
    problem_type: str | None = None


TASKS: dict[str, Line] = {
    "classification": Line(
        FinetuneConfig, "QuoremForSequenceClassification", ("classification", "Classification"), "a class for each text"
    ),
    "multi_label": Line(
        MultiLabelConfig,
        "QuoremForSequenceClassification",
        ("multi_label", "MultiLabel"),
        "any number of labels for each text",
        "multi_label_classification",
    ),
    "regression": Line(
        RegressionConfig,
        "QuoremForSequenceClassification",
        ("regression", "Regression"),
        "a number for each text",
        "regression",
    ),
    "tagging": Line(
        TaggingConfig,
        "QuoremForTokenClassification",
        ("tagging", "Tagging"),
        "a tag for each word",
    ),
    "multiple_choice": Line(
        MultipleChoiceConfig, "QuoremForMultipleChoice", ("multiple_choice", "MultipleChoice"), "one of several choices"
    ),
    "question_answering": Line(
        QuestionAnsweringConfig,
        "QuoremForQuestionAnswering",
        ("question_answering", "QuestionAnswering"),
        "answers to questions, found in a text",
    ),
    "next_item": Line(
        NextItemConfig, "QuoremForNextItem", ("next_item", "NextItem"), "the next item of a session: a recommender"
    ),
}


def load_task(name: str) -> "Task":
    """A task by its name.

    Raises:
        UserError: for an unknown one.
    """
    check_choice("task", name, TASKS)
    file, kind = TASKS[name].place
    task: Task = getattr(import_module(f"quorem.tasks.{file}"), kind)()
    return task


def finetune(config: Any, out: Path, *, source: "Source | None" = None, seeds: int | None = None) -> dict[str, Any]:
    """Fine-tune for the task of the settings: `quorem.finetuning.finetune.finetune_task`.

    Args:
        config: the settings, of one of TASKS.
        out: the run folder.
        source: what to read instead of data.path.
        seeds: how many runs, into folders of their own there (`quorem.finetuning.seeds`); None for one, into `out`.

    Raises:
        UserError: for settings, data or folders that cannot be used.
    """
    from quorem.finetuning.finetune import finetune_task
    from quorem.finetuning.seeds import finetune_seeds

    if out.resolve() == Path(config.pretrained).resolve():
        raise UserError(f"--out {out}: is the run to start from: choose another --out")
    if seeds is not None:
        return finetune_seeds(_task_of(config), config, out, number=seeds, source=source)

    return finetune_task(_task_of(config), config, out, source=source)


def dry_run(config: Any, *, source: "Source | None" = None) -> "DryRun":
    """Say what `finetune` would take; see `quorem.finetuning.finetune.dry_run_task`.

    Raises:
        UserError: what `finetune` would raise.
    """
    from quorem.finetuning.finetune import dry_run_task

    return dry_run_task(_task_of(config), config, source=source)


def _task_of(config: Any) -> "Task":
    task = load_task(config.task)
    if not isinstance(config, task.settings):
        raise UserError(f"task={config.task}: these are the settings of another task: give --task {config.task}")
    return task
