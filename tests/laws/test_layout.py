"""Layouts: every kind fits its budget, and what is stored builds what was promised."""

from dataclasses import replace

import pytest
import torch

import quorem
from quorem.config.loading import from_mapping
from quorem.config.settings import EmbeddingSettings, ModelSettings
from quorem.embeddings import EMBEDDINGS, Assignment
from quorem.errors import UserError
from quorem.heads import HEADS
from quorem.plan.layout import lay_out, parse_bytes, parse_ratio, size_of, with_kind, with_table_defaults
from quorem.plan.sizes import table_facts

WIDTH = 16
SCALED = [kind for kind in EMBEDDINGS if kind not in ("dense", "attributes")]  # the others' rows are given


def entries(vocab_size, width=WIDTH, head=None, **embedding):
    attributes = None
    if embedding.get("kind") == "attributes":
        embedding = {"attributes_file": "given.csv", **embedding}
        attributes = [150, 150]
    settings = from_mapping(ModelSettings, {"embedding": embedding, "head": head or {}})
    return lay_out(settings, vocab_size=vocab_size, width=width, attributes=attributes)


def build(entry, vocab_size, width=WIDTH):
    options = dict(entry)
    kind = options.pop("kind")
    grid = {key: options.pop(key) for key in ("own_rows", "divisor", "permuted") if key in options}
    return EMBEDDINGS[kind](Assignment(vocab_size, **grid), width, **options)


@pytest.mark.parametrize("vocab_size", [6, 50, 1000, 20_000])
@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_every_kind_builds_at_every_size_and_never_takes_more_than_the_dense_table(kind, vocab_size):
    entry, head = entries(vocab_size, kind=kind)
    embedding = build(entry, vocab_size)
    held = sum(t.numel() * t.element_size() for t in [*embedding.parameters(), *embedding.buffers()])
    assert held == size_of(entry, vocab_size, WIDTH)
    assert held <= vocab_size * WIDTH * 4
    assert embedding(torch.arange(vocab_size)).shape == (vocab_size, WIDTH)
    head_options = dict(head)
    made = HEADS[head_options.pop("kind")](embedding, never=[0, 2, 3, 4], **head_options)
    assert made.nll(torch.randn(3, WIDTH), torch.tensor([5, 1, vocab_size - 1])).isfinite().all()


@pytest.mark.parametrize(("ratio", "tier"), [(9, None), (4, 0), (9, 400)])
@pytest.mark.parametrize("kind", SCALED)
def test_a_budget_is_kept_and_used(kind, ratio, tier):
    vocab_size, width = 20_000, 64
    given = {} if tier is None else {"tier": tier}
    if (kind, ratio) == ("path", 9):  # its matrices take more
        with pytest.raises(UserError, match="takes at least") as refused:
            entries(vocab_size, width, kind=kind, compression="9x", **given)
        least = int(str(refused.value).split("at least ")[1].split(" ")[0].replace(",", ""))
        assert least > vocab_size * width * 4 / 9
        assert entries(vocab_size, width, kind=kind, budget=str(least), **given)[0]["kind"] == kind
        return
    entry, _ = entries(vocab_size, width, kind=kind, compression=f"{ratio}x", **given)
    held, limit = size_of(entry, vocab_size, width), vocab_size * width * 4 / ratio
    assert held <= limit
    assert held > (0.8 if kind == "low_rank" else 0.95) * limit
    assert entry["kind"] == kind
    if tier is not None:
        assert entry["own_rows"] == tier + 5
    by_bytes, _ = entries(vocab_size, width, kind=kind, budget=f"{int(limit)}B", **given)
    assert by_bytes == entry


