"""The laws of token shards, epochs and rows."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data import shards as shards_module
from quorem.data.batches import EpochOrder, collate, step_seed
from quorem.data.documents import Document, RowCounts
from quorem.data.rows import PackedRows
from quorem.data.shards import Shards, merge_shards, write_shards
from quorem.errors import UserError
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.program import build_electra
from quorem.tokenization import train_tokenizer

TEXTS = ["Ein Zug fährt", "Поезд идёт быстро", "東京 に 行く", "ein zug", "🚂 zug 🚂", "naïve  café"]
CLS, SEP, PAD = 2, 3, 0


class NumberTokenizer:
    """Stands for a tokenizer of any size: a text is its ids, written out."""

    sep_token_id = SEP
    unk_token_id = -1  # none

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size

    def __len__(self):
        return self.vocab_size


@pytest.fixture
def numbers(monkeypatch):
    monkeypatch.setattr(shards_module, "encode", lambda _, texts: [[int(i) for i in text.split()] for text in texts])


def documents(texts=TEXTS):
    return (Document(text, row=row) for row, text in enumerate(texts, 1))


def write(folder, texts, vocab_size=100):
    write_shards(folder, documents(texts), NumberTokenizer(vocab_size), made_from={"data": "x"})
    return Shards(folder)


def split(shards):
    """The documents' ids, without the [SEP] that ends each."""
    parts = np.split(shards.tokens, shards.ends)[:-1]
    assert all(part[-1] == SEP for part in parts)
    return [part[:-1].tolist() for part in parts]


def test_documents_come_back_in_order_whatever_their_script(tmp_path):
    tokenizer = train_tokenizer(TEXTS, vocab_size=100)
    meta = write_shards(tmp_path / "shards", documents(), tokenizer, made_from={"data": "abc"})
    shards = Shards(tmp_path / "shards")
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert split(shards) == expected
    assert tokenizer.decode(split(shards)[1]) == "поезд идёт быстро"
    assert shards.meta == meta
    assert meta.made_from == {"data": "abc"}
    assert (meta.num_documents, meta.vocab_size) == (len(TEXTS), len(tokenizer))
    assert meta.num_tokens == sum(map(len, expected)) + len(TEXTS) == len(shards.tokens)
    flat = [i for ids in expected for i in ids]
    assert shards.counts.tolist() == np.bincount(flat, minlength=len(tokenizer)).tolist()


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "uint32"), (3_000_000, "uint32")])
def test_the_largest_id_survives_in_the_smallest_type_that_holds_it(tmp_path, numbers, vocab_size, dtype):
    shards = write(tmp_path / "shards", [f"5 {vocab_size - 1}", "7"], vocab_size)
    assert shards.meta.dtype == dtype == shards.tokens.dtype.name
    assert split(shards) == [[5, vocab_size - 1], [7]]
    assert shards.counts.sum() == 3
    assert shards.counts[[5, 7, vocab_size - 1]].tolist() == [1, 1, 1]


def test_more_documents_than_are_encoded_at_once(tmp_path, numbers):
    texts = [" ".join(["9"] * (row % 4)) for row in range(2 * shards_module.DOCUMENTS_AT_ONCE + 10)]
    shards = write(tmp_path / "shards", texts)
    assert split(shards) == [[9] * (row % 4) for row in range(len(texts)) if row % 4]


def test_documents_without_a_token_are_left_out_and_nothing_at_all_is_a_user_error(tmp_path, numbers):
    assert split(write(tmp_path / "shards", ["", "8", ""])) == [[8]]
    with pytest.raises(UserError, match="nothing to train on"):
        write(tmp_path / "empty", ["", ""])
    assert not (tmp_path / "empty").exists()


def test_shards_made_from_something_else_are_refused_by_naming_what_differs(tmp_path, numbers):
    shards = write(tmp_path / "shards", ["5 6"])
    shards.check_made_from({"data": "x"})
    with pytest.raises(UserError, match=r"shards: was made from something else \(it differs in data\)"):
        shards.check_made_from({"data": "y"})
    with pytest.raises(UserError, match=r"differs in text_column"):
        shards.check_made_from({"data": "x", "text_column": "a"})


def dying(texts, after):
    """The documents, and a kill after so many."""
    for row, text in enumerate(texts):
        if row == after:
            raise KeyboardInterrupt
        yield Document(text)


