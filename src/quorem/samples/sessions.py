"""Synthetic sessions of items, such as a shop's visits, from a catalogue of any size with planted clusters.

A session is about one cluster. Each of its items is drawn, independently of the others, with probability
SHARE_OF_CLUSTER from that cluster and otherwise from the whole catalogue. Clusters, and the items in each, are as
frequent as the inverse of their rank (Zipf). So everything that can be learned from a session is its cluster, and what
an item costs with and without that knowledge is known exactly: `entropies`.

What it cannot show: anything about real sessions, whose order, repetitions, several interests and drift have no
counterpart here (the order of a session's items carries nothing); nor how a model fares with items it has not seen. And
the entropies are those of the distribution: a sample with few items for each of the catalogue has a lower entropy
when it is counted, and too little of the tail for any model to learn which cluster a rare item belongs to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from quorem.errors import UserError
from quorem.files import new_text

SMALLEST_CATALOGUE, LARGEST_CATALOGUE = 100, 10_000_000
MOST_IN_A_CLUSTER = 1_000
SHARE_OF_CLUSTER = 0.8  # probability that an item comes from the session's cluster
LENGTHS = (5, 36)  # items in a session: uniform in this range, 20 on average
CATALOGUE_SEED = 20_000  # the catalogue is the same for every seed: seeds give new sessions, not new items
ROWS_AT_ONCE = 4_096  # drawn together; part of what the sample is


@dataclass(frozen=True, slots=True)
class Entropies:
    """What an item of a session costs, in nats, in an endless sample.

    Attributes:
        item: knowing the items' frequencies only.
        item_given_cluster: knowing the cluster of the session too. Given the cluster, items do not depend on each
            other, so no model, whatever it reads, can do better.
    """

    item: float
    item_given_cluster: float


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items by rank: item r is in cluster r % num_clusters, at place r // num_clusters of it; both count from frequent.

    Attributes:
        names: int32 (vocab_size,), the name of each, 0 to vocab_size - 1 in an order that has nothing to do with ranks.
        clusters: float64 (num_clusters,), cumulative probability of the clusters.
        places: float64 (largest cluster,), sum of 1 / (place + 1) up to each place.
        sizes: int64 (num_clusters,), items in each cluster; they differ by one at most.
    """

    names: np.ndarray
    clusters: np.ndarray
    places: np.ndarray
    sizes: np.ndarray


def sessions(rows: int, *, vocab_size: int, seed: int = 0) -> Iterator[str]:
    """Synthetic sessions of 5 to 35 items: the items' names, which are numbers, separated by spaces.

    Args:
        rows: number of sessions.
        vocab_size: items in the catalogue, 100 to 10 million; a sample need not hold all of them. There are
            about sqrt(vocab_size) clusters of as many items, and none of more than 1,000. Memory: 4 bytes an item.
        seed: non-negative. Session i is a function of (vocab_size, seed, i) alone, so more rows extend the same sample.
            All seeds share one catalogue. Bits are stable for one NumPy version.

    Raises:
        UserError: at the call, if a number is out of range.
    """
    if rows < 1:
        raise UserError(f"rows={rows}: ask for at least 1 synthetic session.")
    if seed < 0:
        raise UserError(f"seed={seed}: use 0 or a positive whole number.")
    catalogue = _build_catalogue(_check_size(vocab_size))
    return _write_sessions(catalogue, rows, seed)


def write_sessions(path: Path, *, rows: int = 20_000, vocab_size: int, seed: int = 0) -> None:
    """Write `sessions` as a text file, one in each line (LF line ends), whole or not at all.

    Raises:
        UserError: if the file exists or is not called .txt, or a number is out of range.
        OSError: if it cannot be written.
    """
    if path.suffix.lower() != ".txt":
        raise UserError(f"{path}: sessions are plain text, a session a line: choose a name that ends in .txt")
    sample = sessions(rows, vocab_size=vocab_size, seed=seed)
    with new_text(path) as stream:
        stream.writelines(f"{session}\n" for session in sample)


