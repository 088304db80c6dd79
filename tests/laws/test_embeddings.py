import json
import subprocess
import sys

import pytest
import torch
from embedding_cases import VARIANTS, name_of
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from quorem import QuoremConfig, QuoremForMaskedLM
from quorem.arrangement.token_order import frequency_order
from quorem.embeddings import EMBEDDINGS, Assignment
from quorem.embeddings.assignment import square_divisor
from quorem.embeddings.partition import OPERATIONS

VOCAB, DIM = 103, 8  # the last bucket is incomplete, with and without a tier
LARGE = {
    "moduli": {"mixed_radix": [22, 21], "chinese_remainder": [21, 22, 23]},
    "sizes": [21, 22, 23],
    "rows": 500,
    "rank": 64,
    "hidden": 64,
}
SMALL = (("qr", "rank"), ("attributes", "rank"), ("pq", "rows"))  # that stay as they are
GRIDS = [(own_rows, permuted) for own_rows in (0, 13) for permuted in (False, True)]

every_variant = pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=[name_of(*variant) for variant in VARIANTS])
every_grid = pytest.mark.parametrize(
    ("own_rows", "permuted"), GRIDS, ids=[f"tier{own_rows}-{'permuted' if p else 'identity'}" for own_rows, p in GRIDS]
)


def on_two_grids(variants):
    """Each with and without rows of its own, one of them permuted: all pairs, not each with each."""
    tables = [
        (*variant, own_rows, permuted != bool(number % 2))
        for number, variant in enumerate(variants)
        for own_rows, permuted in ((0, False), (13, True))
    ]
    names = [
        f"{name_of(*variant)}-tier{rows}-{'permuted' if turned else 'identity'}" for *variant, rows, turned in tables
    ]
    return pytest.mark.parametrize(("kind", "options", "own_rows", "permuted"), tables, ids=names)


every_table = on_two_grids(VARIANTS)


def make_assignment(own_rows, permuted, vocab=VOCAB, divisor=11):
    assignment = Assignment(vocab, own_rows=own_rows, divisor=divisor, permuted=permuted)
    if permuted:
        counts = torch.randint(0, 50, (vocab,), generator=torch.Generator().manual_seed(7))
        assignment.set_order(frequency_order(counts))
    return assignment


def make_embedding(kind, options, own_rows, permuted, dim=DIM, **grid):
    torch.manual_seed(0)
    embedding = EMBEDDINGS[kind](make_assignment(own_rows, permuted, **grid), dim, **options)
    if kind == "attributes":
        embedding.set_attributes(make_attributes(embedding.assignment.tail, options["sizes"]))
    return embedding


def make_attributes(tail, sizes):
    """Some distinct combinations of values, each value in use: remainders by coprime sizes, in a random order."""
    numbers = torch.randperm(tail, generator=torch.Generator().manual_seed(9))
    return torch.stack([numbers % size for size in sizes], dim=-1)


def make_large_embedding(kind, options):
    """10,000 tokens, 128 wide, with options that suit them."""
    large = {
        name: value if name not in LARGE or not value or (kind, name) in SMALL
        else LARGE[name][kind] if name == "moduli" else LARGE[name]
        for name, value in options.items()
    }  # fmt: skip
    return make_embedding(kind, large, 100, False, dim=128, vocab=10_000, divisor=100)


