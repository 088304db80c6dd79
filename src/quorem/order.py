"""The order in which tokens are laid out over a table's rows: what shares a row with what.

Special tokens come first, then the tier (the most frequent tokens), then the tokens that share rows. In a grid, those
that follow each other share a quotient (a bucket of the two-level head), so that it helps if they are alike.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quorem.data.shards import Shards
from quorem.errors import UserError
from quorem.files import write_bytes
from quorem.tokenization.special import SPECIAL_IDS

ORDERS = ("frequency", "identity", "random", "cluster", "file")
CONTEXTS = 1000  # most frequent tokens that count as context, to the left and to the right apart
WINDOW = 2
TOKENS_READ = 20_000_000  # at most, in blocks spread over the whole data
BLOCK = 2_000_000
COMPONENTS = 32
SEEN_OFTEN_ENOUGH = 3  # rarer tokens are not clustered: their contexts say little


def token_order(
    kind: str,
    shards: Shards,
    *,
    own_rows: int,
    divisor: int,
    seed: int = 0,
    tokens: dict[str, int] | None = None,
    path: str | None = None,
) -> Tensor:
    """All ids, int64 (V,), in the order of their ranks.

    Args:
        kind: frequency; random; cluster, groups of `divisor` tokens that occur in like contexts; or file.
        shards: the data, for counts and contexts.
        own_rows: special tokens and tier.
        divisor: tokens in a group.
        seed: of random, and of cluster's decomposition.
        tokens: token -> id, for file.
        path: for file, a text file with a token in each line; tokens that are not in it come last, by frequency.

    Raises:
        UserError: for a file that cannot be used.
    """
    order = frequency_order(torch.from_numpy(shards.counts))
    own, tail = order[:own_rows], order[own_rows:]
    if kind == "random":
        tail = tail[torch.randperm(len(tail), generator=torch.Generator().manual_seed(seed))]
    elif kind == "cluster":
        seen = int((shards.counts[tail] >= SEEN_OFTEN_ENOUGH).sum()) // divisor * divisor  # whole groups
        if seen > divisor:
            vectors = context_vectors(shards, tail[:seen].numpy(), seed=seed)
            groups = clusters(vectors, size=divisor)
            tail = torch.cat([tail[torch.from_numpy(np.concatenate(groups))], tail[seen:]])
    elif kind == "file":
        tail = _listed_first(tail, str(path), tokens or {})
    return torch.cat([own, tail])


def check_order(kind: str, path: str | None) -> None:
    """Check, before anything is made, that an order can be had.

    Raises:
        UserError: for a file that cannot be read.
    """
    if kind == "file":
        _read_lines(str(path))


def frequency_order(counts: Tensor, *, num_special: int = SPECIAL_IDS) -> Tensor:
    """Ids int64 (V,) by falling count, special tokens (ids below num_special) first; ties keep the order of ids."""
    order = torch.argsort(counts[num_special:], descending=True, stable=True) + num_special
    return torch.cat([torch.arange(num_special), order])


def context_vectors(shards: Shards, ids: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """What stands around each of some tokens, float32 (len(ids), COMPONENTS): Hellinger PCA (arXiv:1312.5542).

    Counts of the most frequent tokens up to WINDOW places to the left and to the right, as square roots of shares, by a
    truncated singular value decomposition. Pairs are counted inside documents, in at most TOKENS_READ tokens. Memory
    grows with the number of distinct pairs, and with a few arrays of COMPONENTS numbers for each of the tokens.
    """
    from scipy.sparse import coo_matrix
    from sklearn.utils.extmath import randomized_svd

    vocab_size, width = len(shards.counts), 2 * CONTEXTS
    row, column = np.full(vocab_size, -1, np.int64), np.full(vocab_size, -1, np.int64)
    row[ids] = np.arange(len(ids))
    frequent = np.argsort(-shards.counts, kind="stable")[:CONTEXTS]
    column[frequent] = np.arange(len(frequent))
    keys, numbers = np.empty(0, np.int64), np.empty(0, np.int64)
    separator = shards.tokens[shards.ends[0] - 1]
    column[separator] = -1
    for block in _blocks(shards):
        document = np.cumsum(block == separator)
        for offset in range(1, WINDOW + 1):
            same = document[:-offset] == document[offset:]
            early, late = block[:-offset][same], block[offset:][same]
            for side, (token, context) in enumerate(((late, early), (early, late))):
                key = row[token] * width + side * CONTEXTS + column[context]
                found, counted = np.unique(key[(row[token] >= 0) & (column[context] >= 0)], return_counts=True)
                keys, places = np.unique(np.concatenate([keys, found]), return_inverse=True)
                numbers = np.bincount(places, np.concatenate([numbers, counted]), len(keys)).astype(np.int64)
    rows = keys // width
    totals = np.bincount(rows, numbers, len(ids)).clip(min=1)
    shares = np.sqrt(numbers / totals[rows]).astype(np.float32)
    matrix = coo_matrix((shares, (rows, keys % width)), shape=(len(ids), width)).tocsr()
    left, values, _ = randomized_svd(matrix, n_components=min(COMPONENTS, *matrix.shape), random_state=seed % 2**32)
    return (left * values).astype(np.float32)


def clusters(vectors: np.ndarray, *, size: int) -> list[np.ndarray]:
    """Groups of `size` like vectors, the last one with what is left: row numbers, rising inside a group.

    Halves are cut at the median along the direction of largest variance, again and again, so that every group is full.

    Args:
        vectors: float32 (n, d).
        size: rows in a group.
    """
    groups: list[np.ndarray] = []
    waiting = [np.arange(len(vectors))]
    while waiting:
        rows = waiting.pop()
        number = -(-len(rows) // size)
        if number <= 1:
            groups.append(np.sort(rows))
            continue
        centred = vectors[rows] - vectors[rows].mean(0)
        direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        direction = direction * (np.sign(direction[np.abs(direction).argmax()]) or 1)
        order = rows[np.argsort(centred @ direction, kind="stable")]
        half = number // 2 * size
        waiting += [order[half:], order[:half]]  # the first half is cut first, so that groups come out in order
    return groups


def stored_order(path: Path, vocab_size: int) -> Tensor | None:
    """An order of so many ids that `store_order` wrote, or None."""
    order = np.fromfile(path, np.int32).astype(np.int64) if path.exists() else np.empty(0, np.int64)
    return torch.from_numpy(order) if len(order) == vocab_size else None


def store_order(path: Path, order: Tensor) -> None:
    """Write an order as int32, whole or not at all."""
    write_bytes(path, order.numpy().astype(np.int32).tobytes())


def _blocks(shards: Shards) -> Iterator[np.ndarray]:
    total = len(shards.tokens)
    number = -(-min(total, TOKENS_READ) // BLOCK)
    for start in np.linspace(0, max(0, total - BLOCK), number).astype(np.int64) if number > 1 else [0]:
        yield np.asarray(shards.tokens[start : start + BLOCK]).astype(np.int64)


def _listed_first(tail: Tensor, path: str, tokens: dict[str, Any]) -> Tensor:
    lines = _read_lines(path)
    seen: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        token = tokens.get(line)
        if token is not None and token in seen:
            raise UserError(f"{path}: line {number}: {line!r} is in line {seen[token]} already: each token once")
        if token is not None:
            seen[token] = number
    if not seen:
        raise UserError(f"{path}: none of its {len(lines)} lines is a token of the vocabulary: one token a line needed")
    place = torch.tensor([seen.get(token, len(lines) + 1) for token in tail.tolist()])
    return tail[place.argsort(stable=True)]


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model.embedding.assignment_file={path}: cannot be read ({error})") from error
