"""The full softmax in chunks: what they change (nothing), what is kept for the backward pass, and its gradients."""

import pytest
import torch
from head_cases import all_log_probs, gradients, hidden_vectors, make_head, seeded_uniforms, targets_of

import quorem.heads.full


@pytest.mark.parametrize(("block", "scores_at_once"), [(1, 1), (1, 300), (1, 1000), (2, 1), (4, 600), (7, 1000)])
@pytest.mark.parametrize(("table", "options"), [("dense", {}), ("qr", {"operation": "multiply"})])
def test_chunks_of_the_full_head_change_nothing(monkeypatch, table, options, block, scores_at_once):
    """Chunks of one id, five and seventeen, and of blocks: some hold only ids that are never targets, the last block
    and the last chunk are incomplete."""
    head = make_head("full", {}, table, options, 17, True)
    targets = targets_of(head)
    hidden = hidden_vectors(len(targets)).requires_grad_()
    uniforms, exclude = seeded_uniforms(len(targets)), targets.flip(0)

    def everything():
        loss = head.nll(hidden, targets)
        slope = torch.autograd.grad(loss.sum(), hidden, retain_graph=True)[0]
        values, ids = head.topk(hidden, 7)
        drawn = head.sample(hidden, uniforms), head.sample(hidden, uniforms, exclude)
        return loss, slope, gradients(head, loss.sum()), all_log_probs(head, hidden), values, ids, drawn

    once = everything()
    monkeypatch.setattr(quorem.heads.full, "SCORES_AT_ONCE", {"cpu": scores_at_once})
    monkeypatch.setattr(quorem.heads.full, "BLOCK", block)
    assert len(head.embedding.chunks(head._chunk_size(len(hidden)))) > 3
    torch.testing.assert_close(everything(), once, atol=2e-5, rtol=1e-4)


@pytest.fixture
def small_chunks(monkeypatch):
    """A few dozen ids at once."""
    monkeypatch.setattr(quorem.heads.full, "SCORES_AT_ONCE", {"cpu": 300})
    monkeypatch.setattr(quorem.heads.full, "BLOCK", 1)


def test_chunks_in_bf16_have_the_gradients_of_float32_and_a_frozen_table_has_none(small_chunks):
    head = make_head("cosine", {}, "qr", {}, 17, True)
    targets = targets_of(head)
    hidden = hidden_vectors(len(targets)).requires_grad_()
    expected = torch.autograd.grad(head.nll(hidden, targets).sum(), [hidden, head.bias])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.nll(hidden, targets).sum()
    torch.testing.assert_close(torch.autograd.grad(loss, [hidden, head.bias]), expected, atol=0.05, rtol=0.05)
    head.embedding.requires_grad_(False)
    head.nll(hidden, targets).sum().backward()
    torch.testing.assert_close(hidden.grad, expected[0])
    assert all(parameter.grad is None for parameter in head.embedding.parameters())


def test_a_chunk_of_ids_that_are_never_targets_has_finite_gradients_in_float64(small_chunks):
    head = make_head("full", {}, "dense", {}, 17, True)
    head.never_ids = tuple(range(40))  # the first chunks whole
    head.double()
    hidden = hidden_vectors(3).double().requires_grad_()
    head.nll(hidden, torch.tensor([41, 50, 60])).sum().backward()
    assert hidden.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("table", ["dense", "qr", "pq"])
def test_the_full_head_keeps_one_copy_of_all_vectors(small_chunks, table):
    """However many chunks there are: neither scores nor what vectors are made of."""
    options = {"parts": 4, "rows": 16} if table == "pq" else {}
    head = make_head("cosine", {}, table, options, 17, True, vocab=611, divisor=30)
    parameters = {
        parameter.untyped_storage().data_ptr() for parameter in (*head.parameters(), *head.embedding.parameters())
    }
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = head.nll(hidden_vectors(9).requires_grad_(), torch.arange(10, 19))
    assert len(head.embedding.chunks(head._chunk_size(9))) == 19
    more = sum(size for place, size in kept.items() if place not in parameters)
    vectors = 611 * head.embedding.dim * 4
    assert vectors < more < 1.8 * vectors
    assert loss.requires_grad
