"""Batches: which examples make up a step is a pure function of (seed, step)."""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quorem.config.settings import TrainSettings

ORDER, GROUPING, MASKING, WEIGHTS, DROPOUT, HELD_OUT = range(6)
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
        self.steps_per_epoch = self.count_steps()
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def count_steps(self) -> int:
        """Batches in an epoch."""
        return -(-self.num_items // self.batch_size)

    def steps(self, train: TrainSettings) -> int:
        """How many steps a run has in all."""
        return max(1, round(train.epochs * self.steps_per_epoch)) if train.max_steps is None else train.max_steps

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


class TokenBudgetOrder(EpochOrder):
    """An epoch order whose batches hold items of like length, as many as a budget of tokens has room for.

    Items are sorted by length and cut into batches, once; every epoch deals items of one length anew to the places of
    that length, and visits the batches in an order of its own.

    Args:
        lengths: int64 (n,), tokens of the items.
        budget: tokens in a batch, padding included; a longer item is a batch of its own.
        multiple: lengths are padded to multiples of it.
        seed: of the order.
    """

    def __init__(self, lengths: np.ndarray, *, budget: int, multiple: int, seed: int) -> None:
        self.sorted = np.argsort(lengths, kind="stable")
        self.rising = lengths[self.sorted]
        padded = -(-self.rising // multiple) * multiple
        bounds = [len(lengths)]
        while bounds[-1]:  # from the longest down: the last item of a batch is its longest
            size = max(1, budget // int(padded[bounds[-1] - 1]))
            bounds.append(max(0, bounds[-1] - size))
        self.bounds = np.array(bounds[::-1])
        super().__init__(len(lengths), batch_size=0, seed=seed)

    def count_steps(self) -> int:
        """Batches in an epoch."""
        return len(self.bounds) - 1

    def indices(self, step: int) -> np.ndarray:
        """Items int64 (n,) of a step, counted from 0."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.permutation(epoch)
            rng = np.random.default_rng(step_seed(self.seed, GROUPING, epoch))
            self._batches = rng.permutation(self.steps_per_epoch)
        chosen = int(self._batches[batch])
        return self._order[self.bounds[chosen] : self.bounds[chosen + 1]]

    def permutation(self, epoch: int) -> np.ndarray:
        """The items int64 (num_items,) by rising length, those of one length in an order of the epoch."""
        chance = np.random.default_rng(step_seed(self.seed, ORDER, epoch)).random(self.num_items)
        return self.sorted[np.lexsort((chance, self.rising))]


def collate(
    rows: Sequence[Sequence[int]], *, pad_id: int, multiple: int = 1, most: int = sys.maxsize
) -> tuple[Tensor, Tensor | None]:
    """Rows of ids, padded on the right to the longest: input_ids int64 (batch, time) and attention_mask or None.

    The mask, bool (batch, time), is None if nothing is padding, so that attention can go without one. The length is
    rounded up to a multiple, but no further than to `most`: the CPU's matrix library keeps memory for every shape it
    meets.
    """
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    longest = max(longest, min(-(-longest // multiple) * multiple, most))
    input_ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    return input_ids, None if bool(mask.all()) else mask
