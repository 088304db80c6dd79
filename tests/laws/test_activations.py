"""What `describe` says a step keeps for its backward pass, against what autograd keeps."""

import pytest
import torch

from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.models.electra import mask_tokens
from quorem.plan.activations import Kept
from quorem.plan.recipes import resolve
from quorem.plan.sizes import describe
from quorem.pretraining.program import build_electra


def kept(config, vocab_size):
    """Bytes that both networks keep in one forward pass over random tokens."""
    config = resolve(config)
    module = build_electra(config, torch.ones(vocab_size, dtype=torch.int64)).train()
    rows, length = config.train.micro_batch_size or config.train.batch_size, config.data.max_length
    ids = torch.randint(5, vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))
    masked = mask_tokens(ids, special=torch.tensor([0, 2, 3, 4]), mask_id=4, rate=config.objective.mask_rate)
    positions = masked.chosen.flatten().nonzero().squeeze(-1)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.train.precision == "bf16")
    with autocast, Kept(but=module) as found:
        module(ids, None, masked.masked_ids, positions, masked.uniforms.flatten()[positions])
    return found.bytes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "settings",
    [
        ["model.size=tiny", "model.embedding.kind=qr"],
        ["model.size=tiny", "model.head.kind=full"],
        ["model.size=origin", "model.dropout=0.1", "model.embedding.kind=qr"],
        ["model.size=small", "model.discriminator.num_hidden_layers=3", "model.generator.num_hidden_layers=2"],
        ["model.size=tiny", "model.positions=alibi", "data.max_length=40"],
        ["model.size=tiny", "train.micro_batch_size=4"],
    ],
)
def test_the_estimate_is_near_what_is_kept(settings, precision):
    vocab_size = 8000
    given = [*settings, f"model.vocab_size={vocab_size}", f"train.precision={precision}", "train.batch_size=12"]
    config = override(PretrainConfig(), given)
    assert describe(config)["activation_bytes"] == pytest.approx(kept(config, vocab_size), rel=0.12)


def test_gradient_checkpointing_keeps_less_and_the_estimate_says_so():
    given = ["model.size=small", "model.vocab_size=3000", "train.batch_size=6", "train.precision=fp32"]
    plain = override(PretrainConfig(), given)
    less = override(plain, ["train.gradient_checkpointing=true"])
    assert describe(less)["activation_bytes"] < 0.35 * describe(plain)["activation_bytes"]


def test_it_is_linear_in_the_rows_and_independent_of_the_batch_behind_a_micro_batch():
    def estimate(*given):
        return describe(override(PretrainConfig(), ["model.size=tiny", *given]))["activation_bytes"]

    assert estimate("train.batch_size=64") == pytest.approx(2 * estimate("train.batch_size=32"), rel=0.02)
    assert estimate("train.micro_batch_size=8", "train.batch_size=64") == estimate("train.batch_size=8")
