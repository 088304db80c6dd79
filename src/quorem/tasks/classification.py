"""Classification: a class for each text."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from quorem.config.finetuning import FinetuneConfig
from quorem.data.bad_rows import check_some_used
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.source import Source
from quorem.errors import check_choice
from quorem.finetuning.baseline import Baseline
from quorem.finetuning.labels import label_names, not_nan, tell_classes
from quorem.finetuning.pooled_task import PooledTask
from quorem.finetuning.program import sequence_logits
from quorem.finetuning.rows import (
    Examples,
    usable,
    whole_texts,
)
from quorem.finetuning.targets import Classes
from quorem.finetuning.task import Again, Begun
from quorem.finetuning.text_task import FROZEN_RATE
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.training.confusions import judge, table
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)

RECIPES = ("paper", "origin")
CLASS_WEIGHTS = ("none", "balanced")


class CrossEntropy:
    """The mean over rows of -log p of their class, each row by the weight of its class.

    Args:
        weights: float32 (classes,); None for equal ones.
    """

    def __init__(self, weights: Tensor | None = None) -> None:
        self.weights = weights

    def labels(self, examples: Examples, time: int) -> Tensor:
        """int64 (batch,)."""
        return torch.tensor(examples.labels)

    def weight(self, examples: Examples) -> float:
        """The number of rows: balanced weights are 1 on average over all of them, not over those of each step."""
        return len(examples)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The sum over rows."""
        if self.weights is not None and self.weights.device != labels.device:
            self.weights = self.weights.to(labels.device)  # once
        return F.cross_entropy(outputs.logits.float(), labels, weight=self.weights, reduction="sum")

    def hits(self, outputs: Any, labels: Tensor) -> Tensor:
        """Rows whose largest score is that of their class."""
        return (outputs.logits.argmax(-1) == labels).sum()


