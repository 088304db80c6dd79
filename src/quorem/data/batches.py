"""Rows and batches: which examples make up a step is a pure function of (seed, step)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quorem.data.shards import Shards

ORDER, GROUPING, MASKING, WEIGHTS, DROPOUT = range(5)
"""Places of a run that have random numbers of their own."""


def step_seed(seed: int, *place: int) -> int:
    """A 63-bit seed for one place in a run, such as an epoch or a step; unrelated places get unrelated seeds."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)


class EpochOrder:
    """The order in which a data set's items are visited, step by step, for ever.

    Every epoch visits each item once, in an order drawn from (seed, epoch); its last batch may be smaller.

    Args:
        num_items: at least 1.
        batch_size: items in a step.
        seed: of the order.
    """

    def __init__(self, num_items: int, *, batch_size: int, seed: int) -> None:
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.steps_per_epoch = -(-num_items // batch_size)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Items int64 (<= batch_size,) of a step, counted from 0."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.permutation(epoch)
        return self._order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def permutation(self, epoch: int) -> np.ndarray:
        """The order int64 (num_items,) of an epoch."""
        return np.random.default_rng(step_seed(self.seed, ORDER, epoch)).permutation(self.num_items)


class LengthGroupedOrder(EpochOrder):
    """An epoch order whose batches hold items of like length, so that little of them is padding.

    The epoch's random order is cut into pools of `pool` batches; each is sorted by length and its batches are shuffled.

    Args:
        lengths: of the items.
        batch_size: items in a step.
        seed: of the order.
        pool: batches sorted together; larger means less padding and less chance.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int, pool: int = 50) -> None:
        super().__init__(len(lengths), batch_size=batch_size, seed=seed)
        self.lengths, self.pool = np.asarray(lengths), pool

    def permutation(self, epoch: int) -> np.ndarray:
        """The order int64 (num_items,) of an epoch."""
        order, size = super().permutation(epoch), self.batch_size
        whole = self.num_items // size * size
        pools = [order[i : min(i + size * self.pool, whole)] for i in range(0, whole, size * self.pool)]
        rows = [pool[np.argsort(self.lengths[pool], kind="stable")].reshape(-1, size) for pool in pools]
        batches = np.concatenate([*rows, np.empty((0, size), np.int64)])
        shuffled = np.random.default_rng(step_seed(self.seed, GROUPING, epoch)).permutation(len(batches))
        return np.concatenate([batches[shuffled].reshape(-1), order[whole:]])


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

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """input_ids int64 (batch, time), and attention_mask bool (batch, time) or None if nothing is padding."""
        return collate(
            [[self.cls_id, *self.tokens[i * self.width : (i + 1) * self.width].tolist()] for i in indices.tolist()],
            pad_id=self.pad_id,
        )


def collate(rows: Sequence[Sequence[int]], *, pad_id: int, multiple: int = 1) -> tuple[Tensor, Tensor | None]:
    """Rows of ids, padded on the right to the longest: input_ids int64 (batch, time) and attention_mask or None.

    The mask, bool (batch, time), is None if nothing is padding, so that attention can go without one. The length is
    rounded up to a multiple: the CPU's matrix library keeps memory for every shape it meets.
    """
    lengths = torch.tensor([len(row) for row in rows])
    longest = -(-int(lengths.max()) // multiple) * multiple
    input_ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    return input_ids, None if bool(mask.all()) else mask