def entropies(vocab_size: int) -> Entropies:
    """What can be learned from `sessions`, computed from their distribution; the gain is the difference.

    Args:
        vocab_size: items in the catalogue.

    Raises:
        UserError: if it is out of range.
    """
    sizes = _cluster_sizes(_check_size(vocab_size))
    popular = _zipf(len(sizes))
    inside = np.array([_entropy(_zipf(size)) for size in range(sizes.min(), sizes.max() + 1)])[sizes - sizes.min()]
    item = _entropy(popular) + popular @ inside
    # In a session about cluster c, an item is of cluster c with probability own[c], of another cluster d with
    # rest[d]; its place in that cluster does not depend on c.
    rest = (1 - SHARE_OF_CLUSTER) * popular
    own = SHARE_OF_CLUSTER + rest
    surprise = -rest * np.log(rest)
    which = -own * np.log(own) + surprise.sum() - surprise
    place = SHARE_OF_CLUSTER * inside + rest @ inside
    return Entropies(item=float(item), item_given_cluster=float(popular @ (which + place)))


def cluster_of_items(vocab_size: int) -> np.ndarray:
    """The planted cluster of every item, int64 (vocab_size,): that of the item named i at place i.

    Raises:
        UserError: if vocab_size is out of range.
    """
    catalogue = _build_catalogue(_check_size(vocab_size))
    clusters = np.empty(vocab_size, np.int64)
    clusters[catalogue.names] = np.arange(vocab_size) % len(catalogue.sizes)
    return clusters


def _check_size(vocab_size: int) -> int:
    if not SMALLEST_CATALOGUE <= vocab_size <= LARGEST_CATALOGUE:
        raise UserError(
            f"vocab_size={vocab_size}: a catalogue has {SMALLEST_CATALOGUE} to {LARGEST_CATALOGUE:,} different items."
        )
    return vocab_size


@lru_cache(maxsize=1)  # up to 40 MB
def _build_catalogue(vocab_size: int) -> Catalogue:
    sizes = _cluster_sizes(vocab_size)
    names = np.arange(vocab_size, dtype=np.int32)
    np.random.default_rng(CATALOGUE_SEED).shuffle(names)
    return Catalogue(
        names=names,
        clusters=np.cumsum(_zipf(len(sizes))),
        places=np.cumsum(1.0 / np.arange(1, sizes.max() + 1)),
        sizes=sizes,
    )


def _cluster_sizes(vocab_size: int) -> np.ndarray:
    """Items in each cluster, int64: about sqrt(vocab_size) in as many, or MOST_IN_A_CLUSTER in more clusters."""
    number = max(round(vocab_size**0.5), -(-vocab_size // MOST_IN_A_CLUSTER))
    return (vocab_size - 1 - np.arange(number)) // number + 1


def _zipf(number: int) -> np.ndarray:
    weights = 1.0 / np.arange(1, number + 1)
    return weights / weights.sum()


def _entropy(probabilities: np.ndarray) -> float:
    return float(-probabilities @ np.log(probabilities))


def _write_sessions(catalogue: Catalogue, rows: int, seed: int) -> Iterator[str]:
    for block in range(-(-rows // ROWS_AT_ONCE)):
        lengths, items = _draw_block(catalogue, np.random.default_rng([seed, block]))
        names, end = catalogue.names[items].tolist(), 0
        for length in lengths[: rows - block * ROWS_AT_ONCE].tolist():
            yield " ".join(map(str, names[end : end + length]))
            end += length


def _draw_block(catalogue: Catalogue, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of ROWS_AT_ONCE sessions, int64, and the ranks of their items, int64 (sum of lengths,)."""
    lengths = rng.integers(*LENGTHS, size=ROWS_AT_ONCE)
    topics = np.repeat(_draw(rng, catalogue.clusters, ROWS_AT_ONCE), lengths)
    total = len(topics)
    anywhere = _draw(rng, catalogue.clusters, total)
    clusters = np.where(rng.random(total) < SHARE_OF_CLUSTER, topics, anywhere)
    last = catalogue.sizes[clusters] - 1  # sizes differ, so the uniform number is scaled to each cluster's sum
    places = np.searchsorted(catalogue.places, rng.random(total) * catalogue.places[last], side="right")
    return lengths, np.minimum(places, last) * len(catalogue.sizes) + clusters


def _draw(rng: np.random.Generator, cumulative: np.ndarray, number: int) -> np.ndarray:
    """Indices int64 (number,) by their cumulative probabilities; the last takes what rounding leaves."""
    return np.minimum(np.searchsorted(cumulative, rng.random(number), side="right"), len(cumulative) - 1)
