"""Shards of documents that are numbers written out."""

from quorem.data import shards as shards_module
from quorem.data.documents import Document
from quorem.data.shards import Shards, write_shards

VOCAB = 40


class NumberTokenizer:
    """A text is its ids, written out."""

    sep_token_id = 3
    unk_token_id = -1  # none

    def __init__(self, vocab_size=VOCAB):
        self.vocab_size = vocab_size

    def __len__(self):
        return self.vocab_size


def write_numbers(folder, texts, monkeypatch, *, vocab_size=VOCAB):
    """Shards of texts such as "7 12 9"."""
    monkeypatch.setattr(shards_module, "encode", lambda _, group: [[int(i) for i in text.split()] for text in group])
    documents = (Document(text, row=number) for number, text in enumerate(texts))
    write_shards(folder, documents, NumberTokenizer(vocab_size), made_from={})
    return Shards(folder)