def test_a_budget_without_a_tier_gives_the_frequent_tokens_rows_of_their_own():
    entry, _ = entries(20_000, kind="qr", compression="5x")
    assert entry["own_rows"] > 2000
    smaller, _ = entries(20_000, kind="qr", compression="10x")
    assert 5 <= smaller["own_rows"] < entry["own_rows"]
    fixed, _ = entries(20_000, kind="qr", compression="5x", tier=0)
    assert fixed["divisor"] > 2000
    assert -(-19_995 // fixed["divisor"]) < 10


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "qr", "compression": "2000x"}, "qr with these settings takes at least"),
        ({"kind": "qr", "budget": "20KB"}, r"assignment=identity, which has no index \(80,000 of"),
        ({"kind": "dense", "budget": "1MB"}, "a dense table cannot be made smaller"),
        ({"kind": "qr", "budget": "2 potatoes"}, "budget=2 potatoes: bytes needed"),
        ({"kind": "qr", "compression": "0.5"}, "a ratio of 1 or more"),
        ({"kind": "qr", "compression": "5x", "budget": "1MB"}, "give one of them"),
        (
            {"kind": "attributes", "budget": "1MB"},
            "budget=1MB: kind attributes takes its rows from the attributes file",
        ),
        ({"kind": "attributes", "compression": "9x"}, "compression=9x: kind attributes"),
        ({"kind": "attributes", "attributes_file": None}, "attributes_file=PATH go together"),
        ({"kind": "qr", "attributes_file": "x.csv"}, "attributes_file=PATH go together"),
        ({"kind": "attributes", "digits": 3}, "kind attributes does not use it"),
        ({"kind": "qr", "rows": 7}, "kind qr does not use it, only hashing"),
        ({"kind": "low_rank", "operation": "add"}, "does not use it, only qr"),
        ({"kind": "qr", "operation": "add", "rank": 2}, "set operation=multiply"),
        ({"kind": "chinese_remainder", "moduli": "6,9"}, "6 and 9 share the factor 3"),
        ({"kind": "mixed_radix", "moduli": "a,b"}, "numbers separated by commas"),
        ({"kind": "mixed_radix", "digits": 3, "moduli": "97,101"}, "give one of them"),
        ({"kind": "mixed_radix", "digits": 1}, "digits=1: a number at least 2"),
        ({"kind": "path", "hidden": -1}, "hidden=-1"),
        ({"kind": "low_rank", "rank": 99}, "rank=99: 1 to the width, 16"),
        ({"kind": "pq", "parts": 99}, "parts=99: 1 to the width, 16"),
        ({"kind": "pq", "rows": 257}, "rows=257: 1 to 256"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        entries(20_000, **given)


@pytest.mark.parametrize("operation", ["add", "concat"])
@pytest.mark.parametrize("kind", ["qr", "mixed_radix", "chinese_remainder", "attributes"])
def test_a_full_softmax_tied_to_a_sum_of_parts_is_refused_with_the_reason(kind, operation):
    with pytest.raises(UserError, match="independently of each other"):
        entries(20_000, kind=kind, operation=operation, head={"kind": "full"})
    embedding = build(entries(20_000, kind=kind, operation=operation)[0], 20_000)
    with pytest.raises(ValueError, match="independently of each other"):
        HEADS["full"](embedding)


def test_the_head_follows_the_vocabulary():
    assert entries(20_000)[1] == {"kind": "full"}
    assert entries(20_000, kind="qr")[1]["kind"] == "two_level"
    for kind in ("dense", "low_rank", "hash_embedding", "memcom", "pq"):
        assert entries(90_000, kind=kind)[1] == {"kind": "tree"}
    assert entries(90_000, kind="qr", own_rank=2)[1] == {"kind": "tree"}


@pytest.mark.parametrize("kind", ["dense", "low_rank", "pq"])
def test_a_tree_has_a_third_level_where_two_are_many_rows(kind):
    entry, head = entries(300_000, kind=kind)
    tail = 300_000 - entry["own_rows"]
    assert head == {"kind": "tree", "moduli": [67, 67]}
    assert 66**3 < tail <= 67**3
    assert entry["divisor"] == 67  # what is clustered is a node's leaves
    assert entries(300_000, kind=kind, head={"kind": "tree", "digits": 2})[1] == {"kind": "tree"}


def test_a_head_of_digits_has_those_of_the_table_or_even_ones():
    entry, head = entries(20_000, kind="mixed_radix", digits=4, head={"kind": "digits"})
    assert head["moduli"] == entry["moduli"]
    embedding = build(entry, 20_000)
    assert HEADS["digits"](embedding, **{key: value for key, value in head.items() if key != "kind"}).tied
    entry, head = entries(10**8, width=128, kind="qr", assignment="identity", head={"kind": "digits", "digits": 4})
    assert len(head["moduli"]) == 3
    assert max(head["moduli"]) <= 101
    assert entries(20_000, tier=9, head={"kind": "digits"})[0]["own_rows"] == 14
    for given in ({"kind": "two_level", "digits": 3}, {"kind": "digits", "digits": 1}):
        with pytest.raises(UserError, match=r"model\.head\.digits"):
            entries(20_000, kind="qr", head=given)
    for digits in (3, 5):
        with pytest.raises(UserError, match=rf"model\.head\.digits={digits}: the head uses the table's 2 digits"):
            entries(20_000, kind="mixed_radix", head={"kind": "digits", "digits": digits})


@pytest.mark.parametrize(
    ("vocab_size", "width", "given"),
    [
        (1_000_000, 128, {"kind": "memcom", "compression": "50x"}),
        (100_000, 128, {"kind": "hashing", "rows": 2000, "assignment": "identity", "budget": "1100000"}),
        (1_000_000, 128, {"kind": "path", "tier": 8000, "assignment": "identity", "compression": "32x"}),
        (20_000, 64, {"kind": "chinese_remainder", "moduli": "97,101", "assignment": "identity", "compression": "1.5"}),
    ],
)
def test_budgets_that_can_be_met_are_met(vocab_size, width, given):
    assert entries(vocab_size, width, **given)[0]["kind"] == given["kind"]


def test_a_dense_table_is_told_what_it_has_no_use_for():
    for given in ({"rank": 8}, {"rows": 5}, {"operation": "add"}, {"assignment": "cluster", "head": {"kind": "full"}}):
        with pytest.raises(UserError, match="does not use it"):
            entries(20_000, **given)
    assert entries(20_000, tier=9, head={"kind": "two_level"})[0]["own_rows"] == 14


def test_sizes_people_write():
    assert [parse_bytes(text) for text in ("2MB", "512 KiB", "1.5gb", "7", "9B")] == [
        2_000_000, 524_288, 1_500_000_000, 7, 9
    ]  # fmt: skip
    assert [parse_ratio(text) for text in ("20x", "20", "1.5X")] == [20, 20, 1.5]


def test_ten_million_tokens_are_laid_out_without_allocating():
    entry, head = entries(10_000_000, width=128, kind="qr", assignment="identity")
    assert size_of(entry, 10_000_000, 128) < 20_000_000
    assert head["kind"] == "two_level"


def test_without_attributes_there_is_a_plan_that_says_who_needs_them():
    settings = from_mapping(ModelSettings, {"embedding": {"kind": "attributes", "attributes_file": "given.csv"}})
    plan, head = lay_out(settings, vocab_size=20_000, width=WIDTH)
    known = lay_out(settings, vocab_size=20_000, width=WIDTH, attributes=[150, 140])
    assert known == (plan | {"sizes": [150, 140]}, head)
    assert lay_out(settings, vocab_size=20_000, width=WIDTH, attributes=[30_000, 2])[0]["kind"] == "dense"
    with pytest.raises(UserError, match="below the 18864 ids to tell apart"):
        lay_out(settings, vocab_size=20_000, width=WIDTH, attributes=[9, 11])


@pytest.mark.parametrize(
    ("table", "head", "vocab_size", "expected"),
    [
        ({"kind": "qr"}, "auto", 30_000, ("add", "cluster")),
        ({"kind": "mixed_radix"}, "digits", 30_000, ("add", "cluster")),
        ({"kind": "qr"}, "full", 30_000, ("multiply", "cluster")),
        ({"kind": "qr", "rank": 2}, "auto", 30_000, ("multiply", "cluster")),
        ({"kind": "qr"}, "auto", 10_000_000, ("add", "cluster")),
        ({"kind": "qr"}, "auto", 100_000_000, ("add", "frequency")),
        ({"kind": "chinese_remainder"}, "auto", 30_000, ("add", "frequency")),
        ({"kind": "hashing"}, "auto", 30_000, (None, "frequency")),
        ({"kind": "low_rank"}, "auto", 30_000, (None, "cluster")),
        ({"kind": "low_rank"}, "full", 30_000, (None, "frequency")),
        ({"kind": "dense"}, "auto", 20_000, (None, "frequency")),
        ({"kind": "dense"}, "auto", 30_000, (None, "cluster")),
        ({"kind": "dense"}, "two_level", 30_000, (None, "cluster")),
        ({"kind": "qr", "operation": "concat", "assignment": "identity"}, "auto", 30_000, ("concat", "identity")),
    ],
)
def test_what_is_left_open_is_filled_with_what_measured_best(table, head, vocab_size, expected):
    model = from_mapping(ModelSettings, {"vocab_size": vocab_size, "embedding": table, "head": {"kind": head}})
    found = with_table_defaults(model)
    assert (found.embedding.operation, found.embedding.assignment) == expected
    assert with_table_defaults(found) == found


@pytest.mark.parametrize(
    ("vocab_size", "given", "kind", "own_rank"),
    [
        (30_000, {}, "dense", 0),
        (1_000_000, {}, "dense", 0),  # 512 MB, all that is taken without a budget
        (1_000_100, {}, "pq", 0),
        (1_000_100, {"start": "random"}, "qr", 8),
        (10_000_000, {}, "qr", 8),  # too many to start from co-occurrence
        (20_000_000, {}, "qr", 0),
        (30_000, {"budget": "20MB"}, "dense", 0),
        (30_000, {"compression": "10x"}, "pq", 0),
        (30_000, {"compression": "10x", "start": "random"}, "qr", 8),
        (30_000, {"compression": "20x"}, "pq", 0),
        (30_000, {"compression": "50x"}, "qr", 0),
        (30_000, {"compression": "5x", "own_rank": 3}, "qr", 3),
    ],
)
def test_auto_is_dense_where_it_fits_and_keeps_to_the_budget(vocab_size, given, kind, own_rank):
    model = ModelSettings(vocab_size=vocab_size, embedding=EmbeddingSettings(kind="auto", **given))
    chosen = with_kind(model, vocab_size=vocab_size, width=128).embedding
    assert (chosen.kind, chosen.own_rank) == (kind, own_rank)
    entry, _ = lay_out(model, vocab_size=vocab_size, width=128)
    assert entry["kind"] == kind
    limit = {"20MB": 20e6, "10x": 0.1, "20x": 0.05, "5x": 0.2}.get(next(iter(given.values()), ""), 512e6)
    limit = limit * vocab_size * 128 * 4 if limit < 1 else limit
    index = 4 * vocab_size * bool(entry.get("permuted")) if kind == "dense" else 0  # of the softmax's clusters
    assert size_of(entry, vocab_size, 128) - index <= limit
    assert lay_out(replace(model, embedding=chosen), vocab_size=vocab_size, width=128)[0] == entry


@pytest.mark.parametrize(
    ("kind", "options"), [("qr", {"own_rank": 8}), ("pq", {"parts": 8}), ("low_rank", {"rank": 4})]
)
def test_ids_to_a_row_are_counted_by_the_rows_they_share(kind, options):
    table = quorem.embedding(20_000, 64, kind=kind, **options)
    found, tail = table_facts(table)["ids_per_row"], table.assignment.tail
    shared = {"qr": tail / table.assignment.divisor, "pq": tail / 256, "low_rank": 1}[kind]
    assert found == pytest.approx(shared, rel=0.05, abs=1)