@every_table
def test_vectors_have_the_shape_of_the_ids_and_one_more_axis(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    for shape in ((), (0,), (5,), (2, 3), (2, 3, 4)):
        vectors = embedding(torch.randint(0, VOCAB, shape))
        assert vectors.shape == (*shape, DIM)
        assert vectors.dtype == torch.float32


@every_table
def test_distinct_ids_have_distinct_vectors_unless_the_kind_says_otherwise(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    distinct = len(embedding(torch.arange(VOCAB)).unique(dim=0))
    assert distinct == VOCAB if embedding.uniqueness else own_rows < distinct <= VOCAB  # hashed ids can meet
    assert embedding.capacity >= VOCAB


@every_table
def test_a_vector_does_not_depend_on_the_ids_around_it(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    ids = torch.randperm(VOCAB).view(1, -1)
    alone = torch.stack([embedding(token) for token in ids[0]])
    together = torch.cat([embedding.chunk_rows(chunk) for chunk in embedding.chunks(17)])
    for found, expected in (
        (embedding(ids)[0], alone),
        (embedding.rows(20, 40), embedding(torch.arange(20, 40))),
        (together, embedding(torch.arange(VOCAB))),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # matrix products round by their shape


@every_table
def test_logits_are_products_with_every_row(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    hidden = torch.randn(4, DIM)
    torch.testing.assert_close(embedding.logits(hidden), hidden @ embedding(torch.arange(VOCAB)).T)


@every_table
def test_every_row_of_every_parameter_is_read(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    (embedding(torch.arange(VOCAB)) ** 2).sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.is_floating_point(), name
        assert parameter.grad.abs().flatten(1).sum(-1).min() > 0 if len(parameter) else own_rows == 0, name


@every_grid
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("divisor", [1, 2, 11, 90, 500])
def test_qr_has_a_row_for_each_own_token_quotient_and_remainder_and_no_more(operation, own_rows, permuted, divisor):
    embedding = make_embedding("qr", {"operation": operation}, own_rows, permuted, divisor=divisor)
    tail = VOCAB - own_rows
    used = min(divisor, tail)
    width = DIM // 2 if operation == "concat" else DIM
    rows = {name: len(parameter) for name, parameter in embedding.named_parameters()}
    assert rows == {"own": own_rows, "quotient": -(-tail // used), "remainder": used}
    assert sum(parameter.numel() for parameter in embedding.parameters()) == (
        own_rows * DIM + (rows["quotient"] + rows["remainder"]) * width
    )
    assert [buffer.numel() for buffer in embedding.buffers()] == ([VOCAB] if permuted else [])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_table_without_a_tail_has_only_own_rows(operation):
    embedding = make_embedding("qr", {"operation": operation}, VOCAB, False)
    assert torch.equal(embedding(torch.arange(VOCAB)), embedding.own)
    assert len(embedding.quotient) == len(embedding.remainder) == 0


@every_variant
def test_composed_vectors_have_the_spread_asked_for(kind, options):
    embedding = make_large_embedding(kind, options)
    for std in (0.02, 0.35):
        embedding.reset_parameters(std)
        vectors = embedding(torch.arange(10_000)).detach()
        for part in (vectors[:100], vectors[100:]):
            assert part.std() == pytest.approx(std, rel=0.1)
            assert part.mean().abs() < 0.1 * std


@every_variant
def test_a_new_table_starts_with_vectors_of_length_one(kind, options):
    vectors = make_large_embedding(kind, options)(torch.arange(10_000))
    assert (vectors**2).sum(-1).mean().item() == pytest.approx(1, rel=0.2)


@every_table
def test_state_dict_round_trip(kind, options, own_rows, permuted):
    source = make_embedding(kind, options, own_rows, permuted)
    target = EMBEDDINGS[kind](Assignment(VOCAB, own_rows=own_rows, divisor=11, permuted=permuted), DIM, **options)
    ids = torch.arange(VOCAB)
    assert not torch.equal(target(ids), source(ids))
    target.assignment.ids(ids)  # the inverse is remembered; loading must forget it
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(ids), source(ids))
    assert torch.equal(target.assignment.ids(ids), source.assignment.ids(ids))


@every_table
def test_casting_to_bfloat16_changes_values_but_no_code(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    ids = torch.arange(VOCAB)
    exact, ranks = embedding(ids).detach(), embedding.assignment.ranks(ids)
    vectors = embedding.to(torch.bfloat16)(ids)
    assert vectors.dtype == torch.bfloat16
    assert torch.equal(embedding.assignment.ranks(ids), ranks)
    torch.testing.assert_close(vectors.float(), exact, rtol=0.02, atol=0.01)


def test_composition_follows_the_papers_formulas():
    ids = torch.arange(VOCAB)
    combine = {"multiply": torch.mul, "add": torch.add, "concat": lambda q, r: torch.cat([q, r], dim=-1)}
    for operation, function in combine.items():
        embedding = make_embedding("qr", {"operation": operation}, 0, False)
        quotient, remainder = embedding.quotient, embedding.remainder
        by_hand = [function(quotient[token // 11], remainder[token % 11]) for token in range(VOCAB)]
        assert torch.equal(embedding(ids), torch.stack(by_hand))


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"divide.*multiply, add, concat"):
        make_embedding("qr", {"operation": "divide"}, 0, False)
    with pytest.raises(ValueError, match="rank 2 with operation add"):
        make_embedding("qr", {"operation": "add", "rank": 2}, 0, False)
    with pytest.raises(ValueError, match="3 partitions do not fit into width 2"):
        make_embedding("mixed_radix", {"moduli": [4, 5], "operation": "concat"}, 0, False, dim=2)
    with pytest.raises(ValueError, match="6 and 9 share the factor 3"):
        make_embedding("chinese_remainder", {"moduli": [6, 9, 25]}, 0, False)
    with pytest.raises(ValueError, match="product 99 is below the 103 ids"):
        make_embedding("chinese_remainder", {"moduli": [9, 11]}, 0, False)
    with pytest.raises(ValueError, match="99 combinations of values are below the 103 ids"):
        make_embedding("attributes", {"sizes": [9, 11]}, 0, False)
    for kind, wrong in (
        ("attributes", {"sizes": []}), ("attributes", {"sizes": [200, 0]}),
        ("mixed_radix", {"moduli": []}), ("mixed_radix", {"moduli": [0]}), ("path", {"hidden": -1}),
        ("hashing", {"rows": 0}), ("hash_embedding", {"rows": 5, "functions": 0}), ("low_rank", {"rank": 9}),
        ("memcom", {"rows": 0}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(reversed(wrong))}.*needed"):
            make_embedding(kind, wrong, 0, False)
    for wrong in ({"own_rows": -1, "divisor": 1}, {"own_rows": 11, "divisor": 1}, {"own_rows": 0, "divisor": 0}):
        with pytest.raises(ValueError, match="needed"):
            Assignment(10, **wrong)


def test_attributes_are_read_row_by_row_and_kept_with_the_weights():
    embedding = make_embedding("attributes", {"sizes": [3, 5, 8]}, 13, True)
    values = embedding.attributes
    assert values.dtype == torch.int32
    assert values.shape == (VOCAB - 13, 3)
    ids = embedding.assignment.ids(torch.arange(13, VOCAB))
    rows = [table[column.long()] for table, column in zip(embedding.tables, values.T, strict=True)]
    assert torch.equal(embedding(ids), rows[0] * rows[1] * rows[2])
    assert torch.equal(embedding(embedding.assignment.ids(torch.arange(13))), embedding.own)
    assert torch.equal(embedding.state_dict()["attributes"], values)


def test_attributes_that_do_not_tell_tokens_apart_are_refused():
    embedding = make_embedding("attributes", {"sizes": [3, 5, 8]}, 13, True)
    values = embedding.attributes.clone()
    for wrong, message in ((values[1:], "shape"), (values + 1, "below"), (values - 1, "below")):
        with pytest.raises(ValueError, match=message):
            embedding.set_attributes(wrong)
    values[7] = values[80]
    with pytest.raises(ValueError, match="have the same attributes"):
        embedding.set_attributes(values)


def codes_of(assignment, ids):
    """Class of row and, for the grid, both digits: one tuple for each id."""
    ranks = assignment.ranks(ids)
    quotients, remainders = assignment.digits(ranks)
    own = torch.where(ranks < assignment.own_rows, ranks, -1)
    return list(zip(own.tolist(), quotients.tolist(), remainders.tolist(), strict=True))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_codes_are_exact_and_distinct_for_vocabularies_up_to_2_40(data):
    vocab = data.draw(st.integers(1, 2**40))
    own_rows = data.draw(st.integers(0, min(vocab, 10**6)))
    divisor = data.draw(st.integers(1, vocab))
    ids = data.draw(st.lists(st.integers(0, vocab - 1), unique=True, max_size=20))
    ids = sorted({*ids, 0, vocab - 1, max(vocab - 2, 0)})
    assignment = Assignment(vocab, own_rows=own_rows, divisor=divisor)
    codes = codes_of(assignment, torch.tensor(ids))
    assert len(set(codes)) == len(ids)
    for token, (own, quotient, remainder) in zip(ids, codes, strict=True):
        if token < own_rows:
            assert own == token
        else:
            assert (quotient, remainder) == divmod(token - own_rows, assignment.divisor)
            assert quotient < assignment.num_quotients
            assert remainder < assignment.divisor


@settings(max_examples=100, deadline=None)
@given(vocab=st.integers(1, 200), share=st.floats(0, 1), divisor=st.integers(1, 250))
def test_partitions_are_complementary_and_leave_no_row_unread(vocab, share, divisor):
    """Definition 1 of the paper: any two ids fall into different classes of at least one partition."""
    assignment = Assignment(vocab, own_rows=round(share * vocab), divisor=divisor)
    codes = codes_of(assignment, torch.arange(vocab))
    assert len(set(codes)) == vocab
    grid = [code for code in codes if code[0] < 0]
    assert {quotient for _, quotient, _ in grid} == set(range(assignment.num_quotients))
    assert {remainder for _, _, remainder in grid} == set(range(min(assignment.divisor, assignment.tail)))


def test_an_identity_assignment_of_any_size_holds_no_tensor():
    assignment = Assignment(2**40, own_rows=1000, divisor=square_divisor(2**40 - 1000))
    assert not assignment.state_dict()
    assert not list(assignment.buffers())
    ids = torch.tensor([2**40 - 1])
    assert torch.equal(assignment.ids(assignment.ranks(ids)), ids)


@given(tail=st.integers(1, 10**14))
def test_the_square_divisor_is_the_exact_root_rounded_up(tail):
    root = square_divisor(tail)
    assert (root - 1) ** 2 < tail <= root**2


@given(counts=st.lists(st.integers(0, 5), min_size=5, max_size=60))
def test_ranks_put_special_tokens_first_then_frequent_ones(counts):
    vocab = len(counts)
    assignment = Assignment(vocab, own_rows=0, divisor=3, permuted=True)
    ids = torch.arange(vocab)
    assignment.ids(ids)  # the inverse is remembered; a new order must forget it
    assignment.set_order(frequency_order(torch.tensor(counts)))
    ranks = assignment.ranks(ids)
    assert ranks.dtype == torch.int64
    assert sorted(ranks.tolist()) == ids.tolist()
    assert ranks[:5].tolist() == [0, 1, 2, 3, 4]
    assert assignment.ids(ids)[5:].tolist() == sorted(range(5, vocab), key=lambda token: (-counts[token], token))
    assert torch.equal(assignment.ids(ranks), ids)
    assert torch.equal(assignment.ranks(assignment.ids(ids)), ids)


def test_an_order_needs_each_id_once():
    with pytest.raises(ValueError, match="exactly once"):
        Assignment(3, own_rows=0, divisor=3, permuted=True).set_order(torch.tensor([0, 1, 1]))


def test_an_identity_assignment_has_no_order_to_set():
    with pytest.raises(ValueError, match="no order"):
        Assignment(10, own_rows=0, divisor=3).set_order(frequency_order(torch.zeros(10)))


ONE_STEP = """
import json
import torch
import quorem
from quorem.config.settings import EmbeddingSettings, ModelSettings
from quorem.plan.presets import network_configs

def take_one_step(vocab):
    model = ModelSettings(size="tiny", embedding=EmbeddingSettings(kind="qr"))
    configs = network_configs(model, vocab_size=vocab, max_length=32)
    assert configs[0].embedding["kind"] == "qr" and configs[0].embedding["permuted"]
    assert configs[0].head["kind"] == "two_level"
    generator, discriminator = quorem.QuoremForMaskedLM(configs[0]), quorem.QuoremForPreTraining(configs[1])
    both = torch.nn.ModuleList([generator, discriminator])
    optimizer = torch.optim.AdamW(both.parameters())
    head, ids, where = generator.generator_lm_head, torch.randint(5, vocab, (4, 32)), torch.arange(0, 128, 8)
    hidden = generator.hidden_at(ids, None, where)
    drawn = head.sample(hidden, torch.rand(len(where), dtype=torch.float64))
    corrupted = ids.flatten().index_copy(0, where, drawn).view_as(ids)
    loss = head.nll(hidden, ids.flatten()[where]).mean() + discriminator(corrupted, labels=corrupted != ids).loss
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    tensors = [*both.parameters(), *both.buffers()]
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss starts at the parent's
    return int(status["VmHWM"].split()[0]), max(tensor.numel() for tensor in tensors)

print(json.dumps([take_one_step(30_000), take_one_step(4_000_000)]))
"""


@pytest.mark.slow
def test_four_million_tokens_take_little_more_memory_than_thirty_thousand():
    done = subprocess.run([sys.executable, "-c", ONE_STEP], capture_output=True, text=True, check=True)
    (small, _), (large, largest) = json.loads(done.stdout.splitlines()[-1])
    assert (large - small) / 1024 < 300  # MiB; a dense table of this width, its gradient and moments take 7,800
    assert largest < 4_000_000 * 8


def test_a_saved_model_with_a_huge_vocabulary_loads_with_auto_model(tmp_path):
    vocab = 1_000_000
    config = QuoremConfig(
        vocab_size=vocab, embedding_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=16, embedding={"kind": "qr", "own_rows": 500, "divisor": 1000, "permuted": True},
        head={"kind": "two_level"},
    )  # fmt: skip
    source = QuoremForMaskedLM(config).eval()
    source.electra.embeddings.word_embeddings.assignment.set_order(frequency_order(torch.arange(vocab)))
    source.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[2, 999_999, 5, 123_456, 3]])
    assert torch.equal(loaded(ids).last_hidden_state, source.electra(ids).last_hidden_state)
