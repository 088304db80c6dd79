"""Tokenised text on disk: a flat, memory-mapped array of ids and where each document ends.

    tokens.bin   uint16 (V <= 65,536) or uint32, every document's ids followed by [SEP]
    ends.bin     int64, the end of each document in tokens.bin
    counts.bin   int64 (V,), how often each id is a document's; [SEP] is not counted
    meta.json    numbers, and the fingerprint of what made it

A folder appears whole or not at all, and is used again only if its fingerprint is the one asked for.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from quorem.data.documents import Document
from quorem.errors import UserError
from quorem.runs import whole_folder
from quorem.tokenization import encode, fingerprint

DOCUMENTS_AT_ONCE = 1_000


@dataclass(frozen=True)
class ShardMeta:
    """What meta.json holds."""

    fingerprint: str
    dtype: str
    vocab_size: int
    num_documents: int
    num_tokens: int


class Shards:
    """Read access to a folder of shards.

    Args:
        folder: made by `write_shards`.

    Raises:
        UserError: if the folder is missing, incomplete or does not fit its meta.json.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.meta = ShardMeta(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))
            self.tokens = np.memmap(folder / "tokens.bin", dtype=self.meta.dtype, mode="r")
            self.ends = np.fromfile(folder / "ends.bin", dtype=np.int64)
            self.counts = np.fromfile(folder / "counts.bin", dtype=np.int64)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder}: not a readable folder of token shards ({error}): delete it") from error
        sizes = (len(self.tokens), len(self.ends), len(self.counts))
        if sizes != (self.meta.num_tokens, self.meta.num_documents, self.meta.vocab_size):
            raise UserError(f"{folder}: tokens, documents, vocabulary are {sizes}, unlike its meta.json: delete it")


def shard_fingerprint(inputs: str, tokenizer: PreTrainedTokenizerFast, **settings: Any) -> str:
    """sha256 over the input files' fingerprint, the tokenizer and settings that matter."""
    facts = json.dumps([inputs, fingerprint(tokenizer), settings], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


def write_shards(
    folder: Path, documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast, *, made_from: str
) -> ShardMeta:
    """Encode documents into `folder`, under a temporary name until it is whole.

    Args:
        folder: where; what stands there is replaced.
        documents: their texts, read once.
        tokenizer: its ids are written as they are; documents without a token are left out.
        made_from: the fingerprint to store.

    Raises:
        UserError: if no document has a token.
    """
    vocab_size, separator = len(tokenizer), tokenizer.sep_token_id
    dtype = np.dtype("uint16" if vocab_size <= 2**16 else "uint32")
    counts, ends, end = np.zeros(vocab_size, np.int64), [], 0
    with whole_folder(folder) as partial:
        with (partial / "tokens.bin").open("wb") as file:
            for texts in _grouped(documents):
                rows = [row for row in encode(tokenizer, texts) if row]
                flat = np.fromiter((i for row in rows for i in (*row, separator)), dtype=dtype)
                counts += np.bincount(flat, minlength=vocab_size)
                file.write(flat.tobytes())
                for row in rows:
                    end += len(row) + 1
                    ends.append(end)
        if not ends:
            raise UserError("no token in any document: there is nothing to train on")
        counts[separator] = 0
        meta = ShardMeta(made_from, dtype.name, vocab_size, len(ends), end)
        np.asarray(ends, np.int64).tofile(partial / "ends.bin")
        counts.tofile(partial / "counts.bin")
        (partial / "meta.json").write_text(json.dumps(asdict(meta), indent=2), encoding="utf-8")
    return meta


def _grouped(documents: Iterable[Document]) -> Iterator[list[str]]:
    texts: list[str] = []
    for document in documents:
        texts.append(document.text)
        if len(texts) == DOCUMENTS_AT_ONCE:
            yield texts
            texts = []
    if texts:
        yield texts
