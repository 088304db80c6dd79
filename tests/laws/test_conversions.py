"""Tables from dense ones, to dense ones, and grown."""

import pytest
import torch
from test_embeddings import DIM, VARIANTS, VOCAB, every_grid, make_embedding, on_two_grids

FITTED = [
    (kind, options)
    for kind, options in VARIANTS
    if kind in ("dense", "qr", "hashing", "low_rank", "memcom") and "own_rank" not in options
]  # fmt: skip
GROWING = [(kind, options) for kind, options in VARIANTS if kind != "attributes"]  # new ids come without attributes


@every_grid
@pytest.mark.parametrize(
    ("kind", "options"), FITTED, ids=["-".join([kind, *map(str, options.values())]) for kind, options in FITTED]
)
def test_from_dense_brings_back_a_table_of_its_own_kind_and_no_small_change_is_nearer(
    kind, options, own_rows, permuted
):
    source = make_embedding(kind, options, own_rows, permuted, divisor=10)
    fitted = make_embedding(kind, options, own_rows, permuted, divisor=10)
    fitted.reset_parameters(0.01)
    complete = (VOCAB - own_rows) % 10 == 0 or kind != "qr"  # with a tier of 13 the last bucket is full
    assert fitted.from_dense(source.to_dense()) > 0.9999
    torch.manual_seed(1)
    weight = torch.randn(VOCAB, DIM)
    explained = fitted.from_dense(weight)
    error = (fitted.to_dense() - weight).square().sum()
    assert explained == pytest.approx(1 - error.item() / (weight - weight.mean(0)).square().sum().item(), abs=1e-5)
    if complete:
        for parameter in fitted.parameters():
            if parameter.numel():
                kept = parameter.data.clone()
                parameter.data.add_(torch.randn_like(parameter), alpha=0.03)
                assert (fitted.to_dense() - weight).square().sum() > error - 1e-4
                parameter.data.copy_(kept)


def test_enough_products_reach_any_table():
    embedding = make_embedding("qr", {"operation": "multiply", "rank": 10}, 3, False, divisor=10)
    weight = torch.randn(VOCAB, DIM)
    assert embedding.from_dense(weight) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(embedding.to_dense(), weight, rtol=1e-4, atol=1e-5)


BY_GRADIENT = [(kind, options) for kind, options in VARIANTS if (kind, options) not in FITTED]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    BY_GRADIENT,
    ids=["-".join([kind, *map(str, options.values())]) for kind, options in BY_GRADIENT],
)
def test_a_kind_without_a_closed_form_comes_near_a_table_of_its_own_kind(kind, options):
    source, fitted = (make_embedding(kind, options, 13, True, divisor=10) for _ in range(2))
    torch.manual_seed(1)
    fitted.reset_parameters(0.01)
    weight = source.to_dense()
    before = fitted.explained(weight)
    explained = fitted.from_dense(weight)
    assert explained > max(0.8, before)
    assert explained == pytest.approx(fitted.explained(weight), abs=1e-6)
    assert all(parameter.grad is None for parameter in fitted.parameters())


@on_two_grids(GROWING)
def test_growing_moves_no_id(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    larger = embedding.grown(VOCAB + 15)
    ids = torch.arange(VOCAB)
    torch.testing.assert_close(larger(ids), embedding(ids), rtol=1e-6, atol=1e-6)
    assert torch.equal(larger.assignment.ranks(ids), embedding.assignment.ranks(ids))
    assert larger(torch.arange(VOCAB + 15)).isfinite().all()
    if larger.uniqueness:
        assert len(larger(torch.arange(VOCAB + 15)).unique(dim=0)) == VOCAB + 15
    assert not {p.data_ptr() for p in larger.parameters()} & {p.data_ptr() for p in embedding.parameters() if len(p)}


def test_a_dense_table_without_a_grid_grows_by_rows():
    embedding = make_embedding("dense", {}, VOCAB, False, divisor=1)
    larger = embedding.grown(VOCAB + 2)
    assert torch.equal(larger(torch.arange(VOCAB)), embedding(torch.arange(VOCAB)))
    assert larger(torch.arange(VOCAB + 2)).shape == (VOCAB + 2, DIM)
    with pytest.raises(ValueError, match="needed, not"):
        embedding.from_dense(torch.zeros(DIM))


def test_growing_beyond_the_grid_is_refused():
    with pytest.raises(ValueError, match="product 120 is below the 200 ids"):
        make_embedding("chinese_remainder", {"moduli": [3, 5, 8]}, 0, False).grown(200)
    with pytest.raises(ValueError, match="new tokens have no attributes"):
        make_embedding("attributes", {"sizes": [3, 5, 8]}, 0, False).grown(VOCAB + 1)
    with pytest.raises(ValueError, match="at least the current 103"):
        make_embedding("qr", {}, 0, False).grown(7)
    with pytest.raises(ValueError, match="no shared rows"):
        make_embedding("qr", {}, VOCAB, False).grown(VOCAB + 1)
