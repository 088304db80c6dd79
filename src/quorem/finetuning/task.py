"""What a fine-tuning task brings to the engine: settings, rows, a model, a loss, scores, and what is predicted.

The engine (`quorem.finetuning.finetune`) reads, trains, judges the epochs, keeps the best or the last, and writes the
run folder; a task says what all of that means for it. Tasks on texts derive from
`quorem.finetuning.text_task.TextTask`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from quorem.config.finetuning import FinetuneTrainSettings
from quorem.data.documents import RowCounts
from quorem.data.source import Source
from quorem.errors import UserError, check_choice
from quorem.training.run_folder import Run

KEPT_EPOCHS = ("best", "last")

Again = Callable[[Any, Path], dict[str, Any]]
"""Fine-tunes with other settings into another folder, from the same source."""


@dataclass(frozen=True)
class Begun:
    """What a run is made from.

    Attributes:
        config: the resolved settings.
        source: what is read.
        inputs: fingerprints of what is read, by what it is.
        counts: a tally of the rows.
        tokenizer: of the pre-trained model.
        training: rows to learn from.
        held_out: rows that judge epochs.
        model: as it starts.
        facts: what result.json says of the data, such as the names of classes.
        encoder: the folder the model starts from.
    """

    config: Any
    source: Source
    inputs: dict[str, str]
    counts: RowCounts
    tokenizer: PreTrainedTokenizerFast
    training: Any
    held_out: Any
    model: PreTrainedModel
    facts: dict[str, Any] = field(default_factory=dict)
    encoder: Path = Path()


class Task(ABC):
    """A task.

    Attributes:
        name: its key in TASKS.
        settings: the class of its settings, with sections data and train, and `pretrained`.
        chosen_by: the score that chooses the best epoch; more is better.
        shown: scores that the log shows of an epoch.
        otherwise: what to do instead of training on a finished run without a checkpoint.
    """

    name: ClassVar[str]
    settings: ClassVar[type]
    chosen_by: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]
    otherwise: ClassVar[str] = "choose another --out"

    @abstractmethod
    def resolve(self, config: Any) -> Any:
        """The settings with what they leave open filled in, and checked.

        Raises:
            UserError: for an unknown name or a number out of range.
        """

    def reading(self, data: Any) -> dict[str, Any]:
        """The columns that are read, by the settings of section data."""
        return {name: getattr(data, name, None) for name in ("text_column", "label_column", "split_column")}

    @abstractmethod
    def from_scratch(self, config: Any) -> Any:
        """The settings of the control, which starts from new weights (--from-scratch)."""

    def without_baseline(self, config: Any) -> Any:
        """The settings of a run whose rows another one has judged the baseline on."""
        return config

    @abstractmethod
    def begin(self, config: Any, source: Source | None) -> Begun:
        """Read all that is needed before the folder is made: what cannot be used leaves nothing behind.

        Raises:
            UserError: for data or a model that cannot be used.
        """

    def has_phases(self, config: Any) -> bool:
        """Whether a run of its own comes before the first step, as long as this one."""
        return False

    def prepare(self, begun: Begun, run: Run, again: Again) -> Begun:
        """Do what comes before the first step, in the run's folder."""
        return begun

    @abstractmethod
    def program(self, begun: Begun) -> Any:
        """The steps, for `quorem.training.loop.fit`; its `order` is an EpochOrder."""

    @abstractmethod
    def optimizer(self, begun: Begun) -> torch.optim.Optimizer:
        """Over the model's parameters."""

    @abstractmethod
    def judge(self, begun: Begun) -> dict[str, Any]:
        """Scores on the held-out rows, `chosen_by` among them."""

    @abstractmethod
    def judge_average(self, begun: Begun, folders: Sequence[Path]) -> dict[str, Any]:
        """Scores of the average of several models, on the rows that a result is reported on.

        Args:
            begun: a run with the same rows.
            folders: of the models.
        """

    @abstractmethod
    def baselines(self, begun: Begun) -> dict[str, Any]:
        """Scores of cheap methods on the same rows, for result.json: `baselines`, by name; nothing if unwanted."""

    @abstractmethod
    def save(self, begun: Begun, folder: Path) -> None:
        """Write model and tokenizer."""

    def finish(self, begun: Begun, run: Run, best: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
        """What result.json says, from the scores of the best epoch and of the last."""
        return {**best, "last": last, **begun.facts}

    @abstractmethod
    def said(self, result: dict[str, Any]) -> str:
        """What the command prints of a result."""

    def said_of_epoch(self, result: dict[str, Any]) -> str:
        """Which epoch a result is of, for `said`."""
        if result.get("keep_epoch") == "last":
            return "the last epoch"
        return f"the best of the epochs by {self.chosen_by}; last: {result['last'][self.chosen_by]:.4f}"

    def said_of_baselines(self, result: dict[str, Any]) -> list[str]:
        """A line for each baseline of a result, for `said`."""
        return [
            f"{name}, on the same rows: " + ", ".join(f"{each} {found[each]:.4f}" for each in self.shown)
            for name, found in result.get("baselines", {}).items()
        ]

    def describe(self, begun: Begun, program: Any) -> str:
        """A line on what is trained, for the log."""
        parameters = [parameter for parameter in begun.model.parameters()]
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        return (
            f"{len(begun.training):,} rows to train on and {len(begun.held_out):,} held out; "
            f"{sum(parameter.numel() for parameter in parameters):,} parameters, {trained:,} of them trained; "
            f"{program.total_steps:,} steps of {begun.config.train.batch_size:,} rows"
        )


def check_train_of_finetuning(train: FinetuneTrainSettings, *, updates_rows: bool = False) -> None:
    """Refuse settings of the loop that only pre-training has, or that do not go together.

    Args:
        train: the settings.
        updates_rows: whether the task's optimizer knows train.table_updates.

    Raises:
        UserError: naming one.
    """
    for item in fields(train):
        value, why = getattr(train, item.name), item.metadata.get("elsewhere")
        if why and value != item.default:
            raise UserError(
                f"train.{item.name}={str(value).lower()}: is for pre-training; in fine-tuning {why}: leave it out"
            )
    check_choice("train.keep_epoch", train.keep_epoch, KEPT_EPOCHS)
    if train.keep_epoch == "last" and train.patience is not None:
        raise UserError(
            f"train.patience={train.patience} with train.keep_epoch=last: epochs before the last are not judged: give "
            "one of them"
        )
    if train.table_updates == "rows" and not updates_rows:
        raise UserError(
            "train.table_updates=rows: is for pre-training and next_item; other tasks update whole tables: leave it out"
        )
