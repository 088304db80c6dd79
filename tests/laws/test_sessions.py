"""The sample of sessions: reproducible, planted as it says, and with the entropies it states."""

from functools import cache
from itertools import islice

import numpy as np
import pytest
from reader_cases import read_text

from quorem.errors import UserError
from quorem.samples.sessions import (
    LENGTHS,
    ROWS_AT_ONCE,
    SHARE_OF_CLUSTER,
    cluster_of_items,
    entropies,
    sessions,
    write_sessions,
)

SIZES = [100, 997, 10_000]
ROWS = 60_000


@cache
def sample(vocab_size):
    """Sessions as items, int64 (n,), and the number of the session of each, int64 (n,)."""
    rows = list(sessions(ROWS, vocab_size=vocab_size))
    return np.array(" ".join(rows).split(), np.int64), np.repeat(np.arange(ROWS), [row.count(" ") + 1 for row in rows])


def zipf(number):
    return 1 / np.arange(1, number + 1) / (1 / np.arange(1, number + 1)).sum()


def long_sessions(vocab_size):
    """The items of sessions of 20 or more, with the cluster most of the session's items are of: the planted one.

    (That 10 or fewer of 20 items are of the planted cluster has a probability below 0.003; length says nothing of it.)
    """
    items, session = sample(vocab_size)
    clusters = cluster_of_items(vocab_size)[items]
    counted = np.bincount(session * (clusters.max() + 1) + clusters, minlength=ROWS * (clusters.max() + 1))
    topic = counted.reshape(ROWS, -1).argmax(1)[session]
    long = np.bincount(session)[session] >= 20
    return items[long], topic[long], clusters[long]


def counted_entropy(*numbers):
    """Joint entropy in nats, as counted and with Miller's correction for what counting few of each loses."""
    _, counts = np.unique(np.stack(numbers), axis=1, return_counts=True)
    shares = counts / counts.sum()
    return float(-shares @ np.log(shares)) + (len(counts) - 1) / (2 * counts.sum())


def test_the_same_numbers_give_the_same_sessions_and_others_others():
    first = list(sessions(50, vocab_size=1000, seed=3))
    assert list(sessions(50, vocab_size=1000, seed=3)) == first
    assert not set(sessions(50, vocab_size=1000, seed=4)) & set(first)
    assert not set(sessions(50, vocab_size=1001, seed=3)) & set(first)


@pytest.mark.parametrize("rows", [1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1])
def test_a_session_does_not_depend_on_how_many_follow(rows):
    longer = islice(sessions(2 * ROWS_AT_ONCE + 7, vocab_size=500, seed=5), rows)
    assert list(sessions(rows, vocab_size=500, seed=5)) == list(longer)


def test_all_seeds_share_one_catalogue():
    top = []
    for seed in (0, 1):
        items = np.array(" ".join(sessions(5000, vocab_size=10_000, seed=seed)).split(), np.int64)
        top.append(set(np.argsort(-np.bincount(items, minlength=10_000))[:20].tolist()))
    assert len(top[0] & top[1]) >= 17


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", SIZES)
def test_sessions_have_the_length_and_the_items_they_should(vocab_size):
    items, session = sample(vocab_size)
    lengths = np.bincount(session, minlength=ROWS)
    assert (lengths.min(), lengths.max() + 1) == LENGTHS
    assert abs(lengths.mean() - 20) < 0.15  # 4 standard errors
    assert items.max() < vocab_size
    of_session = cluster_of_items(vocab_size)[items]
    most = [np.bincount(of_session[session == number]).max() for number in range(200)]
    assert 0.75 < sum(most) / lengths[:200].sum() < 0.9  # 0.8 are of the session's cluster, some others by chance


@pytest.mark.parametrize("vocab_size", SIZES)
def test_every_item_has_a_cluster_and_clusters_are_of_one_size(vocab_size):
    sizes = np.bincount(cluster_of_items(vocab_size))
    assert sizes.sum() == vocab_size
    assert sizes.max() - sizes.min() <= 1
    assert abs(len(sizes) - vocab_size**0.5) < 1


