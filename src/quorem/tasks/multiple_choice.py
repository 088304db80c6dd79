"""Multiple choice: which of several texts goes with a question."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from quorem.config.tasks import MultipleChoiceConfig
from quorem.data.bad_rows import check_some_used
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.finetuning.program import infer
from quorem.finetuning.rows import Examples, encode_pairs, listed, tell_unknown, usable
from quorem.finetuning.task import Begun
from quorem.finetuning.text_task import TextTask
from quorem.models.configuration import WINDOWS
from quorem.models.multiple_choice import QuoremForMultipleChoice
from quorem.tokenization import Unknown

logger = logging.getLogger(__name__)


class ChoiceCrossEntropy:
    """The mean over rows of -log p of the right choice."""

    def labels(self, examples: Examples, time: int) -> Tensor:
        """int64 (batch,)."""
        return torch.tensor(examples.labels)

    def weight(self, examples: Examples) -> float:
        """The number of rows."""
        return len(examples)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The sum over rows."""
        return F.cross_entropy(outputs.logits.float(), labels, reduction="sum")

    def hits(self, outputs: Any, labels: Tensor) -> Tensor:
        """Rows whose right choice has the largest score."""
        return (outputs.logits.argmax(-1) == labels).sum()


class MultipleChoice(TextTask):
    """Which of several choices goes with a text: [CLS] text [SEP] choice [SEP] for each."""

    name, settings = "multiple_choice", MultipleChoiceConfig
    model_class, network, new = QuoremForMultipleChoice, "multiple_choice", ("sequence_summary.", "classifier.")
    chosen_by, shown = "accuracy", ("accuracy", "loss")
    row_kind = "choices"

    def more_columns(self, data: Any) -> tuple[str, ...]:
        """Those of the choices."""
        return tuple(data.choice_columns.split(","))

    def resolve(self, config: MultipleChoiceConfig) -> MultipleChoiceConfig:
        """As in `TextTask`."""
        columns = config.data.choice_columns.split(",")
        if len(columns) < 2 or not all(columns) or len(set(columns)) < len(columns):
            raise UserError(
                f"data.choice_columns={config.data.choice_columns}: the names of two columns or more are needed, with "
                "commas between them, as data.choice_columns=a,b,c"
            )
        if config.data.truncation == WINDOWS:
            raise UserError("data.truncation=windows: reads single texts: choose head, tail or both")
        found: MultipleChoiceConfig = super().resolve(config)
        return found

    def read(
        self, config: MultipleChoiceConfig, tokenizer: PreTrainedTokenizerFast, source: Source, counts: RowCounts
    ) -> tuple[Examples, dict[str, Any]]:
        """The rows, a pair for each choice, with the number of the right one.

        Raises:
            UserError: for a label that is neither a number nor the name of a choice.
        """
        documents = usable(source.documents(counts), counts)
        check_some_used(counts, str(source))
        logger.info("%s: %s", source, counts)
        names = config.data.choice_columns.split(",")
        labels = [_number(str(source), each, names, config.data) for each in documents]
        unknown = Unknown()
        examples = _encode(tokenizer, documents, config.data, unknown)
        tell_unknown(str(source), unknown)
        splits = [document.split for document in documents]
        return replace(examples, labels=labels, splits=splits), {"labels": names}

    def changes(self, config: MultipleChoiceConfig, facts: dict[str, Any]) -> dict[str, Any]:
        """The names of the choices."""
        names = facts["labels"]
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: place for place, name in enumerate(names)},
        }

    def objective(self, begun: Begun) -> ChoiceCrossEntropy:
        """As in `TextTask`."""
        return ChoiceCrossEntropy()

    def encode(
        self, documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, data: Any, model: Any, unknown: Unknown
    ) -> Examples:
        """As in `TextTask`."""
        return _encode(tokenizer, documents, data, unknown)

    def outputs(self, model: QuoremForMultipleChoice, examples: Examples, **how: Any) -> Tensor:
        """Probabilities of the choices float32 (rows, choices)."""
        found = torch.empty(len(examples), model.config.num_labels)
        for chosen, outputs in infer(model, examples, **how):
            found[torch.tensor(chosen)] = torch.softmax(outputs.logits.float(), dim=-1).cpu()
        return found

    def scores(self, outputs: Tensor, examples: Examples, config: Any) -> dict[str, Any]:
        """Accuracy and mean loss."""
        labels = np.asarray(examples.labels)
        own = outputs.gather(-1, torch.from_numpy(labels).unsqueeze(-1)).clamp(min=1e-9)
        accuracy = float(np.mean(outputs.argmax(-1).numpy() == labels))
        return {"accuracy": accuracy, "loss": float(-own.log().mean())}

    def columns(self, config: Any) -> tuple[Column, ...]:
        """The name of the most probable choice's column, and its probability."""
        return Column("prediction"), Column("probability", "number")

    def decode(self, outputs: Tensor, examples: Examples, documents: Sequence[Document], config: Any) -> list[Any]:
        """As in `TextTask`."""
        best = outputs.max(-1)
        return [
            (config.id2label[choice], Number(f"{share:.6f}"))
            for share, choice in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def document(self, value: Any) -> Document:
        """A text and a list of choices."""
        pair = listed(value) or []
        choices = listed(pair[1]) if len(pair) == 2 else None
        if choices is None:
            raise UserError(f"{value!r}: a text and a list of choices are needed for each row")
        return Document(str(pair[0]), more=tuple(map(str, choices)))

    def said(self, result: dict[str, Any]) -> str:
        """The accuracy, beside that of guessing."""
        chance = 1 / len(result["labels"])
        line = f"held-out accuracy {result['accuracy']:.4f} of {len(result['labels'])} choices (by chance {chance:.4f}"
        return f"{line}; {self.said_of_epoch(result)})"


def _encode(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document], data: Any, unknown: Unknown) -> Examples:
    """Rows of as many pairs as there are choices."""
    choices = len(data.choice_columns.split(","))
    if wrong := next((each for each in documents if len(each.more) != choices), None):
        raise UserError(f"row {wrong.row}: {len(wrong.more)} choices, where the model chooses of {choices}")
    first = [each.text for each in documents for _ in range(choices)]
    second = [choice or "" for each in documents for choice in each.more]
    pairs = encode_pairs(tokenizer, first, second, data, unknown=unknown)
    group = range(0, len(first), choices)
    rows = [pairs.rows[start : start + choices] for start in group]
    return Examples(rows, [], boundaries=[pairs.boundaries[start : start + choices] for start in group])


def _number(source: str, document: Document, names: Sequence[str], data: Any) -> int:
    label = (document.label or "").strip()
    if label in names:
        return names.index(label)
    if label.isdecimal() and data.first_choice <= int(label) < data.first_choice + len(names):
        return int(label) - data.first_choice
    last = data.first_choice + len(names) - 1
    raise UserError(
        f"{source}, row {document.row}: column {data.label_column!r} is {label!r}, where a number from "
        f"{data.first_choice} to {last} (data.first_choice is the first) or one of {', '.join(names)} is needed"
    )
