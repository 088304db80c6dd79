"""Approximate neighbours against exact ones, and when they are looked for."""

import logging

import numpy as np
import pytest
import torch

from quorem.embeddings import DenseEmbedding
from quorem.embeddings.assignment import Assignment
from quorem.vectors import nearest
from quorem.vectors.nearest import Graph, wants_graph
from quorem.vectors.similar import neighbours

V, WIDTH, TOP = 4_000, 32, 10


def table():
    """Vectors in 200 groups, as those of items are."""
    rng = torch.Generator().manual_seed(0)
    made = DenseEmbedding(Assignment(V, own_rows=V, divisor=1), WIDTH)
    groups = torch.randn(200, WIDTH, generator=rng)
    made.weight.data = groups[torch.arange(V) % 200] + 0.7 * torch.randn(V, WIDTH, generator=rng)
    return made


@pytest.mark.slow
def test_a_graph_finds_nearly_all_that_exact_search_finds():
    pytest.importorskip("faiss", reason="quorem[similar] is not installed")
    made, among, ids = table(), np.arange(5, V), list(range(100, 400))
    values, found = Graph(made, among)(ids, top=TOP)
    exact, expected = neighbours(made, ids, top=TOP, among=among)
    assert values.shape == found.shape == (300, TOP)
    shared = [len(set(one) & set(other)) / TOP for one, other in zip(found.tolist(), expected.tolist(), strict=True)]
    assert np.mean(shared) > 0.97  # recall
    assert (values[:, :-1] >= values[:, 1:]).all()
    assert (values <= exact + 1e-5).all()
    assert all(number not in row for number, row in zip(ids, found.tolist(), strict=True))
    assert found.min() >= 5
    few, _ = Graph(made, among[:4])([5], top=TOP)
    assert few.shape == (1, 3)


@pytest.mark.parametrize(
    ("number", "installed", "said"), [(11, True, "graph"), (11, False, "pip install"), (10, True, "")]
)
def test_a_graph_is_for_many_items_where_it_is_installed(monkeypatch, caplog, number, installed, said):
    monkeypatch.setattr(nearest, "LARGE", 10)
    monkeypatch.setattr(nearest, "find_spec", lambda name: object() if installed else None)
    with caplog.at_level(logging.INFO):
        assert wants_graph(number) == (number > 10 and installed)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)
