"""Fine-tuning's steps on rows of texts, and what a model says of them."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quorem.config.settings import TrainSettings
from quorem.data.batches import LengthGroupedOrder, collate
from quorem.finetuning.rows import Examples
from quorem.models.configuration import WINDOWS
from quorem.models.excerpts import Excerpts, window_counts

LENGTH_MULTIPLE = 16  # of padded batches: 60 steps on IMDb peaked at 1.3 GB, at 1.8 GB with every length


class Objective(Protocol):
    """What a task learns by."""

    def labels(self, examples: Examples, time: int) -> Any:
        """The labels of rows that are padded to `time` tokens: a tensor, or a named tuple of tensors."""

    def weight(self, examples: Examples) -> float:
        """What the sum of the rows' losses is divided by to be their mean, at least above 0; for all rows of a step."""

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """The sum of the rows' losses, float32 (), from what the model gives for them."""

    def hits(self, outputs: Any, labels: Any) -> Tensor | None:
        """How many rows the model is right about, (), for the log; None where that says nothing."""


class MicroBatch(NamedTuple):
    """Some rows of a step.

    Args:
        input_ids: int64 (batch, time).
        attention_mask: bool (batch, time), or None if all tokens are real.
        token_type_ids: int64 (batch, time), or None if all are 0.
        labels: of the objective.
        own_tokens: real tokens of these rows, as far as the encoder reads them.
        num_rows: of these.
        weight: what the losses of the whole step are divided by.
        more: what else the model's forward takes.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    token_type_ids: Tensor | None
    labels: Any
    own_tokens: int
    num_rows: int
    weight: float
    more: dict[str, Any]


def reads_whole(module: nn.Module) -> bool:
    """Whether a row of input_ids is a whole document, which the model cuts itself."""
    return bool(getattr(module, "reads_whole", False))


def longest_row(module: PreTrainedModel) -> int:
    """Tokens of the longest row that a model reads at once; documents that it cuts itself may be longer."""
    return sys.maxsize if reads_whole(module) else int(module.config.longest_row)


def piece_counts(module: PreTrainedModel, rows: Sequence[list[int]]) -> np.ndarray:
    """How many pieces int64 (n,) the encoder reads of each row."""
    config = module.config
    if not reads_whole(module) or config.classifier_truncation != WINDOWS:
        return np.ones(len(rows), np.int64)
    return window_counts(torch.tensor([len(row) for row in rows]), config.classifier_length).numpy()


def share_out(counts: np.ndarray, most: int) -> Iterator[slice]:
    """Runs of documents that together have at most so many pieces, or are a single one.

    Args:
        counts: int64 (n,), pieces of each.
        most: at least 1.
    """
    start = pieces = 0
    for place, count in enumerate(counts.tolist()):
        if place > start and pieces + count > most:
            yield slice(start, place)
            start, pieces = place, 0
        pieces += count
    if start < len(counts):
        yield slice(start, len(counts))


def row_length(row: list[Any]) -> int:
    """Tokens of a row, or of the longest of its choices."""
    return max(map(len, row)) if row and isinstance(row[0], list) else len(row)


def padded(examples: Examples, *, pad_id: int, most: int = sys.maxsize) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Rows as input_ids int64, attention_mask bool or None and token_type_ids int64 or None, (batch, time) each.

    Where a row is several, choices, they are (batch, choices, time) each.
    """
    if examples.rows and isinstance(examples.rows[0][0], list):
        choices, fields = len(examples.rows[0]), list[list[Any]]([examples.rows, examples.boundaries])
        flat = [[each for row in field for each in row] for field in fields]
        found = padded(Examples(flat[0], [], boundaries=flat[1]), pad_id=pad_id, most=most)
        ids, mask, types = (None if each is None else each.unflatten(0, (-1, choices)) for each in found)
        assert ids is not None
        return ids, mask, types
    input_ids, mask = collate(examples.rows, pad_id=pad_id, multiple=LENGTH_MULTIPLE, most=most)
    if not examples.boundaries:
        return input_ids, mask, None
    place = torch.arange(input_ids.shape[1])
    types = place >= torch.tensor(examples.boundaries).unsqueeze(1)
    return input_ids, mask, (types if mask is None else types & mask).long()


