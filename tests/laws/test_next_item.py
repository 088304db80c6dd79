"""The next-item model: nobody sees what comes later, every item is a target once, folders load."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

import quorem.recommending.start
from quorem import QuoremConfig, QuoremForMaskedLM, QuoremForNextItem, QuoremForPreTraining, QuoremModel, UserError
from quorem.config.settings import TrainSettings
from quorem.data.sessions import SessionCorpus, Sessions
from quorem.models.next_item import load_next_item
from quorem.plan.memory import check_finetuning_memory
from quorem.recommending.parts import start_anew
from quorem.recommending.program import NextItemProgram, beginnings, pieces
from quorem.recommending.start import build_next_item, resolve_start
from quorem.training.optim import build_optimizer, parameter_groups
from quorem.training.row_adam import row_tables

V = 60
TREE = {"embedding": {"kind": "dense", "own_rows": 15, "divisor": 7, "permuted": True}, "head": {"kind": "tree"}}
TABLES = {
    "full": {},
    "cosine": {"head": {"kind": "cosine", "scale": 9.0}},
    "tree": TREE,
    "two_level": {
        "embedding": {"kind": "qr", "own_rows": 15, "divisor": 7, "permuted": True, "operation": "add"},
        "head": {"kind": "two_level"},
    },
}


def config(**changes):
    sizes = {"vocab_size": V, "embedding_size": 16, "hidden_size": 24, "intermediate_size": 32}
    more = {"num_hidden_layers": 2, "num_attention_heads": 2, "initializer": "width", "never_targets": [0, 1, 2, 3, 4]}
    return QuoremConfig(**sizes | more | changes)


def histories(number, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(5, V, rng.integers(1, 9)).tolist() for _ in range(number)]


@pytest.mark.parametrize("time", [12, 520])
@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
def test_no_token_sees_a_later_one(positions, time):
    """On the written-out path and on the kernel's."""
    torch.manual_seed(0)
    model = QuoremModel(config(positions=positions, causal=True, max_position_embeddings=600)).eval()
    ids = torch.randint(5, V, (2, time))
    changed = ids.clone()
    changed[:, 7:] = torch.randint(5, V, (2, time - 7))
    with torch.no_grad():
        before, after = (model(each).last_hidden_state for each in (ids, changed))
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
def test_padding_on_either_side_changes_nothing_for_a_causal_encoder(positions):
    torch.manual_seed(0)
    model = QuoremModel(config(positions=positions, causal=True)).eval()
    ids = torch.randint(5, V, (1, 6))
    pad = torch.zeros(1, 3, dtype=torch.int64)
    mask = torch.ones(1, 6)
    with torch.no_grad():
        alone = model(ids).last_hidden_state
        right = model(torch.cat([ids, pad], 1), torch.cat([mask, pad], 1)).last_hidden_state[:, :6]
        left = model(torch.cat([pad, ids], 1), torch.cat([pad, mask], 1)).last_hidden_state[:, 3:]
    torch.testing.assert_close(right, alone)
    torch.testing.assert_close(left, alone)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("table", TABLES)
def test_scores_are_log_probabilities_and_agree_with_the_heads_own(table, causal):
    torch.manual_seed(0)
    model = QuoremForNextItem(config(causal=causal, **TABLES[table])).eval()
    rows = histories(11)
    scores = model.scores(rows, max_items=6)
    assert scores.shape == (11, V)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(11))
    assert (scores[:, :5] == -torch.inf).all()
    hidden, targets = model.vectors(rows, max_items=6), torch.arange(20, 31)
    torch.testing.assert_close(
        model.generator_lm_head.log_prob(hidden, targets), scores.gather(1, targets[:, None])[:, 0]
    )
    values, ids = model.generator_lm_head.topk(hidden, 8)
    torch.testing.assert_close(values, scores.topk(8).values)
    torch.testing.assert_close(scores.gather(1, ids), values)


