"""Sequence classification: labelled examples, their split, training steps and scores."""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from quorem.config.settings import TrainSettings
from quorem.data.batches import LengthGroupedOrder, collate
from quorem.errors import UserError, check_choice
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.models.configuration import TRUNCATIONS, WINDOWS
from quorem.models.excerpts import Excerpts, window_counts
from quorem.tokenization import Unknown, encode
from quorem.training.confusions import judge

logger = logging.getLogger(__name__)

LENGTH_MULTIPLE = 16  # of padded batches: 60 steps on IMDb peaked at 1.3 GB, at 1.8 GB with every length


@dataclass(frozen=True)
class Examples:
    """Encoded texts, special tokens included, their classes, and the split of each where they were read.

    In training with an n-gram branch also its scores of them, float32 (n, classes).
    """

    rows: list[list[int]]
    labels: list[int]
    splits: list[str | None] = field(default_factory=list)
    ngram_scores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: np.ndarray) -> "Examples":
        """Some of the examples."""
        scores = None if self.ngram_scores is None else self.ngram_scores[indices]
        return Examples([self.rows[i] for i in indices], [self.labels[i] for i in indices], ngram_scores=scores)


def label_names(labels: Sequence[str]) -> list[str]:
    """The classes, in order: by number if all are numbers, else by name.

    Raises:
        UserError: if there is only one class, or a class for every row.
    """
    names = set(labels)
    if len(names) < 2:
        raise UserError(f"every label is {next(iter(names), '(none)')!r}: two or more classes are needed to learn from")
    if len(names) == len(labels) and len(labels) > 2:
        raise UserError(f"all {len(labels)} labels differ: is this the right label column?")
    if len(names) > max(2, len(labels) / 2):
        logger.warning("%s classes in %s rows: is this the right label column?", f"{len(names):,}", f"{len(labels):,}")
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return sorted(names)
    if not all(math.isfinite(number) for number in numbers.values()):  # "nan" has no place in an order of numbers
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name], name))


def not_nan(labels: Sequence[str]) -> list[int]:
    """The places of labels that are no "nan", where all others are numbers: among these it is what is missing.

    What is left out is told; all places where "nan" may be a word.
    """
    kept = [place for place, label in enumerate(labels) if label.lower() != "nan"]
    try:
        [float(labels[place]) for place in kept]
    except ValueError:
        return list(range(len(labels)))
    if len(kept) < len(labels):
        logger.warning("%s rows are left out: their label is NaN, and all others are numbers", len(labels) - len(kept))
    return kept


