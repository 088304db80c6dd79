"""Generators that do not learn."""

import pytest
import torch
from test_objective import SPECIAL, VOCAB, build, gradients, sample_batch

from quorem.models.electra import Electra
from quorem.models.fixed_generator import UnigramGenerator

COUNTS = torch.arange(VOCAB)


def electra_with(generator, **options):
    return Electra(generator, build(shared=False).discriminator, **{"shared_embeddings": False, **options})


def test_draws_are_those_of_the_counts_and_even_when_it_is_hot():
    uniforms = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    hidden = torch.empty(50_000, 0)
    unigram = COUNTS.clamp(min=0.5).double()
    unigram[SPECIAL] = 0
    generator = UnigramGenerator(COUNTS, never=SPECIAL.tolist())
    for temperature, shares in ((1.0, unigram), (2.0, unigram**0.5), (1e9, (unigram > 0).double())):
        drawn = generator.sample(hidden, uniforms, temperature=temperature).bincount(minlength=VOCAB)
        torch.testing.assert_close(drawn / 50_000, (shares / shares.sum()).float(), atol=1e-4, rtol=0)
        if temperature == 1:
            nll = generator.nll(hidden[:VOCAB], torch.arange(VOCAB)).double()
            torch.testing.assert_close((-nll).exp(), shares / shares.sum(), atol=1e-7, rtol=1e-5)
            values, ids = generator.topk(hidden[:2], 3)
            assert values.shape == ids.shape == (2, 3)
            assert torch.equal(values[0], -generator.nll(hidden[:3], ids[0]))


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_noise_are_no_special_tokens(uniform):
    generator = UnigramGenerator(COUNTS, never=[*SPECIAL.tolist(), VOCAB - 1])
    drawn = generator.sample(torch.empty(1, 0), torch.tensor([uniform], dtype=torch.float64))
    assert drawn.item() not in [*SPECIAL.tolist(), VOCAB - 1]


@pytest.mark.parametrize("kind", ["unigram", "frozen, its own table", "frozen, disentangled"])
def test_only_the_discriminator_learns_and_no_dropout_disturbs_the_generator(kind):
    torch.manual_seed(0)
    if kind == "unigram":
        module = electra_with(UnigramGenerator(COUNTS, never=SPECIAL.tolist()))
    else:
        frozen = build(shared=False, dropout=0.3).generator.requires_grad_(False)
        module = electra_with(frozen, shared_embeddings="disentangled" in kind, disentangled="disentangled" in kind)
    module.train()
    masked = sample_batch()
    _, found = gradients(module, [masked], num_chosen=masked.num_chosen, num_tokens=masked.num_tokens)
    assert found
    assert all(name.startswith("discriminator.") for name in found)
    assert module.discriminator.training
    assert not any(part.training for part in module.generator.modules())


def test_a_generator_that_learns_is_trained_with_dropout():
    module = build().train()
    assert all(part.training for part in module.modules())
    assert not any(part.training for part in module.eval().modules())
