"""What the tokenizer kind `items` adds to the laws of test_tokenizers.py: items are kept exactly, whatever they are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from quorem.tokenization import SPECIAL_TOKENS, encode, load_tokenizer, save_tokenizer, train_tokenizer

ODD = ["B-12", "b-12", "É", "e\u0301", "ﬁ", "##x", "a.b:c", "x\ny", "x[MASK]y", r"\[MASK]", r"\\[PAD]", *SPECIAL_TOKENS]
SEPARATORS = [None, ",", "\t", " ", "::", ".*", "$1", "|", "-^", "\u2028", "東"]


def train(texts, separator=None, **options):
    return train_tokenizer(texts, kind="items", separator=separator, **{"vocab_size": 1000} | options)


def join(items, separator):
    return (" " if separator is None else separator).join(items)


@pytest.mark.parametrize("separator", SEPARATORS)
def test_each_item_is_one_token_in_order_and_decodes_to_itself(tmp_path, separator):
    items = [item for item in ODD if (separator not in item if separator else item == "".join(item.split()))]
    text = join(items, separator)
    tokenizer = train([text], separator)
    (ids,) = encode(tokenizer, [text])
    assert len(ids) == len(set(ids)) == len(items)
    assert min(ids) >= len(SPECIAL_TOKENS)
    save_tokenizer(tokenizer, tmp_path)
    for one in (tokenizer, load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert encode(one, [text]) == [ids]
        assert one.decode(ids) == text
        assert [one.decode([index]) for index in ids] == items
        assert one.decode([]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("separator", SEPARATORS)
@settings(deadline=None, max_examples=40)
@given(items=st.lists(st.text(r"aB é,.-[]\MASK#", min_size=1, max_size=8), min_size=1, max_size=12))
def test_any_items_round_trip(separator, items):
    gap = " " if separator is None else separator
    items = [item for item in items if not set(gap) & set(item)] or ["x"]
    text = join(items, separator)
    tokenizer = train([text], separator)
    (ids,) = encode(tokenizer, [text])
    assert [tokenizer.decode([index]) for index in ids] == items
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == 5 + len(set(items))


def test_nothing_between_two_separators_is_no_item():
    tokenizer = train([",a,,b,"], ",")
    assert [tokenizer.decode(ids) for ids in encode(tokenizer, [",a,,b,", ",,", "b"])] == ["a,b", "", "b"]
    assert len(tokenizer) == 7


def test_spaces_beside_another_separator_belong_to_the_items():
    tokenizer = train(["a, a,b c"], ",")
    assert sorted(tokenizer.convert_ids_to_tokens(range(5, 8))) == [" a", "a", "b c"]


def test_a_tab_may_be_written_out():
    written, real = (train(["a b\tc"], separator) for separator in (r"\t", "\t"))
    assert written.backend_tokenizer.to_str() == real.backend_tokenizer.to_str()
    assert len(encode(written, ["a b\tc"])[0]) == 2


def test_items_are_numbered_by_falling_frequency_and_rare_ones_are_unknown():
    tokenizer = train(["z y z", "y z x"], min_frequency=2)
    assert tokenizer.convert_ids_to_tokens(range(5, len(tokenizer))) == ["z", "y"]
    assert encode(tokenizer, ["x y new z"]) == [[1, 6, 1, 5]]
    assert len(train(["z y z", "y z x"], vocab_size=6)) == 6
