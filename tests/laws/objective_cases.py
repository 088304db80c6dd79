"""Both networks joined, masked rows, and the gradients of a step: what tests of the objective share."""

import pytest
import torch

from quorem.config.loading import from_mapping
from quorem.config.settings import ModelSettings
from quorem.models.electra import Electra, total_loss
from quorem.models.masking import mask_tokens
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.plan.presets import network_configs

VOCAB = 60
SPECIAL = torch.tensor([0, 2, 3, 4])
QR = {"kind": "qr", "tier": 10}
NETWORKS = {
    "absolute": {"positions": "absolute"},
    "rotary": {"positions": "rotary"},
    "alibi": {"positions": "alibi"},
    "qr": {"embedding": QR},
}


def build(*, shared=True, disentangled=False, vocab_size=VOCAB, attributes=None, **options):
    settings = from_mapping(ModelSettings, {"size": "tiny", **options})
    torch.manual_seed(0)
    generator, discriminator = network_configs(settings, vocab_size=vocab_size, max_length=32, attributes=attributes)
    return Electra(
        QuoremForMaskedLM(generator),
        QuoremForPreTraining(discriminator),
        shared_embeddings=shared,
        disentangled=disentangled,
    )


def sample_batch(lengths=(20, 7, 13, 3), *, keep=0.0, seed=0):
    """Rows [CLS] words [SEP] of very different lengths, masked."""
    rng = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, VOCAB, (len(lengths), max(lengths)), generator=rng)
    real = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    input_ids = input_ids.masked_fill(~real, 0)
    input_ids[:, 0] = 2
    input_ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 3
    return mask_tokens(input_ids, real, special=SPECIAL, mask_id=4, rate=0.3, keep=keep, rng=rng)


def run(module, masked):
    positions = masked.chosen.flatten().nonzero().squeeze(-1)
    noise = masked.uniforms.flatten()[positions]
    return module(masked.input_ids, masked.attention_mask, masked.masked_ids, positions, noise)


def gradients(module, parts, *, num_chosen, num_tokens):
    """Loss and gradients of a step whose micro-batches are `parts`."""
    module.zero_grad()
    loss = 0.0
    for part in parts:
        share = total_loss(run(module, part), num_chosen=num_chosen, num_tokens=num_tokens)
        share.backward()
        loss += share.item()
    return loss, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same_step(one, other, *, atol=1e-6):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        scale = max(1.0, gradient.abs().max().item())
        assert (gradient - other[1][name]).abs().max() <= 3 * atol * scale, name
