"""Which tokens are pieces that continue a word."""

import json
import unicodedata

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError
from quorem.tokenization.steps import MARK

BYTE_LEVEL_MARK = "\u0120"  # what the byte-level alphabet (GPT-2's) writes for a space


def continuing(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Whether an id continues the word of the token before it, bool (V,).

    WordPieces say so themselves ("##ing"). Where a mark stands before each word ("_play", "ing"; byte-level BPE has
    one too), pieces without it do, unless they have no letter, digit or combining mark: punctuation is apart.

    Raises:
        UserError: if the tokenizer marks neither, for then every token is a word.
    """
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    prefix = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("continuing_subword_prefix")
    special = set(tokenizer.all_special_tokens)
    marks = tuple(mark for mark in (MARK, BYTE_LEVEL_MARK) if any(token.startswith(mark) for token in tokens))
    if prefix:
        found = [token.startswith(prefix) for token in tokens]
    else:
        found = [bool(marks) and not token.startswith(marks) and _is_wordlike(token) for token in tokens]
    found = [each and token not in special for each, token in zip(found, tokens, strict=True)]
    if not any(found):
        raise UserError(
            "objective.whole_words=true: this tokenizer does not cut words into pieces, every token is one already: "
            "leave it out, or use tokenizer.kind=wordpiece, bpe or unigram"
        )
    return torch.tensor(found)


def _is_wordlike(token: str) -> bool:
    return any(unicodedata.category(character)[0] in "LNM" for character in token)
