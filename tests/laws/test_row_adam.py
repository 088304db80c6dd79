"""Tables of which a step reads few rows: their gradients, their optimizer, and what it leaves alone."""

import copy
import json
import math
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from embedding_cases import CASES
from forked import PROCESSES, group
from head_cases import VOCAB, make_head
from test_objective import build, run, sample_batch
from torch import nn
from waiting import NoWaiting

from quorem.config.loading import from_mapping
from quorem.config.settings import PretrainConfig
from quorem.embeddings import EMBEDDINGS, TokenEmbedding
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.errors import UserError
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.plan.sizes import describe
from quorem.pretraining.program import build_pretraining_optimizer
from quorem.training import gradients, processes
from quorem.training.loop import update
from quorem.training.optimizer_state import load_moments, parameter_names
from quorem.training.row_adam import LARGE, RowAdam, row_tables
from quorem.training.window import Window

ROWS, WIDTH, LR, BETA, EPS = 11, 4, 0.1, 0.9, 1e-3
STEPS = ([3, 7, 3], [7], [0, 0, 7, 10], [], [3], [10, 7])  # rows read in each, some of them twice
BY_ROW = [kind for kind, table in EMBEDDINGS.items() if table.row_tables]


def table(dtype=torch.float64):
    return nn.Parameter(torch.randn(ROWS, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(1)))


def gradient(number, dtype=torch.float64):
    """A step's, as an embedding leaves it: rows in the order in which they were read, some twice."""
    rows = torch.tensor(STEPS[number], dtype=torch.int64)
    values = torch.randn(len(rows), WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(number))
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, (ROWS, WIDTH), check_invariants=True)


def reference(weight, weight_decay):
    """Weights and squares after all steps: every row at every step, in loops."""
    weight, squares = weight.detach().clone(), [0.0] * ROWS
    for step in range(len(STEPS)):
        whole = gradient(step).to_dense()
        for row in range(ROWS):
            square = sum(float(number) ** 2 for number in whole[row]) / WIDTH
            squares[row] = BETA * squares[row] + (1 - BETA) * square
            root = math.sqrt(squares[row] / (1 - BETA ** (step + 1))) + EPS
            decay = weight_decay if row in STEPS[step] else 0.0
            weight[row] -= LR * (whole[row] / root + decay * weight[row])
    return weight, squares


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_a_step_is_that_of_every_row_and_leaves_alone_what_was_not_read(weight_decay):
    parameter = table()
    expected, squares = reference(parameter, weight_decay)
    optimizer = RowAdam([parameter], lr=LR, beta=BETA, eps=EPS, weight_decay=weight_decay)
    for step, read in enumerate(STEPS):
        before = copy.deepcopy([parameter.detach(), *optimizer.state[parameter].values()])
        parameter.grad = gradient(step)
        optimizer.step()
        untouched = [row for row in range(ROWS) if row not in read]
        for old, new in zip(before, [parameter.detach(), *optimizer.state[parameter].values()], strict=False):
            if new.ndim:
                assert torch.equal(old[untouched], new[untouched])
        for row in set(read):
            assert not torch.equal(before[0][row], parameter.detach()[row])
    torch.testing.assert_close(parameter.detach(), expected)
    state = optimizer.state[parameter]
    faded = state["square"] * BETA ** (len(STEPS) - state["seen"])
    torch.testing.assert_close(faded.squeeze(-1), torch.tensor(squares, dtype=torch.float64))
    assert sum(value.numel() for value in state.values()) == 2 * ROWS + 1


def test_a_dense_gradient_takes_the_step_of_the_sparse_one():
    one, other = table(), table()
    optimizers = [RowAdam([each], lr=LR, beta=BETA, eps=EPS) for each in (one, other)]
    for step in range(len(STEPS)):
        one.grad, other.grad = gradient(step), gradient(step).to_dense()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(one.detach(), other.detach())


