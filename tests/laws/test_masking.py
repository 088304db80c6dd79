"""mask_tokens and corrupt: which positions are chosen, and what the networks see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorem.errors import UserError
from quorem.models.electra import corrupt
from quorem.models.masking import mask_tokens

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = torch.tensor([PAD, CLS, SEP, MASK])


def mask(input_ids, attention_mask=None, *, rate=0.15, keep=0.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return mask_tokens(input_ids, attention_mask, special=SPECIAL, mask_id=MASK, rate=rate, keep=keep, rng=rng)


@st.composite
def batches(draw):
    """Ids (batch, time), special ones among them, and real tokens anywhere from none to all of a row."""
    batch, time = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    input_ids = torch.randint(0, draw(st.integers(5, 30)), (batch, time), generator=rng)
    lengths = torch.randint(0, time + 1, (batch, 1), generator=rng)
    return input_ids, (torch.arange(time) < lengths) if draw(st.booleans()) else None


@settings(max_examples=150, deadline=None)
@given(batch=batches(), rate=st.floats(0.01, 1.0), keep=st.sampled_from([0.0, 0.15, 0.6]), seed=st.integers(0, 2**31))
def test_exact_counts_and_only_ordinary_tokens_and_nothing_else_touched(batch, rate, keep, seed):
    """Traps 5 (special tokens), 6 (counts, draws with replacement) and 7 (changes at positions not chosen)."""
    input_ids, attention_mask = batch
    before = input_ids.clone()
    masked = mask(input_ids, attention_mask, rate=rate, keep=keep, seed=seed)
    ordinary = ~torch.isin(input_ids, SPECIAL)
    if attention_mask is not None:
        ordinary &= attention_mask
    expected = [min(n, max(1, round(rate * n))) for n in ordinary.sum(1).tolist()]
    assert masked.chosen.sum(1).tolist() == expected
    assert not (masked.chosen & ~ordinary).any()
    changed = masked.masked_ids != input_ids
    assert not (changed & ~masked.chosen).any()
    assert (masked.masked_ids[changed] == MASK).all()
    assert keep or torch.equal(changed, masked.chosen)
    assert torch.equal(input_ids, before)
    assert masked.num_chosen == sum(expected)
    assert masked.num_tokens == (input_ids.numel() if attention_mask is None else int(attention_mask.sum()))


@pytest.mark.parametrize(("number", "expected"), [(150, 11), (350, 25), (50, 4)])
def test_counts_are_rounded_as_python_does(number, expected):
    """Trap 6: 0.07 * 150 is just above 10.5, which float32 cannot tell."""
    assert mask(torch.full((1, number), 7), rate=0.07).num_chosen == expected == round(0.07 * number)


def test_every_ordinary_id_can_be_chosen_the_unknown_word_and_the_last_position_too():
    """Trap 5: an id must not escape because it is small."""
    input_ids = torch.tensor([[CLS, UNK, 5, 6, 7, 8, SEP, 9, PAD, PAD]]).expand(400, -1)
    masked = mask(input_ids, rate=0.15)
    assert set(input_ids[masked.chosen].tolist()) == {UNK, 5, 6, 7, 8, 9}


def test_positions_are_chosen_uniformly():
    """Trap 6."""
    share = mask(torch.full((20_000, 10), 7), rate=0.3).chosen.float().mean(0)
    assert torch.allclose(share, torch.full((10,), 0.3), atol=0.015)


def test_kept_tokens_are_visible_and_still_chosen():
    """Trap 4: Google's 15% stay visible, but are predicted, replaced and scored like the others."""
    input_ids = torch.randint(5, 1000, (400, 100), generator=torch.Generator().manual_seed(1))
    masked = mask(input_ids, rate=0.2, keep=0.15)
    assert masked.chosen.sum(1).tolist() == [20] * 400
    visible = masked.chosen & (masked.masked_ids == input_ids)
    assert abs(visible.sum().item() / masked.num_chosen - 0.15) < 0.02


def test_rows_without_an_ordinary_token_have_nothing_chosen():
    """Trap 6."""
    masked = mask(torch.tensor([[CLS, SEP, PAD], [CLS, 9, SEP]]), torch.tensor([[True, True, False], [True] * 3]))
    assert masked.chosen.tolist() == [[False] * 3, [False, True, False]]


def test_the_noise_is_float64_uniform_in_the_unit_interval():
    """Trap 1b: noise in half precision draws rare tokens far too often, or a likely one hardly ever."""
    noise = mask(torch.full((100, 100), 7)).uniforms
    assert noise.dtype == torch.float64
    assert 0 <= noise.min() < 0.01
    assert 0.99 < noise.max() < 1
    assert noise.unique().numel() == noise.numel()


def test_the_same_seed_gives_the_same_masks_and_another_one_others():
    """Trap 20."""
    input_ids = torch.full((8, 50), 7)
    first, again, other = mask(input_ids, seed=3), mask(input_ids, seed=3), mask(input_ids, seed=4)
    assert torch.equal(first.chosen, again.chosen)
    assert torch.equal(first.uniforms, again.uniforms)
    assert not torch.equal(first.chosen, other.chosen)
    assert not torch.equal(first.uniforms, other.uniforms)


def test_rows_cut_every_part_alike():
    """Traps 14 and 20: a micro-batch keeps the masks and the noise of its step."""
    whole = mask(torch.randint(5, 99, (6, 20)), torch.ones(6, 20, dtype=torch.bool), keep=0.15)
    parts = [whole.rows(0, 1), whole.rows(1, 4), whole.rows(4, 6)]
    for name in ("input_ids", "attention_mask", "masked_ids", "chosen", "uniforms"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
    assert mask(torch.full((2, 3), 7)).rows(0, 1).attention_mask is None


def test_a_sample_equal_to_the_original_counts_as_original():
    """Traps 2 and 3: labels compare with the originals, and no other position is ever labelled."""
    input_ids = torch.tensor([[2, 10, 11, 12], [2, 13, 14, 3]])
    corrupted, is_replaced = corrupt(input_ids, torch.tensor([1, 3, 6]), torch.tensor([10, 50, 60]))
    assert corrupted.tolist() == [[2, 10, 11, 50], [2, 13, 60, 3]]
    assert is_replaced.tolist() == [[False, False, False, True], [False, False, True, False]]
    assert input_ids.tolist() == [[2, 10, 11, 12], [2, 13, 14, 3]]


@pytest.mark.parametrize(
    ("options", "key"), [({"rate": 0.0}, "mask_rate"), ({"rate": 1.5}, "mask_rate"), ({"keep": 1.0}, "keep_rate")]
)
def test_shares_out_of_range_are_user_errors_that_name_the_key(options, key):
    with pytest.raises(UserError, match=f"objective.{key}"):
        mask(torch.full((1, 4), 7), **options)
