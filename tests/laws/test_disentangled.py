"""Gradient-disentangled sharing of embeddings, whatever their kind."""

import pytest
import torch
from test_objective import build, gradients, run, sample_batch

from quorem.embeddings import EMBEDDINGS, Assignment
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.models.modeling import QuoremForPreTraining
from quorem.training.optim import build_optimizer, parameter_groups

every_kind = pytest.mark.parametrize("kind", list(EMBEDDINGS))
WITH_MATRICES = ("path", "pq")  # for which 60 tokens are too few: such a table stays dense


def make(kind):
    tier = {} if kind == "dense" else {"tier": 10}
    taken = EMBEDDINGS[kind].settings
    small = {"rows": 7} if "rows" in taken else {}
    file, sizes = ({"attributes_file": "given.csv"}, [9, 5]) if "attributes_file" in taken else ({}, None)
    tokens = {"vocab_size": 3_000} if kind in WITH_MATRICES else {}
    module = build(embedding={"kind": kind, **tier, **small, **file}, disentangled=True, attributes=sizes, **tokens)
    assert module.generator.config.embedding["kind"] == kind  # nothing was too large to be worth it
    embedding = module.discriminator.get_input_embeddings()
    assert isinstance(embedding, DisentangledEmbedding)
    return module, module.generator.get_input_embeddings(), embedding


def step(module):
    groups = parameter_groups(
        module.named_parameters(remove_duplicate=False), lr=1e-2, weight_decay=0.0, decay_embeddings=False
    )
    masked = sample_batch()
    gradients(module, [masked], num_chosen=masked.num_chosen, num_tokens=masked.num_tokens)
    build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6).step()


@every_kind
def test_each_loss_reaches_its_own_network_only(kind):
    """Trap 30 and trap 8: no part of the generator, its token vectors included, feels the discriminator's loss."""
    for loss, trained, untouched in (
        ("rtd_sum", "discriminator", "generator"),
        ("mlm_sum", "generator", "discriminator"),
    ):
        module, _, _ = make(kind)
        getattr(run(module, sample_batch()), loss).backward()
        assert [n for n, p in getattr(module, untouched).named_parameters() if p.grad is not None] == []
        vectors = [p.grad for n, p in getattr(module, trained).named_parameters() if ".word_embeddings." in n]
        assert vectors
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in vectors)


@every_kind
def test_the_discriminator_starts_from_and_follows_the_generators_vectors(kind):
    module, base, embedding = make(kind)
    ids = torch.arange(60)
    assert torch.equal(embedding(ids), base(ids))
    before = embedding(ids).detach().clone()
    with torch.no_grad():
        for parameter in base.parameters():
            parameter += 1.0
    assert torch.equal(embedding(ids), base(ids))
    assert not torch.equal(embedding(ids), before)
    step(module)
    assert not torch.allclose(embedding(ids), base(ids))


@every_kind
def test_the_merged_discriminator_needs_no_generator(kind, tmp_path):
    """Trap 30: saved and loaded it gives the same scores, and the generator's later changes do not reach it."""
    module, base, embedding = make(kind)
    step(module)
    masked = sample_batch()
    arguments = masked.input_ids, masked.attention_mask
    expected = module.discriminator.eval()(*arguments).logits
    with module.merged_embeddings():
        merged = module.discriminator.get_input_embeddings()
        assert type(merged) is EMBEDDINGS[kind]
        shared = {p.data_ptr() for p in (*base.parameters(), *embedding.parameters())}
        assert not shared & {p.data_ptr() for p in merged.parameters()}
        module.discriminator.save_pretrained(tmp_path)
        loaded = QuoremForPreTraining.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            kept = [parameter.clone() for parameter in base.parameters()]
            for parameter in base.parameters():
                parameter.zero_()
        for discriminator in (module.discriminator, loaded):
            assert torch.equal(discriminator(*arguments).logits, expected)
    assert module.discriminator.get_input_embeddings() is embedding  # to go on with
    with torch.no_grad():
        for parameter, value in zip(base.parameters(), kept, strict=True):
            parameter.copy_(value)
    assert torch.equal(module.discriminator(*arguments).logits, expected)


@every_kind
def test_state_comes_back_with_the_tie(kind, tmp_path):
    """Trap 10: after loading, the generator's vectors are still the discriminator's base, and each tensor is one."""
    module, _, _ = make(kind)
    step(module)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    other, base, embedding = make(kind)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    ids = torch.arange(60)
    assert torch.equal(embedding(ids), module.discriminator.get_input_embeddings()(ids))
    assert other.generator.generator_lm_head.embedding is base
    names = [name for name, _ in other.named_parameters(remove_duplicate=False)]
    assert len(names) == len(list(other.parameters()))


def test_a_table_of_several_parts_can_be_disentangled():
    torch.manual_seed(0)
    base = EMBEDDINGS["path"](Assignment(60, own_rows=5, divisor=20), 8, hidden=4)
    embedding, ids = DisentangledEmbedding(base), torch.arange(60)
    assert torch.equal(embedding(ids), base(ids))
    with torch.no_grad():
        for difference in embedding.differences:
            difference.normal_()
    assert not torch.allclose(embedding(ids), base(ids))
    torch.testing.assert_close(embedding.merged()(ids), embedding(ids))
    embedding(ids).sum().backward()
    assert all(parameter.grad is None for parameter in base.parameters())