def test_on_one_number_a_row_it_is_torchs_adam_without_a_mean():
    one, other = nn.Parameter(torch.ones(ROWS, 1)), nn.Parameter(torch.ones(ROWS, 1))
    mine, torchs = (
        RowAdam([one], lr=LR, beta=BETA, eps=EPS),
        torch.optim.Adam([other], lr=LR, betas=(0.0, BETA), eps=EPS),
    )
    for step in range(len(STEPS)):
        whole = gradient(step, torch.float32).coalesce()
        values = whole.values().sum(-1, keepdim=True)
        one.grad = torch.sparse_coo_tensor(whole.indices(), values, (ROWS, 1), check_invariants=True)
        other.grad = one.grad.to_dense()
        mine.step()
        torchs.step()
    torch.testing.assert_close(one.detach(), other.detach())


@pytest.mark.parametrize("on_device", [False, True])
def test_a_step_that_is_skipped_changes_nothing(on_device):
    """As on the CPU, where the flag is looked at, and as on a GPU, where it is not; also before the first step."""
    one, other = table(), table()
    optimizers = [RowAdam([each], lr=LR, beta=BETA, eps=EPS, weight_decay=0.1) for each in (one, other)]

    def skipped():
        other.grad = gradient(0) * torch.nan
        if on_device:
            with torch.no_grad():
                optimizers[1]._update(other, optimizers[1].param_groups[0], torch.ones(()))
        else:
            optimizers[1].found_inf = torch.ones(())
            optimizers[1].step()

    for step in range(len(STEPS)):
        skipped()
        for parameter, optimizer in zip((one, other), optimizers, strict=True):
            parameter.grad = gradient(step)
            if on_device:
                with torch.no_grad():
                    optimizer._update(parameter, optimizer.param_groups[0], torch.zeros(()))
            else:
                optimizer.found_inf = torch.zeros(())
                optimizer.step()
    assert torch.equal(one, other)
    for key, value in optimizers[0].state[one].items():
        assert torch.equal(value, optimizers[1].state[other][key]), key
    skipped()
    assert torch.equal(one, other)


def test_a_step_of_rows_that_are_summed_already_waits_for_nothing():
    parameter = table()
    optimizer = RowAdam([parameter], lr=LR, weight_decay=0.1)
    before = parameter.detach().clone()
    for step in range(2):
        parameter.grad = gradient(step).coalesce()
        with NoWaiting(), torch.no_grad():
            optimizer._update(parameter, optimizer.param_groups[0], torch.zeros(()))
    assert (before != parameter.detach()).any(1).nonzero().squeeze(-1).tolist() == [3, 7]


@pytest.mark.parametrize("kind", BY_ROW)
def test_sparse_gradients_are_the_dense_ones(kind):
    """Of vectors, of the tier's rows, and of differences from another network's."""
    ids = torch.tensor([[3, 60, 60], [17, 0, 44]])
    for options in CASES[kind]:
        found = []
        for sparse in (False, True):
            embedding = make_head("two_level", {}, kind, options, 17, True).embedding
            apart = DisentangledEmbedding(embedding)
            embedding.sparse = apart.sparse = sparse
            weights = torch.randn(2, 3, embedding.dim, generator=torch.Generator().manual_seed(2))
            for each in (embedding, apart):
                ((each(ids) * weights).sum() + each.tier_rows().square().sum()).backward()
            tables = [*embedding.row_parameters(), *apart.row_parameters()]
            assert len(tables) == 2
            assert all(each.grad.is_sparse == sparse for each in tables)
            found.append([each.grad.to_dense() for each in (*embedding.parameters(), *apart.parameters())])
        for dense, sparse in zip(*found, strict=True):
            torch.testing.assert_close(sparse, dense)


