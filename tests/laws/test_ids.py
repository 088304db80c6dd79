"""Texts that are ids of a tokenizer give the shards that the texts themselves give."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from quorem.config.settings import PrepareConfig, TextDataSettings, TokenizerSettings
from quorem.data.prepare import prepare
from quorem.data.shards import Shards
from quorem.errors import UserError
from quorem.tokenization.train import check_tokenizer

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]  # with ids 7 to 11
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", *SPECIAL]
TEXTS = ["the cat sat", "a dog sat on the mat", "and and"]


@pytest.fixture
def foreign(tmp_path):
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    tokenizer.save_pretrained(tmp_path / "foreign")
    return tokenizer


def prepared(tmp_path, name, **tokenizer):
    config = PrepareConfig(
        data=TextDataSettings(path=str(tmp_path / name)),
        tokenizer=TokenizerSettings(path=str(tmp_path / "foreign"), **tokenizer),
    )
    prepare(config, tmp_path / f"{name}-prepared")
    return Shards(tmp_path / f"{name}-prepared" / "shards")


@pytest.mark.parametrize("write", ["jsonl", "txt"])
def test_ids_give_the_shards_of_their_texts(tmp_path, foreign, write):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    rows = [foreign(f"[CLS] {text} [SEP] [PAD]")["input_ids"] for text in TEXTS]
    assert rows[1][1:3] == [4, 7]
    lines = [json.dumps({"text": row}) if write == "jsonl" else " ".join(map(str, row)) for row in rows]
    (tmp_path / f"ids.{write}").write_text("\n".join(lines))
    expected, found = prepared(tmp_path, "texts.txt"), prepared(tmp_path, f"ids.{write}", ids=True)
    assert np.array_equal(found.tokens, expected.tokens)
    assert np.array_equal(found.ends, expected.ends)
    assert found.meta.made_from != expected.meta.made_from


@pytest.mark.parametrize("word", ["12", "-1", "x", "1.0", "٣", "9" * 30])
def test_what_is_no_id_is_named(tmp_path, foreign, word):
    (tmp_path / "ids.txt").write_text(f"1 2\n3 {word}\n")
    with pytest.raises(UserError, match=rf"row 2: '{word}' is no id of .*foreign \(they go to 11\)"):
        prepared(tmp_path, "ids.txt", ids=True)


def test_ids_need_their_tokenizer():
    with pytest.raises(UserError, match=r"tokenizer.ids=true needs tokenizer.path"):
        check_tokenizer(TokenizerSettings(ids=True), 100)
