"""Using a tokenizer that was trained elsewhere: any fast tokenizer of the Hugging Face ecosystem."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError
from quorem.tokenization.files import read_tokenizer, tokenizer_files
from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.wrap import ROLES, frame, wrap

LAST_RESORT = -1e6
"""Score of a special token among the pieces of a Unigram model: a text that spells it is cut into other pieces."""


def adopt_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder, renumbered so that its special tokens have the ids 0 to 4 that quorem gives them.

    Texts are cut as they were; every id stands for the token it stood for, under another number. The five roles keep
    the names they have; roles it lacks get the names of SPECIAL_TOKENS. Called, it puts [CLS] before and [SEP] after a
    text, whatever it did before. One that has all this already, as those that quorem trained, is returned as it is.

    Args:
        folder: with a tokenizer.json, as AutoTokenizer reads it, or a WordPiece's vocab.txt.

    Raises:
        UserError: if there is none, it is damaged, or two roles are one token.
    """
    folder = Path(folder)
    if not tokenizer_files(folder):
        raise UserError(f"tokenizer.path={folder}: no tokenizer.json there: give the folder of a fast tokenizer")
    try:
        found = read_tokenizer(folder)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(f"tokenizer.path={folder}: cannot be read ({error}): give another folder") from error
    names = [getattr(found, role) or token for role, token in zip(ROLES, SPECIAL_TOKENS, strict=True)]
    if len(set(names)) < len(names):
        roles = ", ".join(f"{role} {name}" for role, name in zip(ROLES, names, strict=True))
        raise UserError(
            f"tokenizer.path={folder}: two special tokens are the same ({roles}): give each role its own token"
        )
    if found.convert_tokens_to_ids(names) == list(range(len(names))) and all(getattr(found, role) for role in ROLES):
        if not _frames_texts(found):
            found.backend_tokenizer.post_processor = frame(names)
        return found
    content = json.loads(found.backend_tokenizer.to_str())
    vocabulary = found.get_vocab()
    others = sorted((token for token in vocabulary if token not in names), key=vocabulary.__getitem__)
    numbers = {token: number for number, token in enumerate([*names, *others])}
    content["truncation"] = content["padding"] = content["post_processor"] = None
    content["model"] = _renumbered(content["model"], numbers, names)
    for added in content["added_tokens"]:
        added["id"] = numbers[added["content"]]
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in names]
    content["added_tokens"].sort(key=lambda token: token["id"])
    try:
        return wrap(Tokenizer.from_str(json.dumps(content)), names)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(f"tokenizer.path={folder}: cannot be renumbered ({error}): give another folder") from error


def _frames_texts(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether it puts [CLS] before and [SEP] after a text, and tells the texts of a pair apart."""
    _, _, cls, sep, _ = range(len(SPECIAL_TOKENS))
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    one, pair = tokenizer("a"), tokenizer("a", "a")
    framed = one["input_ids"] == [cls, *text, sep] and pair["input_ids"] == [cls, *text, sep, *text, sep]
    return framed and pair.get("token_type_ids") == [0] * (len(text) + 2) + [1] * (len(text) + 1)


def _renumbered(model: Mapping[str, Any], numbers: Mapping[str, int], names: list[str]) -> dict[str, Any]:
    """A model's JSON with new ids; the special tokens are in its vocabulary, where they may not have been."""
    if isinstance(model["vocab"], dict):
        kept = {token: numbers[token] for token in model["vocab"]} | {name: numbers[name] for name in names}
        changed = {"vocab": dict(sorted(kept.items(), key=lambda item: item[1]))}
        return {**model, **changed} | ({"unk_token": names[1]} if "unk_token" in model else {})
    scores = dict(map(tuple, model["vocab"]))
    ordered = [*names, *(piece for piece, _ in model["vocab"] if piece not in names)]
    return {**model, "vocab": [[piece, scores.get(piece, LAST_RESORT)] for piece in ordered], "unk_id": 1}
