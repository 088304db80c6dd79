"""Multi-label classification: any number of labels for each text, each with a probability of its own."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from quorem.config.tasks import MultiLabelConfig
from quorem.data.bad_rows import check_some_used
from quorem.data.documents import UNLABELLED, Document, RowCounts
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.finetuning.baseline import Baseline
from quorem.finetuning.pooled_task import PooledTask
from quorem.finetuning.program import sequence_logits
from quorem.finetuning.rows import (
    Examples,
    is_blank,
    whole_texts,
)
from quorem.finetuning.targets import LabelSets
from quorem.finetuning.task import Begun
from quorem.models.classifier import QuoremForSequenceClassification

logger = logging.getLogger(__name__)

THRESHOLD = 0.5


class BinaryCrossEntropy:
    """The mean over rows and labels of -log p of whether a row has the label.

    Args:
        num_labels: how many there are.
    """

    def __init__(self, num_labels: int) -> None:
        self.num_labels = num_labels

    def labels(self, examples: Examples, time: int) -> Tensor:
        """float32 (batch, num_labels), 1 where a row has the label."""
        return indicators(examples.labels, self.num_labels)

    def weight(self, examples: Examples) -> float:
        """The number of rows times that of labels."""
        return len(examples) * self.num_labels

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The sum over rows and labels."""
        return F.binary_cross_entropy_with_logits(outputs.logits.float(), labels, reduction="sum")

    def hits(self, outputs: Any, labels: Tensor) -> Tensor:
        """Rows all of whose labels are right."""
        return ((outputs.logits > 0) == (labels > 0)).all(-1).sum()