def test_which_parameters_are_tables_of_rows():
    for kind in EMBEDDINGS:
        for options in CASES[kind]:
            embedding = make_head("two_level", {}, kind, options, 17, True).embedding
            rows = VOCAB if kind == "dense" else VOCAB - 17
            expected = [name for name, each in embedding.named_parameters() if len(each) == rows]
            assert list(embedding.row_tables) == expected, kind


@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_the_norm_of_sparse_gradients_is_that_of_the_dense_ones(norm):
    """A row that was read twice counts with the sum of both; in float32, to torch's last bit."""
    sparse, dense, other = (table(torch.float32) for _ in range(3))
    sparse.grad, dense.grad = gradient(2, torch.float32), gradient(2, torch.float32).to_dense()
    other.grad = torch.ones_like(other)
    expected = nn.utils.clip_grad_norm_([dense, other], norm)
    other.grad = torch.ones_like(other)
    found = gradients.clip([sparse, other, table()], norm)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(sparse.grad.to_dense(), dense.grad)
    assert sparse.grad.is_sparse


def settings(*, kind="dense", head="two_level", **more):
    model = {"size": "tiny", "vocab_size": 60, "embedding": {"kind": kind, "tier": 10}, "head": {"kind": head}}
    return resolve(from_mapping(PretrainConfig, {"model": model, "train": more}))


def networks(**options):
    options = {"embedding": {"kind": "dense", "tier": 10}, "head": {"kind": "two_level"}, **options}
    return build(**options)


@pytest.mark.slow
@pytest.mark.parametrize("disentangled", [False, True])
@pytest.mark.parametrize("recipe_decay", [0.0, 0.01])
def test_training_with_sparse_gradients_and_a_state_taken_up_in_between(disentangled, recipe_decay):
    """Whole steps of both networks: those of a run that was stopped are the others' bit for bit."""
    config = settings(table_updates="rows", learning_rate=1e-2, weight_decay=recipe_decay)

    def begin():
        module = networks(disentangled=disentangled)
        return module, build_pretraining_optimizer(module, config)

    def step(module, optimizer, seed):
        outcome = run(module, sample_batch(seed=seed))
        (outcome.mlm_sum + outcome.rtd_sum).backward()
        sparse = [each for each in module.parameters() if each.grad is not None and each.grad.is_sparse]
        assert len(sparse) == 1 + disentangled
        update(module, optimizer, Window(torch.device("cpu")), torch.ones(()), clip_norm=1.0)

    one, optimizer = begin()
    for seed in range(3):
        step(one, optimizer, seed)
    other, fresh = begin()
    other.load_state_dict(one.state_dict())
    saved = copy.deepcopy(optimizer.state_dict()["state"])
    load_moments(fresh, other, saved=saved, names=parameter_names(one, optimizer))
    for seed in range(3, 6):
        for rate in fresh.param_groups:
            assert rate["lr"] == rate["base_lr"]
        step(one, optimizer, seed)
        step(other, fresh, seed)
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    rates = {id(each): rate for rate in fresh.param_groups for each in rate["params"]}
    rates[id(other.generator.get_input_embeddings().weight)]["lr"] = 0.0  # the loop's schedule reaches it after that
    before = other.generator.get_input_embeddings().weight.clone()
    step(other, fresh, 6)
    assert torch.equal(before, other.generator.get_input_embeddings().weight)


