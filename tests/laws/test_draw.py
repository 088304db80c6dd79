import pytest
import torch

from quorem.heads.base import draw


def test_draw_never_gives_an_impossible_index_and_leaves_a_uniform():
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf, -200.0, 1.0, -torch.inf]])
    uniforms = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    index, left = draw(scores.expand(50_000, -1), uniforms)
    assert set(index.tolist()) == {1, 4}
    for drawn in (1, 4):
        rest = left[index == drawn].sort().values
        torch.testing.assert_close(rest, torch.linspace(0, 1, len(rest), dtype=torch.float64), atol=1e-3, rtol=0)
    assert left.max() < 1


@pytest.mark.parametrize("count", [512, 513, 1000, 4096])
def test_a_draw_among_many_inverts_the_same_distribution(count):
    """Uniforms on a grid meet every share, past the count at which blocks are drawn first; the last block is short."""
    draws, rng = 10_000, torch.Generator().manual_seed(1)
    scores = torch.randn(1, count, generator=rng) * 2
    scores[0, ::7] = -torch.inf
    scores[0, 256:512] = -torch.inf  # a block that is never drawn
    index, left = draw(scores.expand(draws, -1), (torch.arange(draws, dtype=torch.float64) + 0.5) / draws)
    found = index.bincount(minlength=count) / draws
    torch.testing.assert_close(found, scores[0].softmax(0), atol=3 / draws, rtol=0)
    assert (index.diff() >= 0).all()
    rest = left[index == scores[0].argmax()].sort().values
    torch.testing.assert_close(rest, torch.linspace(0, 1, len(rest), dtype=torch.float64), atol=1e-2, rtol=0)
    assert ((left >= 0) & (left < 1)).all()