@pytest.mark.parametrize("causal", [True, False])
def test_a_history_says_the_same_whatever_is_beside_it(causal):
    torch.manual_seed(0)
    model = QuoremForNextItem(config(causal=causal, positions="absolute")).eval()
    rows = histories(7)
    together = model.scores(rows, max_items=5)
    for row, scores in zip(rows, together, strict=True):
        torch.testing.assert_close(model.scores([row[-5:]], max_items=5)[0], scores)


def test_every_item_but_a_rows_first_is_a_target_once():
    rows = [list(range(10, 10 + length)) for length in (1, 2, 4, 5, 11, 0, 9)]
    sessions = Sessions.of(rows)
    expected = sorted(item for row in rows for item in row[1:])
    starts, lengths = pieces(sessions, max_items=4)
    cut = [sessions.tokens[start : start + length].tolist() for start, length in zip(starts, lengths, strict=True)]
    assert sorted(item for piece in cut for item in piece[1:]) == expected
    assert max(map(len, cut)) == 5
    starts, lengths = beginnings(sessions, max_items=4)
    cut = [sessions.tokens[start : start + length].tolist() for start, length in zip(starts, lengths, strict=True)]
    assert sorted(piece[-1] for piece in cut) == expected
    assert [11, 12, 13, 14, 15] in cut
    assert max(map(len, cut)) == 5
    assert min(map(len, cut)) == 2


