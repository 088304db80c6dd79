"""Texts that are already tokenised: they hold the ids of an adopted tokenizer."""

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from quorem.data.documents import Document
from quorem.errors import UserError
from quorem.tokenization.files import read_tokenizer
from quorem.tokenization.special import SPECIAL_TOKENS


class IdReader:
    """From documents of a tokenizer's ids to those of the same tokenizer renumbered by `adopt_tokenizer`.

    Args:
        folder: of the tokenizer the ids are of.
        adopted: the same tokenizer, renumbered.
    """

    def __init__(self, folder: str | Path, adopted: PreTrainedTokenizerFast) -> None:
        self.folder = folder
        found = read_tokenizer(folder)
        vocabulary = found.get_vocab()
        self.new = np.full(max(vocabulary.values()) + 1, -1, np.int64)  # -1: no token has this id
        self.new[list(vocabulary.values())] = adopted.convert_tokens_to_ids(list(vocabulary))
        self.kept = np.ones(len(adopted), bool)
        self.kept[: len(SPECIAL_TOKENS)] = False
        self.kept[SPECIAL_TOKENS.index("[UNK]")] = True

    def __call__(self, documents: list[Document]) -> list[list[int]]:
        """The ids of each document, without special tokens other than the unknown one.

        Args:
            documents: whose texts are ids in decimal, with whitespace between.

        Raises:
            UserError: for what is no id of the tokenizer, naming its row.
        """
        return [self._read(document) for document in documents]

    def _read(self, document: Document) -> list[int]:
        rows = []
        for word in document.text.split():
            old = int(word) if word.isascii() and word.isdecimal() and len(word) < 12 else -1
            new = int(self.new[old]) if 0 <= old < len(self.new) else -1
            if new < 0:
                raise UserError(
                    f"row {document.row}: {word!r} is no id of tokenizer.path={self.folder} (they go to "
                    f"{len(self.new) - 1}): give the tokenizer that made the ids, or leave tokenizer.ids out for texts"
                )
            rows.append(new)
        return [new for new in rows if self.kept[new]]
