"""The next item: training steps over sessions, at every place (causal) or at the end of each beginning (masked)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from quorem.config.settings import TrainSettings
from quorem.data.batches import LengthGroupedOrder, collate
from quorem.data.sessions import Sessions
from quorem.models.next_item import CLS, LENGTH_MULTIPLE, MASK, QuoremForNextItem

POOL = 20  # batches whose rows are sorted together


class MicroBatch(NamedTuple):
    """Some rows of a step.

    Args:
        input_ids: int64 (batch, time).
        attention_mask: bool (batch, time), or None if nobody sees padding.
        places: int64 (n,), flat places where an item is asked for.
        targets: int64 (n,), the items.
        own_tokens: real tokens of these rows.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    places: Tensor
    targets: Tensor
    own_tokens: int


def pieces(sessions: Sessions, *, max_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Where pieces of rows lie in `sessions.tokens`: starts and lengths int64 (k,) each, of 2 to max_items + 1 items.

    A row of more items is several pieces, each of which begins with the last item of the one before; so every item but
    a row's first is a target once.
    """
    lengths = sessions.lengths
    number = np.where(lengths >= 2, -(-(lengths - 1) // max_items), 0)
    place = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    starts = np.repeat(sessions.starts, number) + place * max_items
    return starts, np.minimum(max_items + 1, np.repeat(sessions.ends, number) - starts)


def beginnings(sessions: Sessions, *, max_items: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for the beginnings of all rows: one for each item but a row's first, which it ends with, the target."""
    later = np.ones(len(sessions.tokens), bool)
    later[sessions.starts[sessions.lengths > 0]] = False
    ends = np.flatnonzero(later) + 1
    first = np.repeat(sessions.starts, sessions.lengths)[later]
    starts = np.maximum(first, ends - max_items - 1)
    return starts, ends - starts


class NextItemProgram:
    """The steps, for `quorem.training.loop.fit`: every target of an epoch weighs the same, in batches of any length.

    The loss is the sum over a step's targets of -log p, over the number of targets that a step has on average: a mean
    in each step would make those of short sessions weigh more.

    Args:
        module: the model; a causal one is asked at every place.
        sessions: training rows.
        train: settings of the loop.
        max_items: the longest history.
    """

    def __init__(self, module: QuoremForNextItem, sessions: Sessions, train: TrainSettings, *, max_items: int) -> None:
        self.module, self.sessions, self.train = module, sessions, train
        self.causal = module.config.causal
        self.starts, self.lengths = (pieces if self.causal else beginnings)(sessions, max_items=max_items)
        self.order = LengthGroupedOrder(
            self.lengths.tolist(), batch_size=train.batch_size, seed=train.seed, pool=POOL
        )  # fmt: skip
        self.total_steps = self.order.steps(train)
        self.num_targets = int((self.lengths - 1).sum()) if self.causal else len(self.lengths)
        self.usual = self.num_targets / self.order.steps_per_epoch
        self._sum: Tensor | float = 0.0
        self._targets = self._tokens = 0

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[MicroBatch]:
        """This process's rows of the step, micro_batch_size at a time."""
        chosen = self.order.indices(step)
        first, end = (len(chosen) * i // num_processes for i in (rank, rank + 1))
        size = self.train.micro_batch_size or len(chosen)
        for start in range(first, end, size):
            yield self._rows(chosen[start : min(start + size, end)])

    def _rows(self, chosen: np.ndarray) -> MicroBatch:
        tokens = self.sessions.tokens
        spans = zip(self.starts[chosen].tolist(), self.lengths[chosen].tolist(), strict=True)
        items = [tokens[start : start + length].tolist() for start, length in spans]
        rows = [[CLS, *some[:-1]] if self.causal else [CLS, *some[:-1], MASK] for some in items]
        config = self.module.config
        pad_id, most = config.pad_token_id or 0, config.longest_row
        input_ids, mask = collate(rows, pad_id=pad_id, multiple=LENGTH_MULTIPLE, most=most)
        time, own_tokens = input_ids.shape[1], sum(map(len, rows))
        if self.causal:
            places = [number * time + place for number, row in enumerate(rows) for place in range(1, len(row))]
            targets = [item for some in items for item in some[1:]]
            mask = None  # padding comes after all that is asked
        else:
            places = [number * time + len(row) - 1 for number, row in enumerate(rows)]
            targets = [some[-1] for some in items]
        return MicroBatch(input_ids, mask, torch.tensor(places), torch.tensor(targets), own_tokens)

    def loss(self, module: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """The micro-batch's sum of -log p over the targets that a step has on average."""
        input_ids, mask, places, targets, own_tokens = micro_batch
        hidden = self.module.hidden_at(input_ids, mask, places)
        total = self.module.generator_lm_head.nll(hidden, targets).sum()
        self._sum = self._sum + total.detach()
        self._targets, self._tokens = self._targets + len(targets), self._tokens + own_tokens
        return total / self.usual

    def record(self) -> dict[str, Any]:
        """The mean of -log p since the last record."""
        found = {"nll": float(self._sum) / max(1, self._targets), "tokens": self._tokens}
        self.reset()
        return found

    def reset(self) -> None:
        """Forget what was seen since the last record."""
        self._sum, self._targets, self._tokens = 0.0, 0, 0

    def state_dict(self) -> dict[str, Tensor]:
        """What was seen since the last record, as sums."""
        return {"counted": torch.tensor([float(self._sum), self._targets, self._tokens], dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        total, targets, tokens = state["counted"].tolist()
        self._sum, self._targets, self._tokens = total, int(targets), int(tokens)