@pytest.mark.parametrize("causal", [True, False])
def test_the_loss_is_that_of_each_target_asked_alone(causal):
    torch.manual_seed(0)
    model = QuoremForNextItem(config(causal=causal, **TREE, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    rows = [row for row in histories(9) if len(row) > 1]
    program = NextItemProgram(model, Sessions.of(rows), TrainSettings(batch_size=4), max_items=20)
    total = 0.0
    for step in range(program.order.steps_per_epoch):
        for part in program.micro_batches(step, rank=0, num_processes=1):
            total += float(program.loss(model, part).detach()) * program.usual
    asked = [(row[:place], row[place]) for row in rows for place in range(1, len(row))]
    scores = model.eval().scores([history for history, _ in asked], max_items=20)
    expected = -sum(float(score[target]) for score, (_, target) in zip(scores, asked, strict=True))
    assert total == pytest.approx(expected, rel=1e-4)
    assert program.record()["nll"] == pytest.approx(expected / len(asked), rel=1e-4)


def test_micro_batches_and_processes_change_nothing():
    torch.manual_seed(0)
    model = QuoremForNextItem(config(causal=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    rows = [row for row in histories(40) if len(row) > 1]

    def loss(size, processes):
        train = TrainSettings(batch_size=8, micro_batch_size=size)
        program = NextItemProgram(model, Sessions.of(rows), train, max_items=20)
        parts = [
            part for rank in range(processes) for part in program.micro_batches(1, rank=rank, num_processes=processes)
        ]
        return sum(float(program.loss(model, part).detach()) for part in parts)

    assert loss(3, 2) == pytest.approx(loss(None, 1), rel=1e-5)


@pytest.mark.parametrize("head", ["tree", "two_level"])
def test_a_step_by_rows_moves_the_rows_it_reads_and_no_others(head):
    """Those of the histories and of the tier; of the tree also those of the targets' nodes."""
    torch.manual_seed(0)
    model = QuoremForNextItem(config(causal=True, embedding=TREE["embedding"], head={"kind": head}))
    table = model.get_input_embeddings()
    needed = check_finetuning_memory(model)
    tables = row_tables(model, "rows")
    assert needed - check_finetuning_memory(model) == V * 16 * 12 - V * 2 * 4  # gradient and moments; state
    assert [id(each) for each in tables] == [id(table.weight)]
    groups = parameter_groups(
        model.named_parameters(), lr=1e-2, weight_decay=0.01, decay_embeddings=False, row_tables=tables
    )
    optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
    grid = table.assignment
    tail = grid.ids(torch.arange(grid.own_rows, V)).tolist()
    history, target = tail[:2], tail[8]  # of the second node of seven
    program = NextItemProgram(model, Sessions.of([[*history, target]]), TrainSettings(batch_size=1), max_items=9)
    before = table.weight.detach().clone()
    (part,) = program.micro_batches(0, rank=0, num_processes=1)
    program.loss(model, part).backward()
    assert table.weight.grad.is_sparse
    optimizer.step()
    moved = set((table.weight.detach() != before).any(1).nonzero().squeeze(1).tolist())
    read = {*history, 1, *grid.ids(torch.arange(grid.own_rows)).tolist()}
    nodes = {*tail[:7], *tail[7:14]} if head == "tree" else set()  # of the item after the first, and of the target
    assert moved - {*range(5)} == (read | nodes) - {*range(5)}
    assert len(moved) < V - 20
    assert optimizer.state[table.weight]["square"].shape == (V, 1)


def test_the_full_softmax_keeps_tables_whole():
    assert row_tables(QuoremForNextItem(config(causal=True)), "rows") == []


@pytest.fixture
def run(tmp_path):
    """A folder with both networks of a pre-training run."""
    torch.manual_seed(0)
    generator = QuoremForMaskedLM(config(**TREE, hidden_size=12, num_hidden_layers=1, never_targets=[0, 2, 3, 4]))
    discriminator = QuoremForPreTraining(config(embedding=TREE["embedding"]))
    order = torch.cat([torch.arange(5), 5 + torch.randperm(V - 5)])  # special tokens have rows of their own
    for network in (generator, discriminator):
        network.electra.embeddings.word_embeddings.assignment.set_order(order)
    generator.save_pretrained(tmp_path / "generator")
    discriminator.save_pretrained(tmp_path / "discriminator")
    return tmp_path


def build(run, start, head="tree", attention="causal"):
    return build_next_item(run, start=start, attention=attention, head=head, scale=9.0, dropout=0.1, seed=1)


def test_a_model_starts_from_the_discriminator_and_the_generators_softmax(run):
    model, new = build(run, "discriminator")
    assert new == {"generator_predictions.dense.weight"}, "the generator's encoder is narrower"
    there = QuoremForPreTraining.from_pretrained(run / "discriminator").state_dict()
    for name, value in model.electra.state_dict().items():
        assert torch.equal(value, there[f"electra.{name}"]), name
    head = QuoremForMaskedLM.from_pretrained(run / "generator").generator_lm_head
    assert torch.equal(model.generator_lm_head.map_1, head.map_1)
    assert model.config.causal
    assert model.config.head == {"kind": "tree"}


def test_a_model_starts_from_the_generator_whole(run):
    model, new = build(run, "generator", attention="masked")
    assert not new
    there = QuoremForMaskedLM.from_pretrained(run / "generator")
    assert all(torch.equal(value, there.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("start", ["discriminator", "generator"])
def test_another_softmax_is_new(run, start):
    model, new = build(run, start, head="full")
    assert "generator_lm_head.bias" in new
    assert model.config.head == {"kind": "full"}


def test_cosines_ask_with_the_encoders_own_vectors_at_first(run):
    model, new = build(run, "discriminator", head="cosine")
    assert model.config.head == {"kind": "cosine", "scale": 9.0}
    assert {f"generator_predictions.{name}" for name in ("weight", "bias")} <= new
    square = QuoremForNextItem(config(head=model.config.head, hidden_size=16))
    assert torch.equal(square.generator_predictions.weight, torch.eye(16))
    with torch.no_grad():
        square.generator_predictions.weight.fill_(0.5)
    square.save_pretrained(run / "square")
    assert (QuoremForMaskedLM.from_pretrained(run / "square").generator_predictions.weight == 0.5).all()


def test_the_softmax_is_over_cosines_unless_there_are_too_many_items(run, monkeypatch):
    assert build(run, "discriminator", head="auto")[0].config.head["kind"] == "cosine"
    assert not build(run, "generator", head="auto", attention="masked")[1], "what it starts from is kept whole"
    monkeypatch.setattr(quorem.recommending.start, "COSINE_UP_TO", V - 1)
    assert build(run, "discriminator", head="auto")[0].config.head["kind"] == "tree"


def test_cosines_have_no_biases_that_training_could_move(run):
    model, new = build(run, "random", head="cosine")
    rows = Sessions(np.array([7, 8, 9, 8], np.int32), np.array([2, 4], np.int64))
    start_anew(model, new, rows, start="random", seed=0)
    bias = model.generator_lm_head.bias
    assert not bias.requires_grad
    assert not bias.any()


def test_auto_counts_while_items_can_be_counted(run, monkeypatch):
    assert resolve_start(run, "auto") == "cooccurrence"
    assert resolve_start(run, "generator") == "generator"
    monkeypatch.setattr(quorem.recommending.start, "STARTED_UP_TO", V - 1)
    assert resolve_start(run, "auto") == "discriminator"


@pytest.mark.parametrize("start", ["random", "cooccurrence"])
def test_a_start_from_scratch_keeps_the_order_of_ids_alone(run, start):
    model, new = build(run, start)
    name = "electra.embeddings.word_embeddings.assignment.rank"
    there = QuoremForPreTraining.from_pretrained(run / "discriminator").state_dict()
    assert set(model.state_dict()) - new == {name}
    assert torch.equal(model.state_dict()[name], there[name])


def test_settings_that_cannot_be_are_errors(run, tmp_path):
    with pytest.raises(UserError, match=r"next_item.start=discriminater: unknown. Did you mean discriminator"):
        build(run, "discriminater")
    with pytest.raises(UserError, match=r"no discriminator/config.json there"):
        build(tmp_path / "nowhere", "discriminator")
    with pytest.raises(UserError, match=r"next_item to|next_item on it first"):
        load_next_item(run)
    with pytest.raises(UserError, match="is not a next-item model"):
        load_next_item(run / "discriminator")


def test_a_folder_loads_with_auto_classes_and_says_the_same(run, tmp_path):
    model, _ = build(run, "discriminator")
    model.eval().save_pretrained(tmp_path / "saved")
    rows = histories(5)
    expected = model.scores(rows, max_items=9)
    for again in (AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval(), load_next_item(tmp_path / "saved")):
        assert isinstance(again, QuoremForNextItem)
        assert torch.equal(again.scores(rows, max_items=9), expected)
    encoder = AutoModel.from_pretrained(tmp_path / "saved").eval()
    ids, _, _ = model.inputs(rows, max_items=9)
    with torch.no_grad():
        assert torch.equal(encoder(ids).last_hidden_state, model.electra(ids).last_hidden_state)


def test_rows_are_read_in_whole_for_counting():
    rows = Sessions.of([[5, 6], [7], [8, 9, 5], [6, 6]])
    corpus = SessionCorpus(rows, 10)
    assert corpus.counts.tolist() == [0, 0, 0, 0, 0, 2, 3, 1, 1, 1]
    blocks = list(corpus.blocks(size=3, most=100, seed=0))
    assert sorted(token for tokens, _ in blocks for token in tokens.tolist()) == sorted(rows.tokens.tolist())
    for tokens, owners in blocks:
        assert len(tokens) == len(owners)


@pytest.mark.parametrize("causal", [True, False])
def test_rows_are_padded_no_further_than_positions_go(causal):
    model = QuoremForNextItem(config(causal=causal, positions="absolute", max_position_embeddings=10)).eval()
    items = 9 if causal else 8
    assert model.vectors([[5] * items, [6]], max_items=items).isfinite().all()


def test_half_precision_sees_no_infinity():
    """Where a row sees nothing, as padding on the left does with a causal encoder."""
    model = QuoremForNextItem(config(causal=True)).eval().half()
    ids, mask = torch.tensor([[0, 0, 5, 6], [5, 6, 7, 8]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert model.electra(ids, mask).last_hidden_state.isfinite().all()