def test_a_huge_catalogue_has_more_clusters_not_larger_ones():
    assert np.bincount(cluster_of_items(2_000_001)).max() == 1000


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", SIZES)
def test_clusters_and_items_in_them_are_zipf(vocab_size):
    items, _ = sample(vocab_size)
    clusters = cluster_of_items(vocab_size)
    popular = np.bincount(clusters[items]) / len(items)
    assert np.abs(popular - zipf(len(popular))).max() < 0.006  # 4 standard errors: 60,000 draws, not 1,200,000
    if vocab_size > 150:
        return  # too few of each item are seen to put them in order
    counts, sizes = np.bincount(items, minlength=vocab_size), np.bincount(clusters)
    for size in set(sizes):
        inside = sum(np.sort(counts[clusters == cluster])[::-1] for cluster in np.flatnonzero(sizes == size))
        expected = zipf(size) * inside.sum()
        assert np.all(np.abs(inside - expected) < 4 * expected**0.5 + 1)


@pytest.mark.parametrize("vocab_size", SIZES)
def test_the_planted_share_of_a_session_is_of_one_cluster(vocab_size):
    _, topic, clusters = long_sessions(vocab_size)
    popular = zipf(clusters.max() + 1)
    expected = SHARE_OF_CLUSTER + (1 - SHARE_OF_CLUSTER) * popular @ popular
    assert np.mean(topic == clusters) == pytest.approx(expected, abs=0.003)
    shuffled = np.random.default_rng(0).permutation(topic)
    assert np.mean(shuffled == clusters) < expected - 0.5


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", SIZES)
def test_the_stated_entropy_is_that_of_the_items_counted(vocab_size):
    items, _ = sample(vocab_size)
    assert counted_entropy(items) == pytest.approx(entropies(vocab_size).item, abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", SIZES[:2])  # beyond, too few of each pair are seen to be counted
def test_the_stated_gain_of_knowing_the_cluster_is_that_of_the_pairs_counted(vocab_size):
    items, topic, _ = long_sessions(vocab_size)
    given = counted_entropy(items, topic) - counted_entropy(topic)
    stated = entropies(vocab_size)
    assert given == pytest.approx(stated.item_given_cluster, abs=0.015)
    assert stated.item - stated.item_given_cluster > 1


@pytest.mark.parametrize("vocab_size", SIZES[:2])
def test_the_formula_is_the_sum_over_every_item_and_cluster(vocab_size):
    clusters = np.sort(cluster_of_items(vocab_size))
    popular = zipf(clusters.max() + 1)
    inside = np.concatenate([zipf(size) for size in np.bincount(clusters)])
    item = popular[clusters] * inside
    own = clusters == np.arange(clusters.max() + 1)[:, None]
    given = SHARE_OF_CLUSTER * own * inside + (1 - SHARE_OF_CLUSTER) * item  # (clusters, items)
    assert given.sum(1) == pytest.approx(1)
    assert popular @ given == pytest.approx(item)
    stated = entropies(vocab_size)
    assert stated.item == pytest.approx(-item @ np.log(item))
    assert stated.item_given_cluster == pytest.approx(-popular @ (given * np.log(given)).sum(1))


def test_a_name_gives_neither_cluster_nor_frequency_away():
    items, _ = sample(10_000)
    clusters, names = cluster_of_items(10_000), np.arange(10_000)
    for guess in (np.roll(clusters, 1), names % 100, names // 100):
        assert abs(np.mean(clusters == guess) - 0.01) < 0.004  # 4 standard errors
    counts = np.bincount(items, minlength=10_000)
    assert abs(np.corrcoef(names, counts.argsort().argsort())[0, 1]) < 0.04


def test_the_written_file_holds_the_sessions_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "items.txt"
    write_sessions(path, rows=30, vocab_size=300, seed=2)
    assert [document.text for document in read_text(path)] == list(sessions(30, vocab_size=300, seed=2))
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UserError, match="exists already"):
        write_sessions(path, rows=1, vocab_size=300)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows=0"),
        ({"seed": -1}, "seed=-1"),
        ({"vocab_size": 99}, "vocab_size=99"),
        ({"vocab_size": 10_000_001}, "100 to 10,000,000 different items"),
    ],
)
def test_numbers_out_of_range_are_refused_at_the_call(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        sessions(**{"rows": 1, "vocab_size": 100} | options)
    with pytest.raises(UserError, match=message):
        write_sessions(tmp_path / "a.txt", **{"rows": 1, "vocab_size": 100} | options)
    assert list(tmp_path.iterdir()) == []
