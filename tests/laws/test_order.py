"""The laws of the order in which tables lay out tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_cases import write_numbers

from quorem.arrangement.clusters import aligned, clusters
from quorem.arrangement.cooccurrence import cooccurrence_vectors
from quorem.arrangement.token_order import ORDERS, frequency_order, store_order, stored_order, token_order
from quorem.data.corpus import Corpus
from quorem.errors import UserError

VOCAB, OWN, DIVISOR = 82, 12, 10
KINDS = 7  # of planted tokens, ten each


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Documents in which the kind of a token follows from its neighbours; ids 5 to 11 are the neighbours."""
    rng = np.random.default_rng(0)
    kind_of = rng.permutation(np.repeat(np.arange(KINDS), 10))
    texts = []
    for _ in range(4000):
        token = rng.integers(70)
        kind = kind_of[token]
        texts.append(f"{5 + kind} {12 + token} {5 + (kind + 3) % KINDS}")
    return write_numbers(tmp_path / "s", texts, monkeypatch, vocab_size=VOCAB), kind_of


def order_of(kind, data, **options):
    vectors = cooccurrence_vectors(Corpus(data), components=8)
    return token_order(kind, data.counts, own_rows=OWN, divisor=DIVISOR, vectors=vectors, **options)


@pytest.mark.parametrize("kind", [kind for kind in ORDERS if kind not in ("identity", "file")])
def test_every_order_has_each_id_once_special_and_frequent_ones_first(shards, kind):
    found = order_of(kind, shards[0], seed=1)
    assert sorted(found.tolist()) == list(range(VOCAB))
    assert torch.equal(found[:OWN], frequency_order(torch.from_numpy(shards[0].counts))[:OWN])
    assert torch.equal(found, order_of(kind, shards[0], seed=1))
    assert torch.equal(found, order_of(kind, shards[0], seed=2)) == (kind != "random")


def test_tokens_in_like_contexts_come_into_one_group(shards):
    data, kind_of = shards
    tail = order_of("cluster", data)[OWN:] - 12
    groups = [set(kind_of[tail[start : start + 10]]) for start in range(0, 70, 10)]
    assert sum(len(group) for group in groups) == KINDS  # by chance it would be 38


def test_places_of_groups_are_matched():
    """Groups of the same five vectors around centres of their own: the same one comes to the same place everywhere."""
    rng = np.random.default_rng(0)
    inside, centres = rng.normal(size=(5, 6)), 10 * rng.normal(size=(8, 6))
    orders = [rng.permutation(5) for _ in centres]
    vectors = np.concatenate([c + inside[o] for c, o in zip(centres, orders, strict=True)]).astype(np.float32)
    groups = [np.arange(start, start + 5) for start in range(0, 40, 5)]
    found = aligned(vectors, [*groups, np.arange(3)])
    assert [sorted(group.tolist()) for group in found[:-1]] == [group.tolist() for group in groups]
    assert found[-1].tolist() == [0, 1, 2]  # an incomplete group stays as it is
    which = np.array([orders[number][group - 5 * number] for number, group in enumerate(found[:-1])])
    assert (which == which[0]).all()


@settings(deadline=None)
@given(number=st.integers(1, 80), size=st.integers(1, 30))
def test_groups_are_full_and_have_each_row_once(number, size):
    vectors = np.random.default_rng(number).normal(size=(number, 4)).astype(np.float32)
    groups = clusters(vectors, size=size)
    assert sorted(np.concatenate(groups).tolist()) == list(range(number))
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    assert len(groups) == -(-number // size)


@pytest.mark.slow
def test_a_file_says_what_comes_first(shards, tmp_path):
    data, _ = shards
    tokens = {f"t{i}": i for i in range(VOCAB)}
    path = tmp_path / "order.txt"
    path.write_text("t80\nt20\nnot a token\nt5\nt50\n", encoding="utf-8-sig")  # with the mark that Windows writes
    found = token_order("file", data.counts, own_rows=OWN, divisor=DIVISOR, tokens=tokens, path=str(path))
    assert [i for i in found.tolist()[OWN:]][:3] == [80, 20, 50]
    assert sorted(found.tolist()) == list(range(VOCAB))
    for content, message in (("t80\nt7\nt80\n", "line 3: 't80' is already in line 1"), ("a\nb\n", "none of its 2")):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            token_order("file", data.counts, own_rows=OWN, divisor=DIVISOR, tokens=tokens, path=str(path))
    with pytest.raises(UserError, match="cannot be read"):
        token_order("file", data.counts, own_rows=OWN, divisor=DIVISOR, tokens=tokens, path=str(tmp_path / "none"))


def test_an_order_is_stored_whole(tmp_path):
    path = tmp_path / "order.bin"
    assert stored_order(path, 1000) is None
    order = torch.randperm(1000)
    store_order(path, order)
    assert torch.equal(stored_order(path, 1000), order)
    path.write_bytes(path.read_bytes()[:-4])
    assert stored_order(path, 1000) is None
    assert [file.name for file in tmp_path.iterdir()] == ["order.bin"]
