"""Regression: a number for each text."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from quorem.config.tasks import RegressionConfig
from quorem.data.bad_rows import check_some_used
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.finetuning.baseline import Baseline
from quorem.finetuning.pooled_task import PooledTask
from quorem.finetuning.program import sequence_logits
from quorem.finetuning.rows import (
    Examples,
    usable,
    whole_texts,
)
from quorem.finetuning.targets import Numbers
from quorem.finetuning.task import Begun
from quorem.models.classifier import QuoremForSequenceClassification

logger = logging.getLogger(__name__)


class SquaredError:
    """The mean over rows of the squared distance to their standardised number.

    Args:
        mean: of the training rows' numbers.
        std: their standard deviation.
    """

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    def labels(self, examples: Examples, time: int) -> Tensor:
        """float32 (batch,), standardised."""
        return (torch.tensor(examples.labels) - self.mean) / self.std

    def weight(self, examples: Examples) -> float:
        """The number of rows."""
        return len(examples)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The sum over rows."""
        return F.mse_loss(outputs.logits.float().squeeze(-1), labels, reduction="sum")

    def hits(self, outputs: Any, labels: Tensor) -> None:
        """Nothing: no number is right or wrong."""


class Regression(PooledTask):
    """A number for each text, learned standardised; the model's config.json has the mean and the standard deviation."""

    name, settings, problem_type = "regression", RegressionConfig, "regression"
    chosen_by, shown, linear = "pearson", ("pearson", "spearman", "rmse"), "ridge regression"

    def read(
        self, config: RegressionConfig, tokenizer: PreTrainedTokenizerFast, source: Source, counts: RowCounts
    ) -> tuple[Examples, dict[str, Any]]:
        """The rows with their numbers.

        Raises:
            UserError: for a label that is no finite number, unless data.bad_rows is skip, or one number for all rows.
        """
        documents = usable(source.documents(counts), counts)
        check_some_used(counts, str(source))
        numbers = [_number(str(source), each, config.data, counts) for each in documents]
        documents = [each for each, number in zip(documents, numbers, strict=True) if number is not None]
        labels = [number for number in numbers if number is not None]
        check_some_used(counts, str(source))
        logger.info("%s: %s", source, counts)
        if len(set(labels)) < 2:
            raise UserError(f"{source}: every label is {labels[0]:g}: two numbers or more are needed to learn from")
        examples = self.encoded(config, tokenizer, documents, str(source))
        splits, texts = [document.split for document in documents], whole_texts(documents)
        return replace(examples, labels=labels, splits=splits, texts=texts if config.classifier.baseline else []), {}

    def more_facts(
        self, config: RegressionConfig, facts: dict[str, Any], training: Examples, held_out: Examples
    ) -> dict[str, Any]:
        """Mean and standard deviation of the training rows' numbers."""
        return {"target_mean": float(np.mean(training.labels)), "target_std": float(np.std(training.labels)) or 1.0}

    def changes(self, config: RegressionConfig, facts: dict[str, Any]) -> dict[str, Any]:
        """As in `PooledTask`, one number and its scale."""
        scale = {name: facts[name] for name in ("target_mean", "target_std")}
        return super().changes(config, facts) | {"num_labels": 1, **scale}

    def target(self, begun: Begun) -> Numbers:
        """The numbers, standardised."""
        numbers = np.asarray(begun.training.labels, np.float64)
        return Numbers((numbers - begun.facts["target_mean"]) / begun.facts["target_std"])

    def objective(self, begun: Begun) -> SquaredError:
        """As in `TextTask`."""
        return SquaredError(begun.facts["target_mean"], begun.facts["target_std"])

    def outputs(self, model: QuoremForSequenceClassification, examples: Examples, **how: Any) -> Tensor:
        """The numbers float64 (rows,), on the scale of the labels."""
        found = sequence_logits(model, examples, **how).squeeze(-1).double()
        return found * model.config.target_std + model.config.target_mean

    def scores(self, outputs: Tensor, examples: Examples, config: Any) -> dict[str, Any]:
        """Pearson's and Spearman's correlations (0 where undefined), mean absolute and root mean squared error."""
        from scipy.stats import pearsonr, spearmanr
        from sklearn.metrics import mean_absolute_error, root_mean_squared_error

        truth, found = np.asarray(examples.labels, np.float64), outputs.numpy()
        constant = len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(found) == 0
        return {
            "pearson": 0.0 if constant else float(pearsonr(truth, found).statistic),
            "spearman": 0.0 if constant else float(spearmanr(truth, found).statistic),
            "mae": float(mean_absolute_error(truth, found)),
            "rmse": float(root_mean_squared_error(truth, found)),
        }

    def linear_outputs(self, baseline: Baseline, begun: Begun) -> Tensor:
        """As in `TextTask`."""
        return torch.from_numpy(baseline.numbers())

    def columns(self, config: Any) -> tuple[Column, ...]:
        """The number."""
        return (Column("prediction", "number"),)

    def decode(self, outputs: Tensor, examples: Examples, documents: Sequence[Document], config: Any) -> list[Any]:
        """As in `TextTask`."""
        return [(Number(json.dumps(float(f"{number:.6g}"))),) for number in outputs.tolist()]

    def said(self, result: dict[str, Any]) -> str:
        """The scores."""
        found = ", ".join(f"{name} {result[name]:.4f}" for name in ("pearson", "spearman", "mae", "rmse"))
        line = f"held out, {result['held_out']['rows']:,} rows: {found} ({self.said_of_epoch(result)})"
        return "\n".join([line, *self.said_of_baselines(result)])


def _number(source: str, document: Document, data: Any, counts: RowCounts) -> float | None:
    """The label of a row; None where it is no number and left out, which is counted."""
    try:
        number = float(document.label or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        wrong = f"{source}, row {document.row}: column {data.label_column!r} is {document.label!r}, where a number is "
        if data.bad_rows == "error":
            raise UserError(
                f"{wrong}needed: correct it, leave the row's label empty, or skip such rows with data.bad_rows=skip"
            )
        counts.recount_as_bad(f"{wrong}needed")
        return None
    return number
