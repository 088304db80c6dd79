"""Muon beside torch's, and several optimizers as one."""

import pytest
import torch
from torch import nn

from quorem.training.muon import Muon, orthogonal
from quorem.training.optim import Combined, build_optimizer, parameter_groups

SHAPES = [(12, 12), (12, 12), (20, 8), (8, 20)]


def matrices(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=rng)) for shape in SHAPES]


def set_gradients(parameters, step):
    rng = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=rng)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_steps_are_those_of_torch():
    """Which iterates in bf16: within its rounding."""
    ours, theirs = matrices(), matrices()
    one = Muon(ours, lr=0.02, weight_decay=0.1, dtype=torch.bfloat16)
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="original")
    for step in range(5):
        for parameters, optimizer in ((ours, one), (theirs, other)):
            set_gradients(parameters, step)
            optimizer.step()
    for mine, other_one in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other_one, atol=4e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 30, 10), (2, 10, 30)])
def test_singular_values_come_near_one(shape):
    found = orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3
    assert values.median() > 0.65


def test_matrices_of_one_shape_together_are_each_alone():
    every = torch.randn(4, 9, 14, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonal(every), torch.cat([orthogonal(each[None]) for each in every]))


def test_a_step_that_is_not_finite_changes_nothing():
    parameters = matrices()
    optimizer = Muon(parameters, lr=0.1)
    set_gradients(parameters, 0)
    optimizer.step()
    before = [parameter.detach().clone() for parameter in parameters]
    kept = [optimizer.state[parameter]["momentum_buffer"].clone() for parameter in parameters]
    parameters[0].grad = torch.full_like(parameters[0], torch.nan)
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(before, parameters, strict=True))
    buffers = [optimizer.state[parameter]["momentum_buffer"] for parameter in parameters]
    assert all(torch.equal(*pair) for pair in zip(kept, buffers, strict=True))


def test_only_matrices_are_taken():
    with pytest.raises(ValueError, match="two dimensions"):
        Muon([nn.Parameter(torch.zeros(3))])


class Network(nn.Module):
    """Names as those of an encoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.word_embeddings = nn.Embedding(10, 6)

    def forward(self, ids):
        hidden = self.word_embeddings(ids)
        for layer in self.encoder.layer:
            hidden = hidden + layer(hidden).relu()
        return hidden.square().mean()


def made(seed):
    torch.manual_seed(seed)
    network = Network()
    groups = parameter_groups(
        network.named_parameters(), lr=1e-2, weight_decay=0.1, decay_embeddings=False, matrix_lr=0.02
    )
    return network, build_optimizer(groups, kind="muon", betas=(0.9, 0.98), eps=1e-6)


def train(network, optimizer, steps):
    for step in steps:
        ids = torch.randint(10, (4, 5), generator=torch.Generator().manual_seed(step))
        network(ids).backward()
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] / (step + 1)
        optimizer.step()
        optimizer.zero_grad()


def test_layers_matrices_have_muon_and_all_else_adamw():
    network, optimizer = made(0)
    assert isinstance(optimizer, Combined)
    kind = {id(p): group["kind"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: kind[id(parameter)] for name, parameter in network.named_parameters()}
    assert found == {
        "encoder.layer.0.weight": "muon", "encoder.layer.0.bias": "adamw",
        "encoder.layer.1.weight": "muon", "encoder.layer.1.bias": "adamw", "word_embeddings.weight": "adamw",
    }  # fmt: skip


def test_several_optimizers_as_one_go_on_from_their_state():
    """Bit for bit, and every part has the groups' rates."""
    whole, optimizer = made(0)
    train(whole, optimizer, range(6))
    first, before = made(0)
    train(first, before, range(3))
    second, after = made(1)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    train(second, after, range(3, 6))
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, second.state_dict()[name])
    assert {group["lr"] for part in after.parts for group in part.param_groups} == {1e-2 / 6, 0.02 / 6}