class TextProgram:
    """Fine-tuning's steps, for `quorem.training.loop.fit`.

    Args:
        module: the model.
        examples: rows to learn from.
        train: settings of the loop.
        pad_id: id of [PAD].
        objective: labels and loss.
    """

    def __init__(
        self, module: PreTrainedModel, examples: Examples, train: TrainSettings, *, pad_id: int, objective: Objective
    ) -> None:
        self.module, self.examples, self.train, self.pad_id = module, examples, train, pad_id
        self.objective = objective
        longest = sys.maxsize  # that is read
        if reads_whole(module) and module.config.classifier_truncation != WINDOWS:
            longest = module.config.classifier_length
        lengths = [min(row_length(row), longest) for row in examples.rows]
        self.order = LengthGroupedOrder(lengths, batch_size=train.batch_size, seed=train.seed)
        self.total_steps = self.order.steps(train)
        self._tokens = self._rows = 0
        self._correct: Tensor | int = 0
        self._has_hits = False

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[MicroBatch]:
        """This process's rows of the step, in parts that keep no more than micro_batch_size rows of full length."""
        chosen = self.order.indices(step)
        first, end = (len(chosen) * i // num_processes for i in (rank, rank + 1))
        size = self.train.micro_batch_size or self.train.batch_size
        weight = self.objective.weight(self.examples.take(chosen))
        own = self.examples.take(chosen[first:end])
        for part in share_out(piece_counts(self.module, own.rows), size):
            examples = own.take(np.arange(len(own))[part])
            input_ids, mask, types = padded(examples, pad_id=self.pad_id, most=longest_row(self.module))
            pieces: Excerpts | None = None
            if reads_whole(self.module):
                pieces = self.module.cut(input_ids, mask, multiple=LENGTH_MULTIPLE)
            more: dict[str, Any] = {"pieces": pieces} if pieces is not None else {}
            more |= {"branch_scores": examples.branch_scores} if examples.branch_scores is not None else {}
            read, seen = (input_ids, mask) if pieces is None else pieces[:2]
            tokens = read.numel() if seen is None else int(seen.sum())
            labels = self.objective.labels(examples, input_ids.shape[-1])
            yield MicroBatch(input_ids, mask, types, labels, tokens, len(examples), weight, more)

    def loss(self, module: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """The micro-batch's share of the mean loss."""
        input_ids, mask, types, labels, own_tokens, num_rows, weight, more = micro_batch
        outputs = module(input_ids, mask, token_type_ids=types, **more)
        with torch.no_grad():
            hits = self.objective.hits(outputs, labels)
        if hits is not None:
            self._has_hits, self._correct = True, self._correct + hits
        self._rows, self._tokens = self._rows + num_rows, self._tokens + own_tokens
        return self.objective.loss(outputs, labels) / weight

    def record(self) -> dict[str, Any]:
        """Tokens since the last record and, where it says something, training accuracy."""
        found: dict[str, Any] = {"tokens": self._tokens}
        if self._has_hits:
            found["accuracy"] = float(self._correct) / max(1, self._rows)
        self.reset()
        return found

    def reset(self) -> None:
        """Forget what was seen since the last record."""
        self._tokens = self._rows = 0
        self._correct = 0

    def state_dict(self) -> dict[str, Tensor]:
        """What was seen since the last record, as sums."""
        return {"counted": torch.tensor([int(self._correct), self._rows, self._tokens])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        self._correct, self._rows, self._tokens = state["counted"].tolist()


@torch.no_grad()
def infer(
    module: PreTrainedModel, examples: Examples, *, pad_id: int, batch_size: int, dtype: torch.dtype | None
) -> Iterator[tuple[list[int], Any]]:
    """What a model gives for rows: the places of some of them, and its output for these, on the device.

    Args:
        module: the model; put into evaluation mode.
        examples: rows; those of like length go together.
        pad_id: id of [PAD].
        batch_size: rows at once, or as many pieces of whole documents.
        dtype: of autocast; None for float32 throughout.
    """
    module.eval()
    device, rows = module.device, examples.rows
    order = np.array(sorted(range(len(rows)), key=lambda i: row_length(rows[i])), np.int64)
    for part in share_out(piece_counts(module, [rows[i] for i in order]), batch_size):
        chosen = order[part]
        inputs = [
            None if each is None else each.to(device)
            for each in padded(examples.take(chosen), pad_id=pad_id, most=longest_row(module))
        ]
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            outputs = module(inputs[0], inputs[1], token_type_ids=inputs[2])
        yield chosen.tolist(), outputs


def sequence_logits(module: PreTrainedModel, examples: Examples, **how: Any) -> Tensor:
    """Scores float32 (rows, labels) of a model with one output a row, on the CPU, in the order of rows; see `infer`."""
    found = torch.empty(len(examples), module.config.num_labels)
    for chosen, outputs in infer(module, examples, **how):
        found[torch.tensor(chosen)] = outputs.logits.float().cpu()
    return found
