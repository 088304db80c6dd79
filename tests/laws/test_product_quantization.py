"""Product quantization: what codes keep of vectors, and what stays when only codewords are fitted again."""

import pytest
import torch

from quorem.embeddings import Assignment
from quorem.embeddings.product_quantization import ProductQuantizationEmbedding, _dealt_out

TOKENS, WIDTH = 3_000, 16


def make_table(parts, *, own_rows=5, **options):
    torch.manual_seed(0)
    return ProductQuantizationEmbedding(Assignment(TOKENS, own_rows=own_rows, divisor=1), WIDTH, parts=parts, **options)


def gaussian(seed=1):
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_two_bits_a_number_keep_more_than_a_scalar_quantizer_does():
    """Max 1960, table I: the best four levels for each number of a Gaussian leave 0.1175 of its variance."""
    assert make_table(4).from_dense(gaussian()) > 1 - 0.1175


@pytest.mark.slow
def test_each_part_more_keeps_more_and_a_byte_a_number_nearly_all():
    kept = [make_table(parts).from_dense(gaussian()) for parts in (1, 2, 3, 5, 8, 11, 16)]
    assert kept == sorted(kept)
    assert kept[-1] > 0.999


@pytest.mark.slow
def test_axes_are_found_whatever_way_vectors_are_turned():
    """Where four directions hold nearly all, each part gets one of them, though no column says so."""
    spread = torch.tensor([1.0] * 4 + [0.01] * 12)
    turned = torch.linalg.qr(gaussian(2)[:WIDTH]).Q
    straight, slanted = gaussian() * spread, (gaussian() * spread) @ turned
    assert make_table(4).from_dense(slanted) == pytest.approx(make_table(4).from_dense(straight), abs=2e-3)
    assert make_table(4).from_dense(slanted) > 0.99


def test_axes_go_where_the_product_is_smallest():
    assert _dealt_out([8.0, 4.0, 2.0, 1.0], [2, 2]) == [0, 3, 1, 2]
    assert _dealt_out([1.0, 9.0, 1.0], [2, 1]) == [1, 2, 0]
    assert sorted(_dealt_out([1.0] * 7, [3, 2, 2])) == list(range(7))


def test_fitting_again_keeps_the_codes_and_is_the_best_for_them():
    table, other = make_table(4, rows=30), gaussian(3)
    table.from_dense(gaussian())
    codes = table.token_codes.clone()
    before = table.explained(other)
    kept = table.refit(other)
    assert torch.equal(table.token_codes, codes)
    assert kept > before
    for seed in range(5):
        near = table.codewords.data.clone()
        table.codewords.data.add_(torch.randn(near.shape, generator=torch.Generator().manual_seed(seed)), alpha=0.03)
        assert table.explained(other) < kept
        table.codewords.data.copy_(near)
    assert table.from_dense(other) > kept


def test_a_matrix_that_training_has_bent_is_made_straight():
    """Means of parts are no least squares for it: the parts are coupled."""
    table = make_table(4)
    table.from_dense(gaussian())
    table.rotation.data.add_(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(5)), alpha=0.1)
    kept = table.refit(gaussian())
    torch.testing.assert_close(table.rotation @ table.rotation.T, torch.eye(WIDTH), atol=1e-5, rtol=0)
    assert kept > 0.5


@pytest.mark.parametrize("parts", [3, 5, 7])
def test_parts_of_two_widths_are_cut_and_scored_alike(parts):
    table, tail = make_table(parts), torch.arange(300).view(1, -1)
    table.from_dense(gaussian())
    hidden = gaussian(4)[:1]
    torch.testing.assert_close(
        table.tail_scores(hidden, tail), (table.tail_vectors(tail) @ hidden[0]), atol=1e-4, rtol=0
    )
    assert sum(table.widths) == WIDTH


@pytest.mark.parametrize("own_rows", [TOKENS, TOKENS - 1])
def test_few_tokens_without_a_row_of_their_own(own_rows):
    table = make_table(2, own_rows=own_rows)
    assert table.from_dense(gaussian()) > 0.999
    assert all(parameter.isfinite().all() for parameter in table.parameters())


def test_few_different_rows_are_no_reason_to_warn():
    rows = gaussian()[torch.arange(TOKENS) % 7]
    assert make_table(2).from_dense(rows) > 0.999


def test_a_codeword_that_no_token_has_stays():
    table = make_table(2, rows=8)
    table.token_codes.zero_()
    unread = table.codewords.data[1:].clone()
    table.refit(gaussian())
    assert torch.equal(table.codewords.data[1:], unread)


@pytest.mark.parametrize(("parts", "rows"), [(0, 256), (WIDTH + 1, 256), (4, 0), (4, 257)])
def test_numbers_out_of_range_are_refused(parts, rows):
    with pytest.raises(ValueError, match=r"(parts|rows)=\d+: 1 to "):
        make_table(parts, rows=rows)
