"""Keeping a tokenizer in a folder and recognising it."""

import hashlib
import json
import os
from pathlib import Path

from transformers import BertTokenizer, PreTrainedTokenizerFast

from quorem.errors import UserError, shown
from quorem.tokenization.wrap import GIVEN, ROLES

WORDPIECE = ("BertTokenizer", "ElectraTokenizer")  # that a vocab.txt alone may be of


def tokenizer_files(folder: str | Path) -> tuple[Path, ...]:
    """What decides the ids of a folder's tokenizer: tokenizer.json, else vocab.txt and its settings; or nothing."""
    folder = Path(folder)
    if os.path.isfile(folder / "tokenizer.json"):  # to it a name that is too long for a path is no error
        return (folder / "tokenizer.json",)
    if os.path.isfile(folder / "vocab.txt"):
        return (folder / "vocab.txt", *folder.glob("tokenizer_config.json"))
    return ()


def read_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder: its tokenizer.json, or BERT's and ELECTRA's WordPiece with its vocab.txt.

    Called, it gives token types, whatever it gave before: models read them.

    Raises:
        Exception: whatever the tokenizers library raises for a damaged file; ValueError for another kind's vocab.txt.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, model_input_names=GIVEN)
    settings = folder / "tokenizer_config.json"
    kind = json.loads(settings.read_text(encoding="utf-8")).get("tokenizer_class") if settings.is_file() else None
    if kind is not None and kind.removesuffix("Fast") not in WORDPIECE:
        raise ValueError(
            f"tokenizer_config.json says {kind}, but only {', '.join(WORDPIECE)} can be read from vocab.txt"
        )
    found = BertTokenizer.from_pretrained(folder, local_files_only=True)
    roles = {role: getattr(found, role) for role in ROLES}
    return PreTrainedTokenizerFast(
        tokenizer_object=found.backend_tokenizer, model_max_length=found.model_max_length, padding_side="right",
        model_input_names=GIVEN, **roles,
    )  # fmt: skip


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, which AutoTokenizer reads, and vocab.txt for people.

    Args:
        tokenizer: what to keep. Truncation and padding left over from an earlier call of it are not.
        folder: made if missing; files in it are replaced. vocab.txt has one token a line, in the order of ids.
    """
    folder = Path(folder)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Read a tokenizer from a folder, never from the network.

    Args:
        folder: written by save_tokenizer, or any other with a tokenizer.json, or a WordPiece's vocab.txt, and the five
            special tokens.

    Raises:
        UserError: if the folder holds no tokenizer, a damaged one, one without a special token that is needed, or
            another than that of the model beside it (tokenizer_fingerprint in config.json), whose rows would then stand
            for other tokens.
    """
    folder = Path(folder)
    if not tokenizer_files(folder):
        raise UserError(f"no tokenizer in {folder}: tokenizer.json is missing. Train one or give another folder.")
    try:
        tokenizer = read_tokenizer(folder)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(
            f"cannot read the tokenizer in {folder}: {error}. Train it again or copy tokenizer.json and "
            "tokenizer_config.json again."
        ) from error
    missing = [role for role in ROLES if getattr(tokenizer, role) is None]
    if missing:
        raise UserError(
            f"the tokenizer in {folder} has no {', '.join(missing)}. Set it in tokenizer_config.json or train another."
        )
    for role in ROLES:
        if tokenizer.backend_tokenizer.token_to_id(str(getattr(tokenizer, role))) is None:
            raise UserError(
                f"the tokenizer in {folder} has no token {shown(str(getattr(tokenizer, role)))}, although "
                f"tokenizer_config.json names it as {role}: name a token that tokenizer.json has"
            )
    if not isinstance(tokenizer.model_max_length, int | float):
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: model_max_length={shown(tokenizer.model_max_length)}: a number needed"
        )
    expected = _expected_fingerprint(folder / "config.json")
    if expected is not None and (found := fingerprint(tokenizer)) != expected:
        raise UserError(
            f"{folder / 'tokenizer.json'}: is not the tokenizer of the model beside it (fingerprint {found[:12]}, not "
            f"{expected[:12]}), so ids would mean other tokens: restore the tokenizer that was saved with the model"
        )
    return tokenizer


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 (64 hexadecimal digits) of everything that decides which ids a text gets.

    Truncation and padding, which each call of a tokenizer may change, do not count.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["truncation"] = content["padding"] = None
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _expected_fingerprint(config: Path) -> str | None:
    """The fingerprint in a model's config.json; None without one, or if the file is missing or damaged."""
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_fingerprint")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