@pytest.mark.parametrize("after", [0, 7, 150, 399])
def test_a_write_that_was_killed_goes_on_and_ends_like_one_that_was_not(tmp_path, numbers, monkeypatch, after):
    monkeypatch.setattr(shards_module, "DOCUMENTS_AT_ONCE", 20)
    monkeypatch.setattr(shards_module, "SECONDS_TO_LOSE", 0)
    texts = [" ".join(str(5 + (row * k) % 90) for k in range(row % 5)) for row in range(400)]
    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "a", dying(texts, after), NumberTokenizer(100), made_from={"data": "x"})
    assert not (tmp_path / "a").exists()
    encoded = []
    monkeypatch.setattr(
        shards_module,
        "encode",
        lambda _, texts: [encoded.append(1) or [int(i) for i in text.split()] for text in texts],
    )
    one, other = write(tmp_path / "a", texts), write(tmp_path / "b", texts)
    assert len(encoded) - len(texts) <= len(texts) - after + 20 * (shards_module.AHEAD + 2)  # the rest is not redone
    for name in ("tokens.bin", "ends.bin", "counts.bin", "meta.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert one.meta == other.meta
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("harm", ["other data", "cut", "no json", "no file"])
def test_what_a_killed_write_left_is_not_trusted_blindly(tmp_path, numbers, monkeypatch, harm):
    monkeypatch.setattr(shards_module, "DOCUMENTS_AT_ONCE", 2)
    monkeypatch.setattr(shards_module, "SECONDS_TO_LOSE", 0)
    texts, left = ["5 6", "7", "8 9 9", "10"] * 10, tmp_path / "a.unfinished"
    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "a", dying(texts, 30), NumberTokenizer(100), made_from={"data": "x"})
    if harm == "other data":
        texts = ["11", *texts]
    elif harm == "cut":
        rewrite(left / "tokens.bin", lambda old: old[:6])
    elif harm == "no json":
        rewrite(left / "progress.json", lambda _: b"{")
    else:
        (left / "ends.bin").unlink()
    write_shards(tmp_path / "a", documents(texts), NumberTokenizer(100), made_from={"data": harm[:1]})
    assert split(Shards(tmp_path / "a")) == [[int(i) for i in text.split()] for text in texts]


def test_merged_shards_are_those_of_the_data_read_one_after_another(tmp_path, numbers):
    parts = [["5 6", "7"], ["8"], ["9 9", "5"]]
    for number, texts in enumerate(parts):
        counts = RowCounts(read=len(texts) + 1, used=len(texts), skipped=1)
        write_shards(
            tmp_path / str(number), documents(texts), NumberTokenizer(100), made_from={"data": number}, counts=counts
        )
    merge_shards(tmp_path / "all", [tmp_path / str(number) for number in range(3)])
    merged, whole = Shards(tmp_path / "all"), write(tmp_path / "whole", [text for texts in parts for text in texts])
    assert split(merged) == split(whole) == [[5, 6], [7], [8], [9, 9], [5]]
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.meta.rows == {"read": 8, "used": 5, "skipped": 3, "bad": 0}
    assert [part["data"] for part in merged.meta.made_from["merged"]] == [0, 1, 2]
    write_shards(tmp_path / "x", documents(["5"]), NumberTokenizer(100), made_from={"tokenizer": "another"})
    with pytest.raises(UserError, match=r"x: made with another tokenizer"):
        merge_shards(tmp_path / "no", [tmp_path / "0", tmp_path / "x"])


def test_a_write_that_fails_leaves_nothing_and_an_older_folder_as_it_was(tmp_path, numbers):
    def failing():
        yield Document("5")
        raise UserError("row 2 is broken")

    for folder in (tmp_path / "new", tmp_path / "old"):
        if folder.name == "old":
            write(folder, ["7 8"])
        with pytest.raises(UserError, match="row 2"):
            write_shards(folder, failing(), NumberTokenizer(100), made_from={"data": "y"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    assert split(Shards(tmp_path / "old")) == [[7, 8]]
    assert split(write(tmp_path / "old", ["9"])) == [[9]]


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "ends.bin").unlink(),
        lambda folder: rewrite(folder / "meta.json", lambda old: old[:-5]),
        lambda folder: rewrite(folder / "meta.json", lambda _: b"[1]"),
        lambda folder: rewrite(folder / "meta.json", lambda _: json.dumps({"dtype": "uint16"}).encode()),
        lambda folder: rewrite(folder / "meta.json", lambda old: old.replace(b"uint16", b"uint17")),
        lambda folder: rewrite(folder / "tokens.bin", lambda old: old[:-2]),
        lambda folder: rewrite(folder / "tokens.bin", lambda old: old[:-1]),
        lambda folder: rewrite(folder / "tokens.bin", lambda _: b""),
        lambda folder: rewrite(folder / "ends.bin", lambda old: old + old),
        lambda folder: rewrite(folder / "counts.bin", lambda old: old[8:]),
    ],
)
def test_a_folder_that_was_tampered_with_is_a_user_error(tmp_path, numbers, tamper):
    write(tmp_path / "shards", ["5 6", "7"])
    tamper(tmp_path / "shards")
    with pytest.raises(UserError, match=r"shards.*delete it"):
        Shards(tmp_path / "shards")


