"""The laws of the order in which tables lay out tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorem import order as order_module
from quorem.data import shards as shards_module
from quorem.data.documents import Document
from quorem.data.shards import Shards, write_shards
from quorem.errors import UserError
from quorem.order import ORDERS, clusters, frequency_order, store_order, stored_order, token_order

VOCAB, OWN, DIVISOR = 82, 12, 10
KINDS = 7  # of planted tokens, ten each


class NumberTokenizer:
    """A text is its ids, written out."""

    sep_token_id = 3

    def __len__(self):
        return VOCAB


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Documents in which the kind of a token follows from its neighbours; ids 5 to 11 are the neighbours."""
    monkeypatch.setattr(shards_module, "encode", lambda _, texts: [[int(i) for i in text.split()] for text in texts])
    rng = np.random.default_rng(0)
    kind_of = rng.permutation(np.repeat(np.arange(KINDS), 10))
    texts = []
    for _ in range(4000):
        token = rng.integers(70)
        kind = kind_of[token]
        texts.append(f"{5 + kind} {12 + token} {5 + (kind + 3) % KINDS}")
    write_shards(tmp_path / "s", (Document(t, row=i) for i, t in enumerate(texts)), NumberTokenizer(), made_from={})
    return Shards(tmp_path / "s"), kind_of


@pytest.mark.parametrize("kind", [kind for kind in ORDERS if kind not in ("identity", "file")])
def test_every_order_has_each_id_once_special_and_frequent_ones_first(shards, kind):
    found = token_order(kind, shards[0], own_rows=OWN, divisor=DIVISOR, seed=1)
    assert sorted(found.tolist()) == list(range(VOCAB))
    assert torch.equal(found[:OWN], frequency_order(torch.from_numpy(shards[0].counts))[:OWN])
    assert torch.equal(found, token_order(kind, shards[0], own_rows=OWN, divisor=DIVISOR, seed=1))
    other = token_order(kind, shards[0], own_rows=OWN, divisor=DIVISOR, seed=2)
    assert kind == "cluster" or torch.equal(found, other) == (kind == "frequency")


def test_tokens_in_like_contexts_come_into_one_group(shards):
    data, kind_of = shards
    tail = token_order("cluster", data, own_rows=OWN, divisor=DIVISOR)[OWN:] - 12
    groups = [set(kind_of[tail[start : start + 10]]) for start in range(0, 70, 10)]
    assert sum(len(group) for group in groups) == KINDS  # by chance it would be 38
    rarest_last = torch.from_numpy(data.counts)[tail.view(7, 10) + 12]
    assert (rarest_last.diff(dim=1) <= 0).all()


@settings(deadline=None)
@given(number=st.integers(1, 80), size=st.integers(1, 30))
def test_groups_are_full_and_have_each_row_once(number, size):
    vectors = np.random.default_rng(number).normal(size=(number, 4)).astype(np.float32)
    groups = clusters(vectors, size=size)
    assert sorted(np.concatenate(groups).tolist()) == list(range(number))
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    assert len(groups) == -(-number // size)


def test_counts_of_contexts_are_those_of_a_plain_loop(shards, monkeypatch):
    """Inside documents."""
    data, _ = shards
    monkeypatch.setattr(order_module, "COMPONENTS", 70)
    ids = np.arange(12, 82)
    vectors = order_module.context_vectors(data, ids)
    tokens, contexts = data.tokens.astype(int), np.argsort(-data.counts, kind="stable")[:1000].tolist()
    document = np.cumsum(tokens == 3)
    table = np.zeros((70, 2000))
    for place, token in enumerate(tokens):
        for offset in (1, 2):
            for side, other in ((0, place - offset), (1, place + offset)):
                if token < 12 or not 0 <= other < len(tokens) or tokens[other] == 3:
                    continue
                if document[other] == document[place]:
                    table[token - 12, side * 1000 + contexts.index(tokens[other])] += 1
    shares = np.sqrt(table / table.sum(1, keepdims=True).clip(min=1))
    np.testing.assert_allclose(vectors @ vectors.T, shares @ shares.T, atol=1e-4)


def test_a_file_says_what_comes_first(shards, tmp_path):
    data, _ = shards
    tokens = {f"t{i}": i for i in range(VOCAB)}
    path = tmp_path / "order.txt"
    path.write_text("t80\nt20\nnot a token\nt5\nt50\n")
    found = token_order("file", data, own_rows=OWN, divisor=DIVISOR, tokens=tokens, path=str(path))
    assert [i for i in found.tolist()[OWN:]][:3] == [80, 20, 50]
    assert sorted(found.tolist()) == list(range(VOCAB))
    for content, message in (("t80\nt7\nt80\n", "line 3: 't80' is in line 1 already"), ("a\nb\n", "none of its 2")):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            token_order("file", data, own_rows=OWN, divisor=DIVISOR, tokens=tokens, path=str(path))
    with pytest.raises(UserError, match="cannot be read"):
        token_order("file", data, own_rows=OWN, divisor=DIVISOR, tokens=tokens, path=str(tmp_path / "none"))


def test_an_order_is_stored_whole(tmp_path):
    path = tmp_path / "order.bin"
    assert stored_order(path, 1000) is None
    order = torch.randperm(1000)
    store_order(path, order)
    assert torch.equal(stored_order(path, 1000), order)
    path.write_bytes(path.read_bytes()[:-4])
    assert stored_order(path, 1000) is None
    assert [file.name for file in tmp_path.iterdir()] == ["order.bin"]