class Classification(PooledTask):
    """A class for each text. With recipe=origin the head is first trained on the frozen encoder, into out/frozen."""

    name, settings = "classification", FinetuneConfig
    chosen_by, shown, linear = "accuracy", ("accuracy", "macro_f1"), "logistic regression"

    def is_paper(self, config: FinetuneConfig) -> bool:
        """Whether rates are those of the paper; the origin recipe has 1e-4 without decay, and max pooling."""
        return config.classifier.recipe == "paper"

    def resolve(self, config: FinetuneConfig) -> FinetuneConfig:
        """As in `TextTask`."""
        chosen = config.classifier
        check_choice("classifier.class_weights", chosen.class_weights, CLASS_WEIGHTS)
        check_choice("classifier.recipe", chosen.recipe, RECIPES)
        found: FinetuneConfig = super().resolve(config)
        return found

    def read(
        self, config: FinetuneConfig, tokenizer: PreTrainedTokenizerFast, source: Source, counts: RowCounts
    ) -> tuple[Examples, dict[str, Any]]:
        """The rows, and the classes as `labels`; a row whose label is NaN among numbers is left out."""
        documents = usable(source.documents(counts), counts)
        check_some_used(counts, str(source))
        labels = [(document.label or "").strip() for document in documents]
        kept = not_nan(labels)
        if len(kept) < len(labels):
            documents, labels = [documents[i] for i in kept], [labels[i] for i in kept]
            counts.recount_as_skipped(counts.used - len(kept))
        logger.info("%s: %s", source, counts)
        names = label_names(labels)
        number = {name: i for i, name in enumerate(names)}
        examples = self.encoded(config, tokenizer, documents, str(source))
        splits = [document.split for document in documents]
        texts = whole_texts(documents) if config.classifier.baseline else []
        labelled = replace(examples, labels=[number[label] for label in labels], splits=splits, texts=texts)
        return labelled, {"labels": names}

    def more_facts(
        self, config: FinetuneConfig, facts: dict[str, Any], training: Examples, held_out: Examples
    ) -> dict[str, Any]:
        """Nothing; warns of classes that are lacking."""
        tell_classes(facts["labels"], training.labels, held_out.labels)
        return {}

    def changes(self, config: FinetuneConfig, facts: dict[str, Any]) -> dict[str, Any]:
        """As in `PooledTask`, and the classes."""
        names = facts["labels"]
        return super().changes(config, facts) | {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
        }

    def has_phases(self, config: FinetuneConfig) -> bool:
        """With recipe=origin: the head is trained first."""
        return config.classifier.recipe == "origin" and not config.classifier.freeze_encoder

    def prepare(self, begun: Begun, run: Run, again: Again) -> Begun:
        """As in `PooledTask`; with recipe=origin the head is trained first, into `frozen`, and goes on from there."""
        config = begun.config
        if self.has_phases(config):
            first = replace(
                config,
                classifier=replace(config.classifier, freeze_encoder=True, baseline=False),
                train=replace(config.train, learning_rate=FROZEN_RATE),
            )
            logger.info("first phase: the encoder frozen")
            frozen = again(first, run.folder / "frozen")
            logger.info("second phase: all weights")
            model = self.build(config, run.folder / "frozen" / "model", begun.facts, keep=True)
            begun = replace(begun, model=model, facts=begun.facts | {"frozen_accuracy": frozen["accuracy"]})
        return super().prepare(begun, run, again)

    def target(self, begun: Begun) -> Classes:
        """The classes, by their weights."""
        return Classes(begun.training.labels, len(begun.facts["labels"]), self.objective(begun).weights)

    def objective(self, begun: Begun) -> CrossEntropy:
        """As in `TextTask`."""
        weights = None
        if begun.config.classifier.class_weights == "balanced":
            weights = balanced_weights(begun.training.labels, len(begun.facts["labels"]))
        return CrossEntropy(weights)

    def outputs(self, model: QuoremForSequenceClassification, examples: Examples, **how: Any) -> Tensor:
        """Probabilities of the classes float32 (rows, classes)."""
        return torch.softmax(sequence_logits(model, examples, **how), dim=-1)

    def scores(self, outputs: Tensor, examples: Examples, config: Any) -> dict[str, Any]:
        """Accuracy, F1, confusions (see `judge`) and mean loss."""
        chosen = outputs.gather(-1, torch.tensor(examples.labels).unsqueeze(-1)).clamp(min=1e-9)
        found = judge(examples.labels, outputs.argmax(-1).numpy(), outputs.shape[-1])
        return found | {"loss": float(-chosen.log().mean())}

    def linear_outputs(self, baseline: Baseline, begun: Begun) -> Tensor:
        """As in `TextTask`."""
        weights = begun.config.classifier.class_weights
        found = baseline.classes(len(begun.facts["labels"]), class_weight=None if weights == "none" else weights)
        return torch.from_numpy(found)

    def columns(self, config: Any) -> tuple[Column, ...]:
        """The most probable class, and its probability."""
        return Column("prediction"), Column("probability", "number")

    def decode(self, outputs: Tensor, examples: Examples, documents: Sequence[Document], config: Any) -> list[Any]:
        """As in `TextTask`; the probability has the same digits in every format."""
        best = outputs.max(-1)
        return [
            (config.id2label[label], Number(f"{share:.6f}"))
            for share, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def kinds(self, begun: Begun) -> str:
        """As in `TextTask`."""
        return f"{len(begun.facts['labels']):,} classes; "

    def said(self, result: dict[str, Any]) -> str:
        """Accuracy, F1 and confusions."""
        lines = [
            f"held-out accuracy {result['accuracy']:.4f}, macro f1 {result['macro_f1']:.4f} "
            f"({self.said_of_epoch(result)})"
        ]
        lines += self.said_of_baselines(result)
        if "frozen_accuracy" in result:
            lines.append(f"with the encoder frozen: {result['frozen_accuracy']:.4f}")
        return "\n".join([*lines, table(result)])


def balanced_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """A weight for each class, float32 (num_classes,): scikit-learn's balanced ones; 1 where no row is of a class."""
    from sklearn.utils.class_weight import compute_class_weight

    there, weights = np.unique(labels), torch.ones(num_classes)
    weights[there] = torch.tensor(compute_class_weight("balanced", classes=there, y=labels), dtype=torch.float32)
    return weights