@settings(max_examples=60, deadline=None)
@given(num_items=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 2**40))
def test_every_epoch_visits_each_item_once(num_items, batch_size, seed):
    order = EpochOrder(num_items, batch_size=batch_size, seed=seed)
    for epoch in range(3):
        start = epoch * order.steps_per_epoch
        batches = [order.indices(start + step) for step in range(order.steps_per_epoch)]
        assert sorted(np.concatenate(batches).tolist()) == list(range(num_items))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (order.steps_per_epoch - 1)
        assert len(batches[-1]) == (num_items - 1) % batch_size + 1


def test_the_order_is_a_function_of_seed_and_step_alone():
    """Trap 20: so a resumed run sees what an uninterrupted one sees."""
    order = EpochOrder(50, batch_size=8, seed=1)
    forwards = [order.indices(step).tolist() for step in range(21)]
    backwards = [order.indices(step).tolist() for step in reversed(range(21))][::-1]
    assert forwards == backwards == [EpochOrder(50, batch_size=8, seed=1).indices(step).tolist() for step in range(21)]


def test_the_order_differs_by_epoch_and_by_seed():
    """Trap 20."""
    one, other = EpochOrder(50, batch_size=8, seed=1), EpochOrder(50, batch_size=8, seed=2)
    found = {tuple(order.permutation(epoch).tolist()) for order in (one, other) for epoch in range(5)}
    assert len(found) == 10


def test_seeds_of_different_places_differ():
    places = [(seed, kind, *rest) for seed in (0, 1) for kind in range(4) for rest in [(1,), (2,), (1, 1), (2, 1)]]
    seeds = [step_seed(*place) for place in places]
    assert len(set(seeds)) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), max_length=st.integers(2, 20))
def test_packing_loses_no_token_and_pads_only_the_last_row(lengths, max_length, tmp_path_factory):
    rng = np.random.default_rng(len(lengths))
    texts = [" ".join(map(str, rng.integers(5, 100, length))) for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "encode", lambda _, texts: [[int(i) for i in text.split()] for text in texts])
        shards = write(tmp_path_factory.mktemp("packed") / "shards", texts)
    rows = PackedRows(shards, max_length=max_length, cls_id=CLS, pad_id=PAD)
    kept = []
    for index in range(len(rows)):
        input_ids, mask = rows.batch(np.array([index]))
        assert input_ids[0, 0] == CLS
        assert mask is None
        assert index == len(rows) - 1 or input_ids.shape[1] == max_length
        kept += input_ids[0, 1:].tolist()
    assert kept == shards.tokens.tolist()
    together, mask = rows.batch(np.arange(len(rows))[::-1])
    assert together.dtype == torch.int64
    assert together.shape[0] == len(rows)
    real = torch.ones_like(together, dtype=torch.bool) if mask is None else mask
    assert real[1:].all()
    assert int(real.sum()) == len(kept) + len(rows)
    assert (together[~real] == PAD).all()


def test_collate_pads_on_the_right_and_needs_no_mask_where_nothing_is_padding():
    input_ids, mask = collate([[2, 5, 6], [2], [2, 7]], pad_id=9)
    assert input_ids.tolist() == [[2, 5, 6], [2, 9, 9], [2, 7, 9]]
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    input_ids, mask = collate([[2, 0], [2, 0]], pad_id=0)
    assert input_ids.tolist() == [[2, 0], [2, 0]]
    assert mask is None


def test_a_token_added_to_the_tokenizer_is_counted_and_has_a_row(tmp_path):
    """Trap 27: tokenizer.vocab_size leaves added tokens out, len(tokenizer) does not."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=50)
    assert tokenizer.add_tokens(["<item-7>"]) == 1
    assert len(tokenizer) == tokenizer.vocab_size + 1
    write_shards(tmp_path / "s", documents(["ein <item-7> zug"]), tokenizer, made_from={"data": "x"})
    shards = Shards(tmp_path / "s")
    assert shards.meta.vocab_size == len(tokenizer)
    assert shards.counts[-1] == 1
    config = resolve(override(PretrainConfig(), ["model.size=tiny"]))
    module = build_electra(Plan.of(config, len(tokenizer)), torch.tensor(shards.counts))
    assert module.discriminator.get_input_embeddings()(torch.tensor([len(tokenizer) - 1])).shape == (1, 128)
