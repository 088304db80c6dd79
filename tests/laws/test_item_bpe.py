"""What the tokenizer kind `item_bpe` adds to test_tokenizers.py: items stay whole, frequent runs are one token."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from quorem.errors import UserError
from quorem.tokenization import SPECIAL_TOKENS, encode, fingerprint, item_bpe, save_tokenizer, train_tokenizer

ODD = [
    "B-12",
    "É",
    "e\u0301",
    "##x",
    "a.b:c",
    "x[MASK]y",
    r"\[MASK]",
    r"[\MASK]",
    r"[\\PAD]",
    "[[SEP]",
    *SPECIAL_TOKENS,
]
SEPARATORS = [None, ",", "\t", " ", "|", "^", "\u2028", "東"]


def train(texts, separator=None, **options):
    return train_tokenizer(texts, kind="item_bpe", separator=separator, **{"vocab_size": 1000} | options)


def tokens(tokenizer, text):
    (ids,) = encode(tokenizer, [text])
    return [tokenizer.decode([index]) for index in ids]


@pytest.mark.slow
@pytest.mark.parametrize("separator", SEPARATORS)
@settings(deadline=None, max_examples=40)
@given(items=st.lists(st.text(r"aB é,.-[]\MASK#", min_size=1, max_size=8) | st.sampled_from(ODD), min_size=1))
def test_any_items_round_trip_and_are_never_cut(separator, items):
    gap = " " if separator is None else separator
    items = [item for item in items if gap not in item] or ["x"]
    text = gap.join(items)
    tokenizer = train([text, text], separator)
    (ids,) = encode(tokenizer, [text])
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == text
    assert [item for index in ids for item in tokenizer.decode([index]).split(gap)] == items


def test_a_folder_gives_the_words_again(tmp_path):
    text = " ".join(ODD * 2)
    tokenizer = train([text])
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert encode(loaded, [text]) == encode(tokenizer, [text])
    assert loaded.decode(encode(loaded, [text])[0]) == text
    assert (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()[:5] == list(SPECIAL_TOKENS)


def test_frequent_runs_are_one_token_that_can_be_read():
    tokenizer = train(["1 2 3 4", "1 2 3", "1 2 4"], vocab_size=11)
    assert tokenizer.convert_ids_to_tokens(range(5, 11)) == [" 1 ", " 2 ", " 3 ", " 4 ", " 1  2 ", " 1  2  3 "]
    assert tokens(tokenizer, "3 1 2 3 2 1 2 4") == ["3", "1 2 3", "2", "1 2", "4"]
    assert tokens(tokenizer, "12 31 23") == ["[UNK]"]


def test_items_are_met_whole_and_unknown_ones_that_follow_each_other_are_one_token():
    tokenizer = train(["1 2 1 2"])
    assert tokens(tokenizer, "1 2 12 1 1 2 x y 2") == ["1 2", "[UNK]", "1", "1 2", "[UNK]", "2"]
    assert tokenizer.decode(encode(tokenizer, ["1 x 2"])[0]) == "1 [UNK] 2"


def test_a_run_is_found_twice_at_least_and_never_goes_over_texts_or_unknown_items():
    assert len(train(["1 2 3"])) == 8
    assert len(train(["1 2", "2 1", "1", "2"])) == 7
    assert len(train(["1 x 2", "1 y 2"], min_frequency=2)) == 7
    tokenizer = train(["1 2 1 2 1 2 3 4 3 4"], min_frequency=3)
    assert tokenizer.convert_ids_to_tokens(range(5, len(tokenizer))) == [" 1 ", " 2 ", " 1  2 "]


def test_runs_have_a_longest():
    tokenizer = train(["1 " * 500, "1 " * 500])
    assert max(len(tokens(tokenizer, "1 " * n)) for n in range(1, 17)) <= 4
    assert max(tokenizer.decode([index]).count("1") for index in range(5, len(tokenizer))) == item_bpe.LONGEST


def test_texts_are_cut_into_as_few_tokens_as_possible():
    tokenizer = train(["2 3"] * 3 + ["1 2", "3 4"] * 2, vocab_size=12)
    runs = set(tokenizer.convert_ids_to_tokens(range(9, 12)))
    assert runs == {" 2  3 ", " 1  2 ", " 3  4 "}
    assert tokens(tokenizer, "1 2 3 4") == ["1 2", "3 4"]  # in the order of the merges it would be 1, 2 3, 4


def test_items_come_first_by_frequency_and_the_rarest_are_left_out():
    tokenizer = train(["z y z y x z y"], vocab_size=7)
    assert tokenizer.convert_ids_to_tokens(range(5, 7)) == [" y ", " z "]
    assert tokens(tokenizer, "x y") == ["[UNK]", "y"]


CORPUS = [" ".join(str(random.Random(n).randrange(12)) for _ in range(40)) for n in range(60)]
SCRIPT = """
import random
from quorem.tokenization import fingerprint, train_tokenizer
texts = {corpus!r}
random.Random({seed}).shuffle(texts)
print(fingerprint(train_tokenizer(texts, kind="item_bpe", vocab_size=300)))
"""


@pytest.mark.slow
def test_the_same_texts_in_any_order_give_the_same_tokenizer_in_every_process():
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(corpus=CORPUS, seed=1)],
        env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == fingerprint(train(CORPUS, vocab_size=300))


@pytest.mark.parametrize(("separator", "words"), [("::", "item_bpe needs one character"), ("[", "none of")])
def test_other_separators_are_refused(separator, words):
    with pytest.raises(UserError, match=words):
        train(["a"], separator)


def test_too_many_items_are_refused(monkeypatch):
    monkeypatch.setattr(item_bpe, "MOST_ITEMS", 2)
    with pytest.raises(UserError, match=r"3 distinct items are more than 2: raise tokenizer.min_frequency"):
        train(["a b c"])
    assert len(train(["a a b b c"], min_frequency=2)) == 7
