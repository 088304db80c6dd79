"""Rows of items as ids, end to end in one array, and how they are parted into what is learned and what is judged."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from quorem.data.documents import SPLITS, RowCounts
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.tokenization import Unknown, encode
from quorem.tokenization.special import SPECIAL_IDS

GROUP = 1_000  # rows encoded at once
UNKNOWN_TARGET = -1
"""In place of a target that the vocabulary does not know: no model can have it among its first."""


class Sessions:
    """Rows of ids.

    Args:
        tokens: int32 (t,), all rows end to end.
        ends: int64 (n,), where each ends.
    """

    def __init__(self, tokens: np.ndarray, ends: np.ndarray) -> None:
        self.tokens, self.ends = tokens, ends
        self.starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Sessions":
        """Rows that are lists."""
        tokens = np.fromiter((token for row in rows for token in row), np.int32)
        return cls(tokens, np.cumsum([len(row) for row in rows], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> np.ndarray:
        """Items of each row, int64 (n,)."""
        return self.ends - self.starts

    def row(self, index: int) -> list[int]:
        """One row."""
        return self.tokens[self.starts[index] : self.ends[index]].tolist()

    def take(self, indices: np.ndarray) -> "Sessions":
        """Some rows, in that order."""
        return self.cut(indices, self.lengths[indices])

    def cut(self, indices: np.ndarray, lengths: np.ndarray) -> "Sessions":
        """The first `lengths` int64 (k,) items of the rows `indices` int64 (k,)."""
        ends = np.cumsum(lengths, dtype=np.int64)
        place = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return Sessions(self.tokens[np.repeat(self.starts[indices], lengths) + place], ends)

    def counts(self, vocab_size: int) -> np.ndarray:
        """How often each id occurs, int64 (vocab_size,)."""
        return np.bincount(self.tokens[self.tokens >= 0], minlength=vocab_size)

    def cases(self, start: int, stop: int) -> tuple[list[list[int]], list[int]]:
        """Histories and their targets, the last items, of some rows."""
        rows = [self.row(index) for index in range(start, min(stop, len(self)))]
        return [row[:-1] for row in rows], [row[-1] for row in rows]


class SessionCorpus:
    """Training rows, for `quorem.arrangement.cooccurrence`.

    Args:
        sessions: the rows.
        vocab_size: ids there are.
    """

    def __init__(self, sessions: Sessions, vocab_size: int) -> None:
        self.sessions, self.counts = sessions, sessions.counts(vocab_size)

    def blocks(self, *, size: int, most: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `Corpus.blocks`, without separators: whole rows, about `size` tokens at a time, `most` in all."""
        sessions = self.sessions
        breaks = np.searchsorted(sessions.ends, np.arange(size, len(sessions.tokens), size))
        bounds = np.unique(np.concatenate([[0], breaks, [len(sessions)]]))
        read = 0
        for place in np.random.default_rng(seed).permutation(len(bounds) - 1):
            part = sessions.take(np.arange(bounds[place], bounds[place + 1]))
            yield part.tokens.astype(np.int64), np.repeat(np.arange(len(part)), part.lengths)
            read += len(part.tokens)
            if read >= most:
                return


class SessionSplits(NamedTuple):
    """Rows by what they are for.

    Args:
        training: what the model learns from.
        validation: epochs are judged on their last items.
        test: the result is judged on their last items.
        counted: all but the test's: what the baselines count.
    """

    training: Sessions
    validation: Sessions
    test: Sessions
    counted: Sessions


def read_sessions(
    source: Source,
    tokenizer: PreTrainedTokenizerFast,
    counts: RowCounts,
    unknown: Unknown,
    *,
    keep_target: bool = False,
) -> tuple[Sessions, list[str | None]]:
    """The rows of a source as ids, without the items that the vocabulary does not know, and the split of each.

    Args:
        source: the files.
        tokenizer: its ids.
        counts: a tally to keep of rows.
        unknown: a tally to keep of items.
        keep_target: whether a last item that is unknown stays, as UNKNOWN_TARGET: to be counted as missed.
    """
    rows: list[np.ndarray] = []
    splits: list[str | None] = []
    texts: list[str] = []

    def flush() -> None:
        encoded = encode(tokenizer, texts)
        unknown.add(tokenizer, texts, encoded, range(len(rows) + 1, len(rows) + len(texts) + 1))
        for ids in encoded:
            kept = [token for token in ids if token >= SPECIAL_IDS]
            if keep_target and ids and ids[-1] < SPECIAL_IDS:
                kept.append(UNKNOWN_TARGET)
            rows.append(np.array(kept, np.int32))
        texts.clear()

    for document in source.documents(counts):
        texts.append(document.text)
        splits.append(document.split)
        if len(texts) == GROUP:
            flush()
    if texts:
        flush()
    tokens = np.concatenate([np.empty(0, np.int32), *rows])
    return Sessions(tokens, np.cumsum([len(row) for row in rows], dtype=np.int64)), splits


def leave_one_out(sessions: Sessions) -> SessionSplits:
    """The last item of each row is the test's, the one before it validation's, the rest is trained on.

    As SASRec's (arXiv:1808.09781) code has it, rows of fewer than three items are trained on whole.
    """
    lengths, every = sessions.lengths, np.arange(len(sessions))
    long = np.flatnonzero(lengths >= 3)
    training, counted = (
        sessions.cut(every, np.where(lengths >= 3, lengths - held_out, lengths)) for held_out in (2, 1)
    )
    return SessionSplits(training, sessions.cut(long, lengths[long] - 1), sessions.take(long), counted)


def by_split(sessions: Sessions, splits: Sequence[str | None], name: str) -> tuple[Sessions, Sessions]:
    """Rows of split train, and those of the others.

    Raises:
        UserError: for a split of another name, or nothing on one side.
    """
    found = [(split or "").strip() for split in splits]
    if unknown := sorted(set(found).difference(SPLITS)):
        raise UserError(f"{name}: rows of split {unknown[0]!r}: each must be of {', '.join(SPLITS)}: rename them")
    trained = np.array([split == "train" for split in found])
    if trained.all() or not trained.any():
        there = ", ".join(sorted(set(found)))
        raise UserError(f"{name}: all rows are of split {there}: train and another one are needed: add one")
    return sessions.take(np.flatnonzero(trained)), sessions.take(np.flatnonzero(~trained))


def split_validation(sessions: Sessions, *, share: float, seed: int) -> tuple[Sessions, Sessions]:
    """Training rows and a share of them, at least one, drawn at random, that is not trained on.

    Raises:
        UserError: if nothing were left.
    """
    number = max(1, round(share * len(sessions)))
    if number >= len(sessions):
        raise UserError(
            f"data.validation_share={share} of {len(sessions)} rows leaves nothing to train on: a smaller share, or "
            "more rows, needed"
        )
    order = np.random.default_rng(seed).permutation(len(sessions))
    return sessions.take(np.sort(order[number:])), sessions.take(np.sort(order[:number]))


def sample_evaluated(sessions: Sessions, *, most: int | None, seed: int) -> Sessions:
    """Rows with something before their last item, at most so many, drawn at random, in their order."""
    rows = np.flatnonzero(sessions.lengths >= 2)
    if most is not None and len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return sessions.take(rows)
