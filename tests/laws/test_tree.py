"""The tree head, beyond what all heads have in common."""

import pytest
import torch
from head_cases import DIM, NEVER, all_log_probs, hidden_vectors, make_head, seeded_uniforms, targets_of

from quorem.embeddings import Assignment, DenseEmbedding
from quorem.heads import TreeHead, tree


@pytest.mark.parametrize("moduli", [None, [3, 5]])
def test_pieces_of_gathered_rows_change_nothing(monkeypatch, moduli):
    """Three positions at once, one at once: losses, gradients and draws are those of all at once."""
    head = make_head("tree", {"moduli": moduli}, "dense", {}, 5, True)
    targets = targets_of(head).repeat(3)
    hidden = hidden_vectors(len(targets)).requires_grad_()
    uniforms = seeded_uniforms(len(targets))

    def everything():
        loss = head.nll(hidden, targets)
        wanted = [hidden, *head.parameters(), *head.embedding.parameters()]
        return loss.detach(), torch.autograd.grad(loss.sum(), wanted), head.sample(hidden.detach(), uniforms)

    once = everything()
    for numbers in (3 * 9 * DIM, 1):
        monkeypatch.setattr(tree, "NUMBERS_AT_ONCE", {"cpu": numbers})
        torch.testing.assert_close(everything(), once, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("moduli", [None, [3, 5]])
def test_rows_of_nodes_are_weighted_means_of_the_vectors_below_them(moduli):
    head = make_head("tree", {"moduli": moduli}, "low_rank", {"rank": 3}, 5, True)
    grid, counts = head.embedding.assignment, torch.arange(61) % 7
    head.start_at_vectors(counts)
    levels = {0: head.bucket, **({1: head.node_1} if moduli else {})}
    assert len(levels) == len(head.moduli)
    for level, rows in levels.items():
        span = head.spans[level]
        for node, row in enumerate(rows):
            codes = torch.arange(node * span, min((node + 1) * span, grid.tail))
            ids = grid.ids(grid.own_rows + codes)
            weight = counts[ids].double().clamp(min=0.5)
            mean = (head.embedding(ids).double() * weight.unsqueeze(-1)).sum(0) / weight.sum()
            torch.testing.assert_close(row.double(), mean, atol=1e-5, rtol=1e-5)


def test_a_tree_starts_with_the_scores_of_its_vectors():
    """Maps are the identity: two tokens of a bucket differ by the product of h with their vectors, and their counts."""
    embedding = DenseEmbedding(Assignment(61, own_rows=5, divisor=9), DIM)
    head, hidden = TreeHead(embedding, never=NEVER), hidden_vectors(4)
    head.start_at_unigram(torch.full((61,), 3))
    log_probs = all_log_probs(head, hidden)
    scores = hidden @ embedding.weight.T
    torch.testing.assert_close(log_probs[:, 15] - log_probs[:, 16], scores[:, 15] - scores[:, 16], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("table", ["dense", "low_rank", "qr", "hash_embedding", "pq"])
def test_scores_of_a_table_are_products_with_its_vectors(table):
    given = {"low_rank": {"rank": 3}, "qr": {"operation": "add"}, "hash_embedding": {"rows": 20}}
    options = (given | {"pq": {"parts": 3, "rows": 5}}).get(table, {})
    embedding = make_head("tree", {}, table, options, 5, True).embedding
    hidden, tail = hidden_vectors(4), torch.randint(0, 56, (4, 7), generator=torch.Generator().manual_seed(1))
    vectors = embedding(embedding.assignment.ids(5 + tail))
    expected = (vectors * hidden.unsqueeze(1)).sum(-1)
    torch.testing.assert_close(embedding.tail_scores(hidden, tail), expected, atol=1e-5, rtol=1e-5)
