"""The training tokens of a run: those of its shards, without the held-out rows.

Counts, clusters and start vectors are computed from them alone.
"""

from collections.abc import Iterator

import numpy as np

from quorem.data.rows import SomeRows
from quorem.data.shards import Shards

HELD_OUT, SEPARATOR = -2, -1
"""Numbers of tokens that belong to no document."""


class Corpus:
    """The training tokens of shards.

    Args:
        shards: all tokens.
        held_out: the rows not to learn from; None if there are none.

    Attributes:
        counts: int64 (V,), how often each id occurs; [SEP] is not counted.
    """

    def __init__(self, shards: Shards, held_out: SomeRows | None = None) -> None:
        self.shards, self.counts = shards, shards.counts
        self.starts = self.stops = np.empty(0, np.int64)
        if held_out is not None:
            starts, lengths = held_out.spans()
            order = np.argsort(starts, kind="stable")
            self.starts, self.stops = starts[order], (starts + lengths)[order]
            self.counts = shards.counts.copy()
            for start, stop in zip(self.starts, self.stops, strict=True):
                np.subtract.at(self.counts, shards.tokens[start:stop], 1)
            self.counts[self.separator] = 0

    @property
    def separator(self) -> int:
        """The id that ends each document."""
        return int(self.shards.tokens[self.shards.ends[0] - 1])

    def blocks(self, *, size: int, most: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pieces spread over the whole data, in an order drawn from the seed: tokens and the documents they are in.

        Args:
            size: tokens in a piece.
            most: tokens in all; of more data the pieces are a sample.
            seed: of the order.

        Yields:
            Ids int64 (n,), and numbers int64 (n,), the same for two tokens if they are of one document of the piece;
            SEPARATOR or HELD_OUT for what is in none.
        """
        tokens, total = self.shards.tokens, len(self.shards.tokens)
        number = max(1, -(-min(total, most) // size))
        begins = np.linspace(0, max(0, total - size), number).astype(np.int64)
        if total <= most:  # all of it, once
            begins = np.arange(number) * size
        for begin in np.random.default_rng(seed).permutation(begins):
            ids = np.asarray(tokens[begin : begin + size]).astype(np.int64)
            separators = ids == self.separator
            documents = np.cumsum(separators)
            documents[separators] = SEPARATOR
            first = np.searchsorted(self.stops, begin, side="right")
            last = np.searchsorted(self.starts, begin + len(ids), side="left")
            for start, stop in zip(self.starts[first:last], self.stops[first:last], strict=True):
                documents[max(0, start - begin) : stop - begin] = HELD_OUT
            yield ids, documents