class MultiLabel(PooledTask):
    """Any number of labels for each text."""

    name, settings, problem_type = "multi_label", MultiLabelConfig, "multi_label_classification"
    chosen_by, shown = "micro_f1", ("micro_f1", "macro_f1", "exact_match")
    linear = "a logistic regression for each label"

    def resolve(self, config: MultiLabelConfig) -> MultiLabelConfig:
        """As in `TextTask`."""
        if not config.data.label_separator:
            raise UserError("data.label_separator=: is empty: give what stands between labels, such as , or |")
        found: MultiLabelConfig = super().resolve(config)
        return found

    def reading(self, data: Any) -> dict[str, Any]:
        """As in `TextTask`; the labels may be a list, which a further column may hold."""
        found = super().reading(data)
        return found | {"label_column": None, "more_columns": (*found["more_columns"], data.label_column)}

    def read(
        self, config: MultiLabelConfig, tokenizer: PreTrainedTokenizerFast, source: Source, counts: RowCounts
    ) -> tuple[Examples, dict[str, Any]]:
        """The rows, and the labels by name; a row without a label counts as one with none of them if it is `[]`.

        Raises:
            UserError: for labels that are no list of names, or fewer than two of them.
        """
        documents, given = [], []
        for document in source.documents(counts):
            *more, text = document.more
            document = replace(document, more=tuple(more))
            if text is None or not text.strip() or is_blank(document):
                counts.recount_as_skipped(1, "" if is_blank(document) else UNLABELLED)
                continue
            documents.append(document)
            given.append(split_labels(text, config.data.label_separator, f"{source}, row {document.row}"))
        check_some_used(counts, str(source))
        logger.info("%s: %s", source, counts)
        frequency = Counter(label for labels in given for label in labels)
        if len(frequency) < 2:
            raise UserError(
                f"{source}: column {config.data.label_column!r} has {len(frequency)} label in all: two or more are "
                f"needed (labels are split at data.label_separator={config.data.label_separator!r}, or are a JSON list)"
            )
        names = sorted(frequency)
        number = {name: place for place, name in enumerate(names)}
        examples = self.encoded(config, tokenizer, documents, str(source))
        labels = [sorted(number[label] for label in some) for some in given]
        splits = [document.split for document in documents]
        texts = whole_texts(documents) if config.classifier.baseline else []
        return replace(examples, labels=labels, splits=splits, texts=texts), {"labels": names}

    def changes(self, config: MultiLabelConfig, facts: dict[str, Any]) -> dict[str, Any]:
        """As in `PooledTask`, and the labels."""
        names = facts["labels"]
        return super().changes(config, facts) | {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: place for place, name in enumerate(names)},
        }

    def target(self, begun: Begun) -> LabelSets:
        """Which rows have which labels."""
        return LabelSets(indicators(begun.training.labels, len(begun.facts["labels"])).numpy() > 0)

    def objective(self, begun: Begun) -> BinaryCrossEntropy:
        """As in `TextTask`."""
        return BinaryCrossEntropy(len(begun.facts["labels"]))

    def outputs(self, model: QuoremForSequenceClassification, examples: Examples, **how: Any) -> Tensor:
        """The probability of each label float32 (rows, labels)."""
        return torch.sigmoid(sequence_logits(model, examples, **how))

    def scores(self, outputs: Tensor, examples: Examples, config: Any) -> dict[str, Any]:
        """F1 of all decisions together and of each label on average, and the share of rows without a mistake."""
        from sklearn.metrics import f1_score

        truth, found = indicators(examples.labels, outputs.shape[1]).numpy() > 0, (outputs > THRESHOLD).numpy()
        loss = F.binary_cross_entropy(outputs, torch.from_numpy(truth).float())
        return {
            **{f"{how}_f1": float(f1_score(truth, found, average=how, zero_division=0)) for how in ("micro", "macro")},
            "exact_match": float(np.mean((truth == found).all(1))),
            "loss": float(loss),
        }

    def linear_outputs(self, baseline: Baseline, begun: Begun) -> Tensor:
        """As in `TextTask`."""
        return torch.from_numpy(baseline.several(len(begun.facts["labels"]))).float()

    def columns(self, config: Any) -> tuple[Column, ...]:
        """The labels, a list, and the probability of each, an object."""
        return Column("prediction"), Column("probabilities")

    def decode(self, outputs: Tensor, examples: Examples, documents: Sequence[Document], config: Any) -> list[Any]:
        """As in `TextTask`: the labels above a half."""
        names = [config.id2label[number] for number in range(config.num_labels)]
        return [
            (
                [name for name, share in zip(names, shares, strict=True) if share > THRESHOLD],
                {name: Number(f"{share:.6f}") for name, share in zip(names, shares, strict=True)},
            )
            for shares in outputs.tolist()
        ]

    def said(self, result: dict[str, Any]) -> str:
        """The scores."""
        found = ", ".join(f"{name} {result[name]:.4f}" for name in ("micro_f1", "macro_f1", "exact_match"))
        line = f"held out, {len(result['labels'])} labels: {found} ({self.said_of_epoch(result)})"
        return "\n".join([line, *self.said_of_baselines(result)])


def indicators(labels: Sequence[Sequence[int]], num_labels: int) -> Tensor:
    """float32 (rows, num_labels), 1 where a row has the label."""
    found = torch.zeros(len(labels), num_labels)
    for row, some in enumerate(labels):
        found[row, list(some)] = 1.0
    return found


def split_labels(text: str, separator: str, place: str) -> list[str]:
    """The labels of a row, each once: of a JSON list, or what stands between separators.

    Raises:
        UserError: with `place`, for a list of anything but texts and numbers.
    """
    if not text.lstrip().startswith("["):
        return list(dict.fromkeys(filter(None, map(str.strip, text.split(separator)))))
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{place}: its labels {text[:60]!r} begin as a JSON list and are none ({error})") from error
    if not all(isinstance(each, str | int | float) for each in found):
        raise UserError(f'{place}: its labels {text[:60]!r} are no list of names: write them as ["a", "b"]')
    return list(dict.fromkeys(map(str, found)))
