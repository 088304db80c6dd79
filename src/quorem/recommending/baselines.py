"""What there is to beat: popularity, sequential rules, item-kNN and V-SKNN, by counting, in seconds.

Neighbour methods are hard to beat (Ludewig and Jannach 2018, Evaluation of Session-based Recommendation Algorithms,
UMUAI 28, arXiv:1803.09587, which has all of these). Nothing here is tuned but EVENNESS, on validation rows of
diginetica and Amazon Beauty, and how many neighbours V-SKNN keeps, on those of each run. All give a score to every
item, 0 where they know nothing.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix, diags
from torch import Tensor

from quorem.data.sessions import Sessions

FLOOR = 0.0  # the score of what a method knows nothing of
FURTHEST = 10  # places between the two items of a rule
EVENNESS = 0.5  # of rules: 0 leaves frequent items the most to say, 1 gives every item as much
SHRINKAGE = 20.0  # sessions that item-kNN takes every item to be in besides (GRU4Rec's baselines)
RECENT = 1_000  # sessions V-SKNN compares, the latest that share an item
NEAREST = (100, 500)  # of these it keeps so many: which number is better depends on the data
IDF_WEIGHT = 1.0
BLOCK = 2_000_000  # tokens whose pairs are counted at once


class Baseline(Protocol):
    """A method that is fitted when it is made: Baseline(training rows, V)."""

    def __call__(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """Scores float32 (n, V) of what may follow each history, none of which is empty."""


class Popularity:
    """How often an item occurs in training."""

    def __init__(self, sessions: Sessions, vocab_size: int) -> None:
        self.counts = torch.from_numpy(sessions.counts(vocab_size).astype(np.float32))

    def __call__(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """The same scores float32 (n, V) whatever the history."""
        return self.counts.repeat(len(histories), 1)


class SequentialRules:
    """Which item follows which, each rule weighted by 1 / distance (SR there), here for all items of a history.

    The history's items count by 1 / place from its end: on diginetica that is worth .06 of HR@20 over the last alone.
    An item's rules are divided by the root of their sum: else a frequent item early in a history outvotes the last.
    """

    def __init__(self, sessions: Sessions, vocab_size: int) -> None:
        self.rules = csr_matrix((vocab_size, vocab_size), dtype=np.float32)
        for tokens, owners in _blocks(sessions):
            for distance in range(1, min(FURTHEST, len(tokens) - 1) + 1):
                same = owners[:-distance] == owners[distance:]
                first, then = tokens[:-distance][same], tokens[distance:][same]
                weight = np.full(len(first), 1 / distance, np.float32)
                self.rules = self.rules + coo_matrix((weight, (first, then)), shape=self.rules.shape).tocsr()
        size = np.asarray(self.rules.sum(1)).ravel().clip(min=1e-9) ** -EVENNESS
        self.rules = (diags(size.astype(np.float32)) @ self.rules).tocsr()

    def __call__(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """Scores float32 (n, V)."""
        rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        weights = np.concatenate([1 / np.arange(len(history), 0, -1) for history in histories])
        asked = (weights.astype(np.float32), (rows, np.concatenate(histories)))
        return _dense(coo_matrix(asked, shape=(len(histories), self.rules.shape[0])).tocsr() @ self.rules)


class ItemNeighbours:
    """Cosine of the sessions two items are in, for the last item; it itself is none of its neighbours (item-kNN)."""

    def __init__(self, sessions: Sessions, vocab_size: int) -> None:
        self.sessions_of = _incidence(sessions, vocab_size).T.tocsr()
        self.items_of = self.sessions_of.T.tocsr()
        # With SHRINKAGE two rare items that met once are not sure of each other.
        size = np.asarray(self.sessions_of.sum(1)).ravel() + SHRINKAGE
        self.scale = (size**-0.5).astype(np.float32)

    def __call__(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """Scores float32 (n, V) by the last item."""
        last = np.array([history[-1] for history in histories])
        together = _dense(self.sessions_of[last] @ self.items_of)
        together *= torch.from_numpy(self.scale) * torch.from_numpy(self.scale[last]).unsqueeze(1)
        together[torch.arange(len(last)), torch.from_numpy(last)] = FLOOR
        return together


class SessionNeighbours:
    """V-SKNN: items of the sessions most like this one, in which late items count most (S-KNN with decaying weights).

    Of the latest sessions that share an item the nearest are kept, by the sum of the shared items' weights, which fall
    linearly with the distance from the end. An item has the sum of its sessions' likenesses, each divided by how far
    from the end the last shared item is, times 1 + log(sessions / sessions with the item).

    Attributes:
        nearest: how many are kept, one of NEAREST.
        holds_cases: whether the training rows hold those that it is asked about (leave one out). Sessions without an
            item besides those of the history are left out then, for one of them is the history itself.
    """

    def __init__(self, sessions: Sessions, vocab_size: int) -> None:
        incidence = _incidence(sessions, vocab_size)
        self.item_ends, self.items = incidence.indptr, incidence.indices
        columns = incidence.tocsc()
        columns.sort_indices()
        self.session_ends, self.sessions = columns.indptr, columns.indices  # of each item, the latest last
        size = np.diff(self.session_ends)
        self.nearest, self.holds_cases = NEAREST[-1], False
        self.rarity = (1 + IDF_WEIGHT * np.log(max(1, len(sessions)) / size.clip(min=1))).astype(np.float32)
        self.vocab_size = vocab_size

    def __call__(self, histories: Sequence[Sequence[int]]) -> Tensor:
        """Scores float32 (n, V)."""
        found = np.zeros((len(histories), self.vocab_size), np.float32)
        for row, history in enumerate(histories):
            items, weights = self._of(history)
            np.add.at(found[row], items, weights)
        return torch.from_numpy(found * self.rarity)

    def _of(self, history: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Items int32 (m,) of the neighbours and what each adds, float64 (m,)."""
        latest = list(dict.fromkeys(reversed(history)))  # each item once, the last one first
        step_of = {item: step for step, item in reversed(list(enumerate(reversed(history), 1)))}
        posts = [self.sessions[self.session_ends[item] : self.session_ends[item + 1]] for item in latest]
        # An item that many sessions have can only bring its latest ones among the latest of all.
        posts = [post[-RECENT:] for post in posts]
        every = np.concatenate(posts)
        if not len(every):
            return every, np.empty(0)
        weight = np.repeat([_decay(step_of[item], len(history)) for item in latest], [len(post) for post in posts])
        steps = np.repeat([step_of[item] for item in latest], [len(post) for post in posts])
        candidates, first, inverse = np.unique(every, return_index=True, return_inverse=True)
        likeness = np.bincount(inverse, weights=weight)
        recent = np.arange(len(candidates))[-RECENT:]  # numbers of sessions go by time
        if self.holds_cases:
            size = self.item_ends[candidates + 1] - self.item_ends[candidates]
            recent = recent[np.bincount(inverse)[recent] < size[recent]]
        kept = recent[np.argsort(-likeness[recent], kind="stable")[: self.nearest]]
        share = likeness[kept] / steps[first[kept]]  # posts go by step, so an item's first is its latest shared one
        neighbours = candidates[kept]
        starts, ends = self.item_ends[neighbours], self.item_ends[neighbours + 1]
        lengths = ends - starts
        place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.items[np.repeat(starts, lengths) + place], np.repeat(share, lengths)


