"""Tokenizers give real texts back, in scripts with spaces and without."""

import csv
import gzip
import json
from itertools import islice

import pytest

from quorem.tokenization import TOKENIZERS, encode, train_tokenizer

pytestmark = pytest.mark.slow

BOUND = {"bpe": 0.8, "unigram": 0.8, "characters": 1.0}
"""Tokens for each character, at most: pieces must be worth learning."""


def korean(folder):
    with gzip.open(folder / "nsmc" / "nsmc.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [row["review"] for row in islice(csv.DictReader(file), 3000) if row["review"].strip()]


def japanese(folder):
    with gzip.open(folder / "jaquad" / "dev.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    return [paragraph["context"] for article in articles for paragraph in article["paragraphs"]][:300]


def once(text):
    """With each run of whitespace as one space, as the kinds see it (Python adds U+001C to U+001F)."""
    spaced = "".join(" " if c == "▁" or (c.isspace() and not "\x1c" <= c <= "\x1f") else c for c in text)
    return " ".join(word for word in spaced.split(" ") if word)


@pytest.mark.parametrize("kind", BOUND)
@pytest.mark.parametrize("language", [korean, japanese])
def test_real_texts_come_back(kind, language, shared_data):
    texts = language(shared_data)
    options = {"lowercase": False, "normalization": "none"}
    tokenizer = train_tokenizer(texts, kind=kind, vocab_size=8000, **options)
    assert len(tokenizer) <= 8000
    rows = encode(tokenizer, texts)
    assert tokenizer.batch_decode(rows) == [once(text) for text in texts]
    assert sum(map(len, rows)) <= BOUND[kind] * sum(map(len, texts))


@pytest.mark.parametrize("kind", ["words", "wordpiece"])
@pytest.mark.parametrize("language", [korean, japanese])
def test_no_character_of_a_real_text_is_lost(kind, language, shared_data):
    assert kind in TOKENIZERS
    texts = language(shared_data)
    tokenizer = train_tokenizer(
        texts, kind=kind, vocab_size=400_000 if kind == "words" else 12_000, lowercase=False, normalization="none"
    )
    for row, text in zip(encode(tokenizer, texts), texts, strict=True):
        tokens = "".join(token.removeprefix("##") for token in tokenizer.convert_ids_to_tokens(row))
        assert tokens == "".join(once(text).split())
