"""Counts of pairs, their information and its decomposition, beside plain loops; and what may not be read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_cases import VOCAB, write_numbers

from quorem.arrangement import cooccurrence
from quorem.arrangement.cooccurrence import cooccurrence_vectors, decomposed, pair_counts, positive_pmi, start_table
from quorem.data.corpus import Corpus
from quorem.data.rows import ROWS, hold_out

CLS, PAD, SEP = 2, 0, 3


def texts(number=300, seed=0):
    """Documents of 1 to 12 ids from 5 to VOCAB - 3; the last two tokens of the vocabulary never occur."""
    rng = np.random.default_rng(seed)
    return [" ".join(map(str, rng.integers(5, VOCAB - 2, size=rng.integers(1, 13)))) for _ in range(number)]


@pytest.fixture
def shards(tmp_path, monkeypatch):
    return write_numbers(tmp_path / "s", texts(), monkeypatch)


def plain_counts(documents, window=cooccurrence.WINDOW):
    """Pairs counted by a loop, (V, V)."""
    table = np.zeros((VOCAB, VOCAB))
    for document in documents:
        for place, token in enumerate(document):
            for other in range(max(0, place - window), min(len(document), place + window + 1)):
                table[token, document[other]] += other != place
    return table


def by_id(corpus, counted, ids):
    """The counts of `pair_counts`, (V, V)."""
    contexts = np.argsort(-corpus.counts, kind="stable")
    contexts = contexts[corpus.counts[contexts] > 0]
    table = np.zeros((VOCAB, VOCAB))
    table[np.ix_(ids, contexts)] = counted.toarray()
    return table


@pytest.mark.parametrize(("block", "window"), [(10**6, 5), (10**6, 1), (97, 12), (7, 5)])
def test_pairs_are_those_of_a_plain_loop(shards, monkeypatch, block, window):
    """But for pairs that the border of a block cuts: with one block all of them."""
    monkeypatch.setattr(cooccurrence, "BLOCK", block)
    block = block * cooccurrence.WINDOW // max(window, cooccurrence.WINDOW)
    corpus, ids = Corpus(shards), np.arange(5, VOCAB)
    found = by_id(corpus, pair_counts(corpus, ids, window=window), ids)
    tokens = shards.tokens.astype(int)
    pieces = [tokens[start : start + block] for start in range(0, len(tokens), block)]
    documents = [part[part != SEP] for piece in pieces for part in np.split(piece, np.flatnonzero(piece == SEP))]
    np.testing.assert_array_equal(found, plain_counts(documents, window))


@pytest.mark.parametrize("rows", list(ROWS))
def test_held_out_rows_are_not_read(shards, rows):
    """Neither counts nor pairs have anything of them: those of the training spans alone, one by one."""
    every = ROWS[rows](shards, max_length=16, cls_id=CLS, pad_id=PAD)
    training, held_out = hold_out(every, 0.3, seed=1)
    corpus, ids = Corpus(shards, held_out), np.arange(5, VOCAB)
    tokens, owner = shards.tokens.astype(int), np.zeros(len(shards.tokens), int)
    for mark, part in ((1, training), (2, held_out)):
        for start, length in zip(*part.spans(), strict=True):
            assert (owner[start : start + length] == 0).all()
            owner[start : start + length] = mark
    assert (owner > 0).all()
    assert len(training) > 0 < len(held_out)
    kept = tokens[(owner == 1) & (tokens != SEP)]
    assert corpus.counts.tolist() == np.bincount(kept, minlength=VOCAB).tolist()
    document = np.cumsum(np.concatenate([[0], tokens[:-1] == SEP]))
    table = np.zeros((VOCAB, VOCAB))
    for place in np.flatnonzero((owner == 1) & (tokens != SEP)):
        for other in range(max(0, place - 5), min(len(tokens), place + 6)):
            same = document[other] == document[place] and tokens[other] != SEP
            table[tokens[place], tokens[other]] += other != place and owner[other] == 1 and same
    np.testing.assert_array_equal(by_id(corpus, pair_counts(corpus, ids), ids), table)


def test_a_change_of_held_out_text_changes_no_vector(tmp_path, monkeypatch):
    documents = texts()
    one = write_numbers(tmp_path / "one", documents, monkeypatch)
    rows = ROWS["documents"](one, max_length=16, cls_id=CLS, pad_id=PAD)
    _, held_out = hold_out(rows, 0.3, seed=1)
    changed = list(documents)
    for index in held_out.chosen.tolist():
        changed[index] = " ".join(["7"] * len(documents[index].split()))
    other = write_numbers(tmp_path / "other", changed, monkeypatch)
    found = [cooccurrence_vectors(Corpus(each, held_out), components=6) for each in (one, other)]
    assert not np.array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(*found)


def test_information_is_that_of_its_formula(shards):
    corpus, ids = Corpus(shards), np.arange(5, VOCAB)
    counted = pair_counts(corpus, ids)
    counts = counted.toarray().astype(float)
    of_contexts = counts.sum(0) ** 0.75
    with np.errstate(divide="ignore"):
        expected = np.log(counts / (counts.sum(1, keepdims=True).clip(min=1) * of_contexts / of_contexts.sum()))
    np.testing.assert_allclose(positive_pmi(counted).toarray(), expected.clip(min=0), atol=1e-5)


def test_the_decomposition_is_the_exact_one(shards):
    corpus = Corpus(shards)
    matrix = positive_pmi(pair_counts(corpus, np.arange(5, VOCAB)))
    found = decomposed(matrix, components=5, seed=0)
    left, values, _ = np.linalg.svd(matrix.toarray())
    exact = left[:, :5] * np.sqrt(values[:5])
    np.testing.assert_allclose(np.abs(found), np.abs(exact), atol=0.02 * np.abs(exact).max())
    np.testing.assert_array_equal(found[:, :3].shape, decomposed(matrix, components=3, seed=0).shape)


def test_vectors_are_of_norm_one_and_zero_for_tokens_never_seen(shards):
    vectors = cooccurrence_vectors(Corpus(shards), components=200)
    seen = shards.counts > 0
    np.testing.assert_allclose(np.linalg.norm(vectors[seen], axis=1), 1, atol=1e-5)
    assert not vectors[~seen].any()
    np.testing.assert_array_equal(vectors, cooccurrence_vectors(Corpus(shards), components=200))


@settings(deadline=None, max_examples=20)
@given(width=st.integers(1, 12), components=st.integers(1, 12))
def test_a_start_has_rows_as_long_as_the_initialisers(width, components):
    vectors = torch.randn(50, components, generator=torch.Generator().manual_seed(width))
    vectors[7] = 0
    std = 0.3
    table = start_table(vectors, std=std, width=width, generator=torch.Generator().manual_seed(0))
    assert table.shape == (50, width)
    length = table.norm(dim=1) / (std * width**0.5)
    known = torch.arange(50) != 7
    torch.testing.assert_close(length[known], torch.ones(49), atol=0.4 if components < width else 1e-4, rtol=0)
    assert length[7] > 0
    if components >= width:
        rows = vectors[:, :width]
        cosine = torch.nn.functional.cosine_similarity(table[known], rows[known])
        torch.testing.assert_close(cosine, torch.ones(49), atol=1e-5, rtol=0)


def test_reading_ends_when_there_are_pairs_enough(shards, monkeypatch):
    monkeypatch.setattr(cooccurrence, "BLOCK", 50)
    corpus, ids = Corpus(shards), np.arange(5, VOCAB)
    every = pair_counts(corpus, ids)
    monkeypatch.setattr(cooccurrence, "PAIRS_KEPT", 100)
    some = pair_counts(corpus, ids)
    assert 100 < some.nnz < every.nnz
