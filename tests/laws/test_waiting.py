"""No part of a training step makes the host wait for a GPU: shown on the CPU, by refusing what would."""

import pytest
import torch
from embedding_cases import CASES
from head_cases import FEWER, VOCAB, hidden_vectors, make_head, name_of, seeded_uniforms, targets_of
from torch import nn
from waiting import NoWaiting

from quorem.embeddings import EMBEDDINGS
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.errors import UserError
from quorem.training.loop import update
from quorem.training.metrics import BinaryMetrics, RunningMean
from quorem.training.optim import OPTIMIZERS, build_optimizer
from quorem.training.window import SKIPS_IN_A_ROW, Window


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.isfinite().all()),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: torch.tensor([1, 2]),
        lambda x: torch.equal(x, x),
        lambda x: x.index_put_((x > 0,), torch.zeros(())),
    ],
)
def test_what_would_wait_is_noticed(wait):
    x = torch.ones(3)
    with NoWaiting(), pytest.raises(AssertionError, match="the host would wait"):
        wait(x)


# The functions of a path are applied to as many rows as each happens to have: it waits, and says so.
WAITING = {"path"}


@pytest.mark.parametrize("table", [table for table in EMBEDDINGS if table not in WAITING])
def test_vectors_of_every_table(table):
    for options in CASES[table]:
        vectors = make_head("two_level", {}, table, options, 17, True).embedding
        apart, ids = DisentangledEmbedding(vectors), torch.arange(VOCAB).view(1, -1)
        with NoWaiting():
            vectors(ids).sum().backward()
            apart(ids).sum().backward()


# With a softmax that reads the tier alone it need not.
NOT_WAITING = [each for each in FEWER if each[2] != "path" or each[0] not in ("full", "cosine", "tree")]


@pytest.mark.parametrize("variant", NOT_WAITING, ids=map(name_of, NOT_WAITING))
def test_losses_and_draws_of_every_head(variant):
    head = make_head(*variant)
    targets = targets_of(head)
    hidden, uniforms, exclude = hidden_vectors(len(targets)), seeded_uniforms(len(targets)), targets.flip(0)
    head.sample(hidden, uniforms)  # makes what is made once
    with NoWaiting():
        head.nll(hidden.requires_grad_(), targets).sum().backward()
        head.sample(hidden.detach(), uniforms)
        head.sample(hidden.detach(), uniforms, exclude, temperature=1.5)


def test_metrics():
    detected, mean = BinaryMetrics(), RunningMean()
    logits, labels = torch.tensor([[-1.0, 2.0, torch.nan]]), torch.tensor([[False, True, True]])
    with NoWaiting():
        detected.update(logits, labels, torch.ones_like(labels))
        for total in (torch.full((), 6.0), torch.full((), torch.nan), torch.full((), torch.inf), torch.zeros(())):
            mean.update(total, 3)
    assert mean.compute() == 1.0
    assert detected.counts.sum(1).tolist() == [1, 1]
    mean.reset()
    assert mean.compute() == 0.0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_updates_and_those_that_are_skipped(kind):
    """A step that is not finite leaves weights, moments and the number of steps as they were."""
    torch.manual_seed(0)
    modules = [nn.Linear(3, 2) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    optimizers = [
        build_optimizer(
            [{"params": list(module.parameters()), "lr": 0.1, "weight_decay": 0.1}],
            kind=kind, betas=(0.9, 0.99), eps=1e-6,
        )
        for module in modules
    ]  # fmt: skip
    window = Window(torch.device("cpu"))

    def step(number, value, factor=1.0):
        modules[number].weight.grad = torch.full((2, 3), value)
        modules[number].bias.grad = torch.full((2,), 0.3)
        loss = torch.full((), value * factor)
        with NoWaiting():
            return update(modules[number], optimizers[number], window, loss, clip_norm=1.0)

    for value in (0.5, 0.2, -0.4):
        for number in (0, 1):
            step(number, value)
        step(1, float("nan"))
        step(1, float("inf"))
        step(1, 0.7, factor=float("nan"))
        for one, other in zip(*(module.parameters() for module in modules), strict=True):
            assert torch.equal(one, other)
        states = [optimizer.state_dict()["state"] for optimizer in optimizers]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert window.check(15) == (6, 9)


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_googles_adam_on_a_device_is_not_asked_for_what_is_there(skip):
    """What it does on a GPU, where it may not look: the same step, or none."""
    torch.manual_seed(0)
    modules = [nn.Linear(3, 2) for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    groups = [[{"params": list(module.parameters()), "lr": 0.1, "weight_decay": 0.1}] for module in modules]
    one, other = (build_optimizer(group, kind="google", betas=(0.9, 0.99), eps=1e-6) for group in groups)
    for value in (0.5, -0.2):
        for module in modules:
            module.weight.grad, module.bias.grad = torch.full((2, 3), value), torch.full((2,), 0.3)
        if skip:
            modules[1].weight.grad.fill_(torch.nan)
        else:
            one.step()
        for group in other.param_groups:
            for parameter in group["params"]:  # as they are after a step
                other.state[parameter] or other.state[parameter].update(
                    exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter)
                )
            flag = torch.full((), skip)
            with NoWaiting(), torch.no_grad():
                other.update_group(group, flag)
    for mine, theirs in zip(*(module.parameters() for module in modules), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0 if skip else 1e-6, atol=0 if skip else 1e-7)
    if skip:
        assert not any(value.any() for state in other.state.values() for value in state.values())


def test_a_window_counts_steps_in_a_row_and_remembers_that_there_were_too_many():
    window, one, bad = Window(torch.device("cpu")), torch.ones(()), torch.full((), torch.nan)
    flags = []
    with NoWaiting():
        for loss in (one, bad, bad, one, *[bad] * SKIPS_IN_A_ROW, one):
            flags.append(window.add(loss, one))
    assert [float(flag) for flag in flags] == [0, 1, 1, 0, *[1] * SKIPS_IN_A_ROW, 0]
    with pytest.raises(UserError, match=f"step 15: {SKIPS_IN_A_ROW} steps in a row"):
        window.check(15)
    assert float(window.loss) == 3