BASELINES: dict[str, type[Popularity] | type[SequentialRules] | type[ItemNeighbours] | type[SessionNeighbours]] = {
    "popularity": Popularity,
    "sequential rules": SequentialRules,
    "item-kNN": ItemNeighbours,
    "V-SKNN": SessionNeighbours,
}


def _decay(step: int, length: int) -> float:
    """The weight of an item `step` places from the end (1 is the last) of a history: linear, 1 for the last."""
    return (length - step + 1) / length


def _blocks(sessions: Sessions) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens int32 (t,) and the rows int64 (t,) they are in, in parts of whole rows."""
    bounds = np.searchsorted(sessions.ends, np.arange(BLOCK, len(sessions.tokens), BLOCK))
    edges = np.unique(np.concatenate([[0], bounds, [len(sessions)]]))
    parts = [sessions.take(np.arange(first, last)) for first, last in pairwise(edges)]
    return [(part.tokens, np.repeat(np.arange(len(part)), part.lengths)) for part in parts if len(part.tokens)]


def _incidence(sessions: Sessions, vocab_size: int) -> csr_matrix:
    """Which items a row has: ones, float32 (rows, V)."""
    rows = np.repeat(np.arange(len(sessions)), sessions.lengths)
    ones = np.ones(len(rows), np.float32)
    found = coo_matrix((ones, (rows, sessions.tokens)), shape=(len(sessions), vocab_size)).tocsr()
    found.data[:] = 1
    return found


def _dense(matrix: csr_matrix) -> Tensor:
    return torch.from_numpy(np.asarray(matrix.todense(), np.float32))