def encode_rows(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    max_length: int | None,
    truncation: str,
    unknown: Unknown | None = None,
) -> list[list[int]]:
    """[CLS] text [SEP] as ids, at most max_length of them.

    Args:
        tokenizer: its ids.
        texts: any text; an empty one gives [CLS] [SEP].
        max_length: at least 4; None for whole texts, which the classifier cuts itself.
        truncation: what is kept of a longer text: its head, its tail, both in equal parts, or (windows) all of it.
        unknown: a tally to keep of whole texts.

    Raises:
        UserError: for another truncation or length.
    """
    check_choice("data.truncation", truncation, TRUNCATIONS)
    if max_length is not None and max_length < 4:
        raise UserError(f"data.max_length={max_length}: 4 or more needed")
    room = sys.maxsize if max_length is None or truncation == WINDOWS else max_length - 2
    head = {"head": room, "tail": 0}.get(truncation, room - room // 2)
    rows = []
    for start in range(0, len(texts), 1000):
        group = list(texts[start : start + 1000])
        encoded = encode(tokenizer, group)
        if unknown is not None:
            unknown.add(tokenizer, group, encoded, range(start + 1, start + len(group) + 1))
        for ids in encoded:
            kept = ids if len(ids) <= room else ids[:head] + ids[len(ids) - (room - head) :]
            rows.append([tokenizer.cls_token_id, *kept, tokenizer.sep_token_id])
    return rows


def tell_unknown(path: str | Path, unknown: Unknown) -> None:
    """Log how much of texts the model's vocabulary does not know, as a warning where it is most of them.

    Args:
        path: of the texts.
        unknown: the tally of `encode_rows`.
    """
    question = "; is this the column, and the kind of text, that the model was pre-trained on?"
    most = unknown.share > 0.5
    logger.log(
        logging.WARNING if most else logging.INFO, "%s: %s to the model%s", path, unknown, question if most else ""
    )


def tell_classes(names: Sequence[str], training: Examples, held_out: Examples) -> None:
    """Warn where rows are all of one class, or none is of some class."""
    for part, examples in (("trained on", training), ("held out", held_out)):
        there = {names[label] for label in examples.labels}
        lacking = [name for name in names if name not in there]
        if len(there) == 1:
            logger.warning("every row %s is of class %r: what is %s says nothing of the others", part, *there, part)
        elif lacking:
            logger.warning("no row %s is of class %s", part, ", ".join(map(repr, lacking[:5])))


def split(num_rows: int, *, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (training, validation): those of scikit-learn's train_test_split(test_size=share, random_state=seed).

    Raises:
        UserError: if one side would be empty, or for a seed out of range.
    """
    num_held_out = int(np.ceil(num_rows * share))
    if not 0 < num_held_out < num_rows:
        raise UserError(
            f"data.validation_share={share} of {num_rows} rows leaves nothing on one side: a share between 0 and 1, "
            "and at least 2 rows, are needed"
        )
    if not 0 <= seed < 2**32:
        raise UserError(f"data.split_seed={seed}: 0 or more, and below 2**32, needed")
    order = np.random.RandomState(seed).permutation(num_rows)  # scikit-learn's own generator
    return order[num_held_out:], order[:num_held_out]


class MicroBatch(NamedTuple):
    """Some rows of a step.

    Args:
        input_ids: int64 (batch, time).
        attention_mask: bool (batch, time), or None if all tokens are real.
        labels: int64 (batch,).
        own_tokens: real tokens of these rows, as far as the encoder reads them.
        num_rows: rows of the whole step.
        pieces: what the encoder reads of whole documents; None if they are not.
        ngram_scores: float32 (batch, classes), to add to the encoder's; None without a branch.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    labels: Tensor
    own_tokens: int
    num_rows: int
    pieces: Excerpts | None = None
    ngram_scores: Tensor | None = None


def piece_counts(model: QuoremForSequenceClassification, rows: Sequence[list[int]]) -> np.ndarray:
    """How many pieces int64 (n,) the encoder reads of each row."""
    config = model.config
    if not model.reads_whole or config.classifier_truncation != WINDOWS:
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


class ClassificationProgram:
    """Fine-tuning's steps, for `quorem.training.loop.fit`.

    Args:
        module: the classifier.
        examples: the training split.
        train: settings of the loop.
        pad_id: id of [PAD].
    """

    def __init__(
        self, module: QuoremForSequenceClassification, examples: Examples, train: TrainSettings, *, pad_id: int
    ) -> None:
        self.module, self.examples, self.train, self.pad_id = module, examples, train, pad_id
        longest = sys.maxsize  # that is read
        if module.reads_whole and module.config.classifier_truncation != WINDOWS:
            longest = module.config.classifier_length
        lengths = [min(len(row), longest) for row in examples.rows]
        self.order = LengthGroupedOrder(lengths, batch_size=train.batch_size, seed=train.seed)
        self.total_steps = self.order.steps(train)
        self._tokens = self._rows = 0
        self._correct: Tensor | int = 0

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[MicroBatch]:
        """This process's rows of the step, in parts that keep no more than micro_batch_size rows of full length."""
        chosen = self.order.indices(step)
        first, end = (len(chosen) * i // num_processes for i in (rank, rank + 1))
        size = self.train.micro_batch_size or self.train.batch_size
        own = self.examples.take(chosen[first:end])
        for part in share_out(piece_counts(self.module, own.rows), size):
            examples = own.take(np.arange(len(own))[part])
            input_ids, mask = collate(examples.rows, pad_id=self.pad_id, multiple=LENGTH_MULTIPLE)
            pieces = self.module.cut(input_ids, mask, multiple=LENGTH_MULTIPLE) if self.module.reads_whole else None
            read, seen = (input_ids, mask) if pieces is None else pieces[:2]
            tokens = read.numel() if seen is None else int(seen.sum())
            labels = torch.tensor(examples.labels)
            yield MicroBatch(input_ids, mask, labels, tokens, len(chosen), pieces, examples.ngram_scores)

    def loss(self, module: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """The micro-batch's share of the mean cross-entropy."""
        input_ids, mask, labels, own_tokens, num_rows, pieces, ngram_scores = micro_batch
        logits = module(input_ids, mask, pieces=pieces, ngram_scores=ngram_scores).logits.float()
        self._correct = self._correct + (logits.detach().argmax(-1) == labels).sum()
        self._rows, self._tokens = self._rows + len(labels), self._tokens + own_tokens
        return F.cross_entropy(logits, labels, reduction="sum") / num_rows

    def record(self) -> dict[str, Any]:
        """Training accuracy since the last record."""
        found = {"accuracy": float(self._correct) / max(1, self._rows), "tokens": self._tokens}
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
def probabilities(
    module: QuoremForSequenceClassification,
    rows: Sequence[list[int]],
    *,
    pad_id: int,
    batch_size: int,
    dtype: torch.dtype | None,
) -> Tensor:
    """Class probabilities float32 (rows, classes), on the CPU, in the order of rows.

    Args:
        module: the classifier; put into evaluation mode.
        rows: encoded texts.
        pad_id: id of [PAD].
        batch_size: rows at once, or as many pieces of whole documents; rows of like length go together.
        dtype: of autocast; None for float32 throughout.
    """
    module.eval()
    device = next(module.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: Tensor | None = None
    for part in share_out(piece_counts(module, [rows[i] for i in order]), batch_size):
        chosen = order[part]
        input_ids, mask = collate([rows[i] for i in chosen], pad_id=pad_id, multiple=LENGTH_MULTIPLE)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits = module(input_ids.to(device), None if mask is None else mask.to(device)).logits
        shares = torch.softmax(logits.float(), dim=-1).cpu()
        found = torch.empty(len(rows), shares.shape[-1]) if found is None else found
        found[torch.tensor(chosen)] = shares
    return torch.empty(0, 0) if found is None else found


def scores(shares: Tensor, labels: Sequence[int]) -> dict[str, Any]:
    """Accuracy, F1, confusions (see `judge`) and mean loss of class probabilities (n, classes)."""
    chosen = shares.gather(-1, torch.tensor(labels).unsqueeze(-1)).clamp(min=1e-9)
    found = judge(labels, shares.argmax(-1).numpy(), shares.shape[-1])
    return found | {"loss": float(-chosen.log().mean())}
