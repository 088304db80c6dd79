"""The order of tokens over a table's rows, which decides which tokens share a row.

Special tokens come first, then the tier (the most frequent tokens), then the tokens that share rows. In a grid, those
that follow each other share a quotient (a bucket of the two-level head), so that it helps if they are alike.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quorem.arrangement.clusters import aligned, clusters
from quorem.errors import UserError
from quorem.files import write_bytes
from quorem.tokenization.special import SPECIAL_IDS

ORDERS = ("frequency", "identity", "random", "cluster", "file")
SEEN_OFTEN_ENOUGH = 3  # rarer tokens are not clustered: their contexts say little


def token_order(
    kind: str,
    counts: np.ndarray,
    *,
    own_rows: int,
    divisor: int,
    seed: int = 0,
    vectors: np.ndarray | None = None,
    tokens: dict[str, int] | None = None,
    path: str | None = None,
) -> Tensor:
    """All ids, int64 (V,), in the order of their ranks.

    Args:
        kind: frequency; random; cluster, groups of `divisor` tokens whose vectors are alike; or file.
        counts: int64 (V,), how often each id occurs.
        own_rows: special tokens and tier.
        divisor: tokens in a group.
        seed: of random.
        vectors: float32 (V, d), for cluster (quorem.arrangement.cooccurrence).
        tokens: token -> id, for file.
        path: for file, a text file with a token in each line; tokens that are not in it come last, by frequency.

    Raises:
        UserError: for a file that cannot be used.
    """
    order = frequency_order(torch.from_numpy(counts))
    own, tail = order[:own_rows], order[own_rows:]
    if kind == "random":
        tail = tail[torch.randperm(len(tail), generator=torch.Generator().manual_seed(seed))]
    elif kind == "cluster" and vectors is not None:
        seen = int((counts[tail] >= SEEN_OFTEN_ENOUGH).sum()) // divisor * divisor  # whole groups
        if seen > divisor:
            of_tail = vectors[tail[:seen].numpy()]
            groups = aligned(of_tail, clusters(of_tail, size=divisor))
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


def frequency_order(counts: Tensor) -> Tensor:
    """Ids int64 (V,) by falling count, special tokens first; ties keep the order of ids."""
    order = torch.argsort(counts[SPECIAL_IDS:], descending=True, stable=True) + SPECIAL_IDS
    return torch.cat([torch.arange(SPECIAL_IDS), order])


def stored_order(path: Path, vocab_size: int) -> Tensor | None:
    """An order of so many ids that `store_order` wrote, or None."""
    order = np.fromfile(path, np.int32).astype(np.int64) if path.exists() else np.empty(0, np.int64)
    return torch.from_numpy(order) if len(order) == vocab_size else None


def store_order(path: Path, order: Tensor) -> None:
    """Write an order as int32, whole or not at all."""
    write_bytes(path, order.numpy().astype(np.int32).tobytes())


def _listed_first(tail: Tensor, path: str, tokens: dict[str, Any]) -> Tensor:
    lines = _read_lines(path)
    seen: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        token = tokens.get(line)
        if token is not None and token in seen:
            raise UserError(f"{path}: line {number}: {line!r} is already in line {seen[token]}: keep one of the two")
        if token is not None:
            seen[token] = number
    if not seen:
        raise UserError(f"{path}: none of its {len(lines)} lines is a token of the vocabulary: write one token a line")
    place = torch.tensor([seen.get(token, len(lines) + 1) for token in tail.tolist()])
    return tail[place.argsort(stable=True)]


def _read_lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model.embedding.assignment_file={path}: cannot be read ({error})") from error
