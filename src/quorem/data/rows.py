"""Rows of pre-training: how documents become fixed-width input, one class for each way, one line for each in `ROWS`.

    packed       end to end, cut at max_length: no padding; a row's documents see each other
    isolated     several whole documents to a row, each of which sees itself only: little padding
    documents    a row for each document, like lengths together, a budget of tokens for each batch: little padding

All window long documents: nothing is cut off. A batch is the rows' ids int64 (batch, time) and a mask, None if every
token is real and sees every other: bool (batch, time), real tokens, or bool (batch, time, time), who sees whom.
"""

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from quorem.config.settings import DataSettings
from quorem.data.batches import HELD_OUT, EpochOrder, TokenBudgetOrder, collate, step_seed
from quorem.data.shards import Shards
from quorem.errors import UserError

LENGTH_MULTIPLE = 4  # of padded batches: the CPU's matrix library keeps memory for every shape it meets


class PackedRows:
    """The documents end to end, cut into rows of [CLS] and max_length - 1 tokens: no padding but in the last row.

    A long document fills several rows and none of it is lost; documents are separated by the [SEP] that ends each.

    Args:
        shards: the documents.
        max_length: tokens in a row, [CLS] included; at least 2.
        cls_id: id of [CLS].
        pad_id: id of [PAD].
    """

    def __init__(self, shards: Shards, *, max_length: int, cls_id: int, pad_id: int) -> None:
        self.tokens, self.width = shards.tokens, max_length - 1
        self.cls_id, self.pad_id = cls_id, pad_id

    def __len__(self) -> int:
        return -(-len(self.tokens) // self.width)

    def order(self, *, batch_size: int, seed: int, among: np.ndarray | None = None) -> EpochOrder:
        """Batches of `batch_size` rows: of all, or of those `among`."""
        return EpochOrder(len(self) if among is None else len(among), batch_size=batch_size, seed=seed)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """input_ids int64 (batch, time), and attention_mask bool (batch, time) or None if nothing is padding."""
        return collate(
            [[self.cls_id, *self.tokens[i * self.width : (i + 1) * self.width].tolist()] for i in indices.tolist()],
            pad_id=self.pad_id,
        )

    def spans(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the tokens of some rows lie in the shards: starts and lengths, int64 (n,) each."""
        starts = indices * self.width
        return starts, np.minimum(self.width, len(self.tokens) - starts)


class DocumentRows:
    """A row for each document: [CLS], its tokens, its [SEP]; a document too long for one is windowed into several.

    Batches hold documents of like length, as many as `batch_size` rows of max_length tokens have room for.

    Args:
        shards: the documents.
        max_length: tokens in a row, [CLS] included; at least 2.
        cls_id: id of [CLS].
        pad_id: id of [PAD].
    """

    def __init__(self, shards: Shards, *, max_length: int, cls_id: int, pad_id: int) -> None:
        self.tokens, self.max_length = shards.tokens, max_length
        self.cls_id, self.pad_id = cls_id, pad_id
        self.multiple = LENGTH_MULTIPLE if max_length % LENGTH_MULTIPLE == 0 else 1  # no row above max_length
        self.starts, self.lengths = windows(shards.ends, width=max_length - 1)

    def __len__(self) -> int:
        return len(self.starts)

    def order(self, *, batch_size: int, seed: int, among: np.ndarray | None = None) -> EpochOrder:
        """Batches of at most batch_size * max_length tokens, padding included: of all rows, or of those `among`."""
        lengths = (self.lengths if among is None else self.lengths[among]) + 1
        return TokenBudgetOrder(lengths, budget=batch_size * self.max_length, multiple=self.multiple, seed=seed)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """input_ids int64 (batch, time), and attention_mask bool (batch, time) or None if nothing is padding."""
        return collate([self.row(i) for i in indices.tolist()], pad_id=self.pad_id, multiple=self.multiple)

    def row(self, index: int) -> list[int]:
        """The ids of a document or window."""
        start = int(self.starts[index])
        return [self.cls_id, *self.tokens[start : start + int(self.lengths[index])].tolist()]

    def spans(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the tokens of some rows lie in the shards: starts and lengths, int64 (n,) each."""
        return self.starts[indices], self.lengths[indices]


class IsolatedRows(DocumentRows):
    """Whole documents side by side in rows of max_length tokens: each with its own [CLS], seeing itself only.

    Documents are put where they fit best, the longest first, so that about as many rows are needed as there are tokens
    for. Which documents share a row is the same in every epoch; they do not notice each other.
    """

    def __init__(self, shards: Shards, *, max_length: int, cls_id: int, pad_id: int) -> None:
        super().__init__(shards, max_length=max_length, cls_id=cls_id, pad_id=pad_id)
        row_of = best_fit(self.lengths + 1, capacity=max_length)
        self.members = np.argsort(row_of, kind="stable")
        self.first = np.concatenate([[0], np.cumsum(np.bincount(row_of))])

    def __len__(self) -> int:
        return len(self.first) - 1

    def order(self, *, batch_size: int, seed: int, among: np.ndarray | None = None) -> EpochOrder:
        """Batches of `batch_size` rows: of all, or of those `among`."""
        return EpochOrder(len(self) if among is None else len(among), batch_size=batch_size, seed=seed)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """input_ids int64 (batch, time), and attention_mask bool (batch, time, time): who sees whom."""
        rows, numbers = [], []
        for index in indices.tolist():
            parts = [self.row(member) for member in self.members[self.first[index] : self.first[index + 1]].tolist()]
            rows.append([token for part in parts for token in part])
            numbers.append([number for number, part in enumerate(parts, 1) for _ in part])
        input_ids, mask = collate(rows, pad_id=self.pad_id, multiple=self.multiple)
        if mask is None and all(row[-1] == 1 for row in numbers):
            return input_ids, None
        document, _ = collate(numbers, pad_id=0, multiple=self.multiple)
        return input_ids, (document.unsqueeze(2) == document.unsqueeze(1)) & (document > 0).unsqueeze(2)

    def spans(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the tokens of some rows lie in the shards: a span for each document or window of theirs."""
        members = [self.members[self.first[index] : self.first[index + 1]] for index in indices.tolist()]
        return super().spans(np.concatenate([np.empty(0, np.int64), *members]))


ROWS: dict[str, type[PackedRows] | type[DocumentRows]] = {
    "packed": PackedRows,
    "isolated": IsolatedRows,
    "documents": DocumentRows,
}


class SomeRows:
    """Some of the rows of another class; the same methods.

    Args:
        rows: all.
        chosen: int64 (n,), numbers of the rows that are meant.
    """

    def __init__(self, rows: PackedRows | DocumentRows, chosen: np.ndarray) -> None:
        self.rows, self.chosen = rows, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def order(self, *, batch_size: int, seed: int) -> EpochOrder:
        """Batches of these rows, numbered from 0."""
        return self.rows.order(batch_size=batch_size, seed=seed, among=self.chosen)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """What the rows of these numbers are."""
        return self.rows.batch(self.chosen[indices])

    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Where their tokens lie in the shards: starts and lengths, int64 (n,) each."""
        return self.rows.spans(self.chosen)


def split_rows(
    data: DataSettings, shards: Shards, tokenizer: PreTrainedTokenizerFast, *, seed: int
) -> tuple[PackedRows | DocumentRows | SomeRows, SomeRows | None]:
    """The rows to train on, and those held out to judge on, if any.

    Raises:
        UserError: if there are too few to hold any out.
    """
    rows = ROWS[data.rows](
        shards, max_length=data.max_length or 2, cls_id=tokenizer.cls_token_id, pad_id=tokenizer.pad_token_id
    )
    return hold_out(rows, data.held_out, seed=seed) if data.held_out else (rows, None)


def hold_out(rows: PackedRows | DocumentRows, share: float, *, seed: int) -> tuple[SomeRows, SomeRows]:
    """The rows to train on and those to judge on, drawn at random: a share of all, rounded, at least one of each.

    Rows, not documents: what a window of a long document is judged on may have its neighbours trained on.

    Raises:
        UserError: if there is one row only.
    """
    if len(rows) < 2:
        raise UserError(f"data.held_out={share}: there is one row only: leave it out, or give more data")
    number = min(max(1, round(share * len(rows))), len(rows) - 1)
    order = np.random.default_rng(step_seed(seed, HELD_OUT)).permutation(len(rows))
    return SomeRows(rows, np.sort(order[number:])), SomeRows(rows, np.sort(order[:number]))


def windows(ends: np.ndarray, *, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths, int64 (n,) each, of pieces of at most `width` tokens that cover all documents.

    Args:
        ends: int64 (documents,), where each ends.
        width: at least 1.
    """
    ends = np.asarray(ends)
    begins = np.concatenate([[0], ends[:-1]])
    number = -(-(ends - begins) // width)
    place = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)  # of a piece in its document
    starts = np.repeat(begins, number) + place * width
    return starts, np.minimum(width, np.repeat(ends, number) - starts)


def best_fit(lengths: np.ndarray, *, capacity: int) -> np.ndarray:
    """A row int64 (n,) for each length, no row longer than `capacity`: best fit, the longest first.

    Args:
        lengths: int64 (n,), none above capacity.
        capacity: tokens in a row.
    """
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]  # by the room they have left
    row_of, rows = np.empty(len(lengths), np.int64), 0
    roomy = 0  # bit r is set if a row has room for r more tokens
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        fitting = roomy >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1  # the least that is enough
            row = open_rows[room].pop()
            if not open_rows[room]:
                roomy &= ~(1 << room)
        else:
            room, row, rows = capacity, rows, rows + 1
        row_of[index] = row
        if room > length:
            open_rows[room - length].append(row)
            roomy |= 1 << (room - length)
    return row_of
