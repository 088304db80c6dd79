"""No array of a whole training step is as large as a table of the vocabulary, or as scores over it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quorem.config.loading import from_mapping
from quorem.config.settings import PretrainConfig
from quorem.models.electra import total_loss
from quorem.models.masking import mask_tokens
from quorem.plan.plan import Plan
from quorem.plan.presets import NEVER_TARGETS
from quorem.plan.recipes import resolve
from quorem.pretraining.program import build_electra
from quorem.training.optim import build_optimizer, parameter_groups

VOCAB, WIDTH = 1_000_000, 64
SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "attention_head_size": 16}


class LargestArray(TorchDispatchMode):
    """Remembers the largest array that any operation makes, forward, backward or in the optimizer."""

    def __init__(self):
        super().__init__()
        self.numel, self.operation = 0, ""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().nbytes() // leaf.element_size() > self.numel:
                self.numel = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.operation = f"{function} -> {leaf.dtype} {tuple(leaf.shape)}"
        return found


def largest_array(vocab_size, embedding, head):
    """Of one step, but for making the order of the tokens; and how many tokens were masked."""
    torch.manual_seed(0)
    model = {"size": "tiny", "vocab_size": vocab_size, "embedding_size": WIDTH, "embedding": embedding, "head": head}
    model |= {"generator": SIZES, "discriminator": SIZES}
    config = resolve(from_mapping(PretrainConfig, {"model": model, "data": {"max_length": 64}}))
    module = build_electra(Plan.of(config), torch.randint(0, 100, (vocab_size,))).train()
    groups = parameter_groups(
        module.named_parameters(remove_duplicate=False), lr=5e-4, weight_decay=0.01, decay_embeddings=False
    )
    optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(5, vocab_size, (8, 64), generator=rng)
    masked = mask_tokens(ids, special=torch.tensor(NEVER_TARGETS), mask_id=4, rate=0.15, rng=rng)
    module(*masked.inputs())  # makes the inverse order
    with LargestArray() as largest:
        outcome = module(*masked.inputs())
        total_loss(outcome, num_chosen=masked.num_chosen, num_tokens=masked.num_tokens).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return largest, masked.num_chosen


@pytest.mark.parametrize(
    ("embedding", "head"),
    [
        ({"kind": "qr"}, {"kind": "two_level"}),
        ({"kind": "qr", "operation": "concat"}, {"kind": "two_level", "condition": "multiply"}),
        ({"kind": "mixed_radix", "digits": 3}, {"kind": "digits"}),
        ({"kind": "chinese_remainder"}, {"kind": "two_level"}),
        ({"kind": "hashing"}, {"kind": "digits", "digits": 4}),
    ],
    ids=["qr", "qr-concat", "mixed_radix", "chinese_remainder", "hashing"],
)
def test_a_step_makes_no_array_of_v_times_d_or_n_times_v(embedding, head):
    largest, num_masked = largest_array(VOCAB, embedding, head)
    assert num_masked > 70
    assert largest.numel <= VOCAB, largest.operation  # the order: four bytes for each token


def test_a_dense_table_would_be_noticed():
    largest, num_masked = largest_array(20_000, {"kind": "dense"}, {"kind": "full"})
    assert largest.numel >= 20_000 * min(WIDTH, num_masked)