def test_which_tables_are_updated_by_rows():
    assert row_tables(networks(), "whole") == []
    assert row_tables(networks(), "auto") == []  # too small for it to pay
    assert [len(each) for each in row_tables(networks(), "rows")] == [60]
    assert len(row_tables(networks(shared=False), "rows")) == 2
    assert row_tables(networks(head={"kind": "full"}), "rows") == []  # it reads all
    assert row_tables(networks(embedding={"kind": "qr", "tier": 10}), "rows") == []
    with pytest.raises(UserError, match="Did you mean rows"):
        settings(table_updates="row")
    still = networks()
    still.generator.requires_grad_(False)
    assert row_tables(still, "rows") == []
    with torch.device("meta"):
        large = networks(vocab_size=LARGE // 128)
    assert len(row_tables(large, "auto")) == 1
    tables = [each for each in large.modules() if isinstance(each, TokenEmbedding)]
    assert [each.sparse for each in tables] == [True]


@pytest.mark.parametrize("disentangled", [False, True])
def test_what_training_needs_is_counted_without_the_moments_of_such_tables(disentangled):
    found, state = {}, {}
    for updates in ("whole", "rows"):
        config = settings(table_updates=updates)
        config = replace(config, model=replace(config.model, disentangled_embeddings=disentangled))
        found[updates] = describe(Plan.as_asked(resolve(config)))["training_bytes"]
        module = networks(disentangled=disentangled)
        optimizer = build_pretraining_optimizer(module, config)
        outcome = run(module, sample_batch())
        (outcome.mlm_sum + outcome.rtd_sum).backward()
        optimizer.step()
        tables = [each for each in module.parameters() if each.shape == (60, 128)]
        assert len(tables) == 1 + disentangled
        state[updates] = sum(value.nbytes for each in tables for value in optimizer.state[each].values() if value.ndim)
    of_gradients = sum(each.nbytes for each in tables)
    assert found["whole"] - found["rows"] == state["whole"] - state["rows"] + of_gradients


SHARES = (  # rows that each of two processes has read, in turn: both, one, none, one of them dense
    ([3, 7, 3], [7, 10]),
    (None, [1, 1]),
    (None, None),
    ([0], "dense"),
    ([], [2]),
)


def _share(number, rank):
    """A gradient of one process; the whole numbers in it make sums exact."""
    rows = SHARES[number][rank]
    if rows is None:
        return None
    rng = torch.Generator().manual_seed(10 * number + rank)
    if rows == "dense":
        return torch.randint(-9, 9, (ROWS, WIDTH), generator=rng).float()
    values = torch.randint(-9, 9, (len(rows), WIDTH), generator=rng).float()
    return torch.sparse_coo_tensor(torch.tensor([rows]).long(), values, (ROWS, WIDTH), check_invariants=True)


def _add_in_a_process(folder, environment):
    os.environ.update({name: str(value) for name, value in environment.items()})
    rank, found = processes.rank(), []
    for number in range(len(SHARES)):
        sparse, dense = (nn.Parameter(torch.zeros(ROWS, WIDTH)) for _ in range(2))
        sparse.grad, dense.grad = _share(number, rank), torch.full((ROWS, WIDTH), float(rank + 1))
        asked, loss = processes.all_reduce_gradients([sparse, dense], torch.tensor(float(rank)), flag=rank == number)
        assert torch.equal(dense.grad, torch.full((ROWS, WIDTH), 3.0))
        assert float(loss) == 1.0
        assert asked == (number in (0, 1))
        held = sparse.grad
        kind = "none" if held is None else "sparse" if held.is_sparse else "dense"
        rows = held.indices()[0].tolist() if kind == "sparse" else []
        found.append([kind, rows, [] if held is None else held.to_dense().tolist()])
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    processes.destroy_process_group()


@pytest.mark.slow
def test_two_processes_add_up_the_rows_that_they_have_read():
    with tempfile.TemporaryDirectory() as folder:
        both = [PROCESSES.Process(target=_add_in_a_process, args=(folder, each)) for each in group()]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        one, other = (json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    assert [kind for kind, *_ in one] == ["sparse", "sparse", "none", "dense", "sparse"]
    assert [rows for _, rows, _ in one] == [[3, 7, 10], [1], [], [], [2]]  # what was added to send them is not there
    for number, (_, _, held) in enumerate(one):
        shares = [_share(number, rank) for rank in (0, 1)]
        expected = sum(each.to_dense() for each in shares if each is not None)
        if held:
            assert torch.equal(torch.tensor(held), expected)
