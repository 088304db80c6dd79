"""What the two networks share, and what no loss of the one moves in the other."""

import pytest
import torch
from objective_cases import NETWORKS, build, gradients, run, sample_batch
from torch import nn

from quorem.config.settings import ModelSettings
from quorem.plan.presets import PRESETS, network_configs
from quorem.training.optim import build_optimizer, parameter_groups


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_the_discriminators_loss_does_not_reach_the_generators_body(options):
    """Trap 8."""
    module = build(**options)
    run(module, sample_batch()).rtd_sum.backward()
    shared = {id(p) for p in module.discriminator.parameters()}
    own = [(name, p) for name, p in module.generator.named_parameters() if id(p) not in shared]
    assert len(own) > 20
    assert [name for name, p in own if p.grad is not None] == []
    assert all(p.grad is not None for p in module.discriminator.parameters())


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_the_generators_loss_does_not_reach_the_discriminators_body(options):
    module = build(**options)
    run(module, sample_batch()).mlm_sum.backward()
    own = [name for name, p in module.discriminator.named_parameters() if p.grad is not None]
    assert own
    assert all(".embeddings." in name for name in own)


def assert_tied(module):
    embeddings = module.discriminator.electra.embeddings
    assert module.generator.electra.embeddings is embeddings
    assert module.generator.generator_lm_head.embedding is embeddings.word_embeddings
    assert module.generator.get_input_embeddings() is embeddings.word_embeddings
    pairs = zip(module.generator.electra.embeddings.parameters(), embeddings.parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_shared_embeddings_stay_one_and_the_same(options, tmp_path):
    """Trap 10: after construction, .to(), saving and loading; each tensor once in the optimizer."""
    module = build(**options)
    assert_tied(module)
    assert_tied(module.to(torch.float64).to(torch.float32))
    torch.save(module.state_dict(), tmp_path / "state.pt")
    other = build(**options)
    nn.init.ones_(other.discriminator.electra.embeddings.LayerNorm.bias)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_tied(other)
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))
    groups = parameter_groups(
        other.named_parameters(remove_duplicate=False), lr=1e-3, weight_decay=0.01, decay_embeddings=False
    )
    placed = [p.data_ptr() for group in groups for p in group["params"]]
    assert sorted(placed) == sorted({p.data_ptr() for p in other.parameters()})


def test_unshared_embeddings_share_nothing_and_the_head_is_tied_to_the_generators():
    """Trap 10."""
    module = build(shared=False)
    own = {p.data_ptr() for p in module.generator.parameters()}
    assert not own & {p.data_ptr() for p in module.discriminator.parameters()}
    head = module.generator.generator_lm_head
    assert head.embedding is module.generator.electra.embeddings.word_embeddings


@pytest.mark.parametrize("size", PRESETS)
def test_every_preset_has_a_generator_that_fits_its_discriminator(size):
    """Trap 11."""
    generator, discriminator = network_configs(ModelSettings(size=size), vocab_size=1000, max_length=128)
    for config in (generator, discriminator):
        assert config.num_attention_heads >= 1
        assert config.hidden_size % config.num_attention_heads == 0
        assert config.intermediate_size >= 2 * config.hidden_size
    assert generator.embedding_size == discriminator.embedding_size
    if size not in ("tiny", "origin"):
        assert generator.num_hidden_layers == discriminator.num_hidden_layers
        assert generator.num_attention_heads * generator.attention_head_size == generator.hidden_size
    if size != "small++":  # whose generator is as wide as the discriminator, as released
        assert generator.hidden_size < discriminator.hidden_size
    if size in ("small", "large"):
        assert generator.hidden_size * 4 == discriminator.hidden_size


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_one_step_changes_every_tensor(options):
    """Trap 15: of the discriminator, and of the generator too."""
    module = build(**options)
    groups = parameter_groups(
        module.named_parameters(remove_duplicate=False), lr=1e-3, weight_decay=0.01, decay_embeddings=False
    )
    optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    masked = sample_batch((20, 17, 13, 19))
    gradients(module, [masked], num_chosen=masked.num_chosen, num_tokens=masked.num_tokens)
    optimizer.step()
    assert [name for name, p in module.named_parameters() if torch.equal(p, before[name])] == []
