"""Labelled rows of texts: encoded, split, and what is said of them."""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from quorem.config.finetuning import HeldOutSettings
from quorem.config.settings import ReadingSettings
from quorem.data.documents import HELD_OUT, SPLITS, Document, RowCounts
from quorem.data.source import OF_PATHS
from quorem.errors import UserError, check_choice
from quorem.models.configuration import TRUNCATIONS, WINDOWS
from quorem.tokenization import Unknown, encode
from quorem.training.run_folder import read_settings, run_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Encoded texts, special tokens included, with what a task has beside them; every field has a value for each row.

    Attributes:
        rows: ids.
        labels: what is learned; None where rows have none.
        splits: of each row where it was read, None for none.
        boundaries: where the second text of a pair begins, whose tokens are of type 1; empty where rows are single.
        branch_scores: float32 (n, classes), those of linear branches in training.
        origins: what a row was made of, such as a window's place in its text; empty where rows are texts.
        texts: whole, those of a pair joined by a space; empty where no baseline reads them.
    """

    rows: list[Any]
    labels: list[Any]
    splits: list[str | None] = field(default_factory=list)
    boundaries: list[Any] = field(default_factory=list)
    branch_scores: Tensor | None = None
    origins: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: np.ndarray) -> "Examples":
        """Some of the examples, without their splits."""
        found: dict[str, Any] = {"splits": []}
        for name in (each.name for each in fields(self) if each.name != "splits"):
            value = getattr(self, name)
            if isinstance(value, list):
                value = [value[i] for i in indices] if value else []
            found[name] = value if value is None or isinstance(value, list) else value[indices]
        return Examples(**found)


def with_midi_of_run(data: HeldOutSettings, run: str | Path) -> HeldOutSettings:
    """The settings of reading with data.midi=auto filled in: MIDI files become the words that a run has read.

    Args:
        data: the settings.
        run: it, or one of its folders; what is no run has the usual words.
    """
    if data.midi != "auto":
        return data
    usual, place = ReadingSettings(), run_of(run)
    filled = {name: getattr(usual, name) for name in OF_PATHS}
    if place is not None:
        there = read_settings(place / "config.yaml").get("data")
        found = there if isinstance(there, dict) else {}
        filled = {name: found.get(name, value) for name, value in filled.items()}
    if data.max_silence != usual.max_silence:
        filled["max_silence"] = data.max_silence
    return replace(data, **filled)


def encode_rows(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    max_length: int | None,
    truncation: str,
    unknown: Unknown | None = None,
) -> list[list[int]]:
    """[CLS] text [SEP] as ids, at most max_length of them.

    Args:
        tokenizer: its ids.
        texts: any text; an empty one gives [CLS] [SEP].
        max_length: at least 4; None for whole texts, which the classifier cuts itself.
        truncation: what is kept of a longer text: its head, its tail, both in equal parts, or (windows) all of it.
        unknown: a tally to keep of whole texts.

    Raises:
        UserError: for another truncation or length.
    """
    check_choice("data.truncation", truncation, TRUNCATIONS)
    if max_length is not None and max_length < 4:
        raise UserError(f"data.max_length={max_length}: 4 or more needed")
    room = sys.maxsize if max_length is None or truncation == WINDOWS else max_length - 2
    rows = []
    for start in range(0, len(texts), 1000):
        group = list(texts[start : start + 1000])
        encoded = encode(tokenizer, group)
        if unknown is not None:
            unknown.add(tokenizer, group, encoded, range(start + 1, start + len(group) + 1))
        for ids in encoded:
            rows.append([tokenizer.cls_token_id, *cut(ids, room, truncation), tokenizer.sep_token_id])
    return rows


def encode_documents(
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Document],
    data: Any,
    *,
    unknown: Unknown,
    whole: bool = False,
) -> Examples:
    """Texts, or pairs of texts where documents have a second one, as rows without labels.

    A pair is [CLS] a [SEP] b [SEP]; of one that is too long the longer text is cut first, until both are as long.

    Args:
        tokenizer: its ids.
        documents: the texts.
        data: max_length, truncation and text_pair_column.
        unknown: a tally to keep.
        whole: whether a text is not cut.
    """
    length, first = None if whole else data.max_length, [document.text for document in documents]
    if data.text_pair_column is None:
        rows = encode_rows(tokenizer, first, max_length=length, truncation=data.truncation, unknown=unknown)
        return Examples(rows, [])
    second = [document.more[0] or "" for document in documents]
    return encode_pairs(tokenizer, first, second, data, unknown=unknown)


def encode_pairs(
    tokenizer: PreTrainedTokenizerFast, first: Sequence[str], second: Sequence[str], data: Any, *, unknown: Unknown
) -> Examples:
    """Pairs of texts as rows; see `encode_documents`.

    Args:
        tokenizer: its ids.
        first: the first text of each pair.
        second: as many.
        data: max_length and truncation.
        unknown: a tally to keep.
    """
    check_choice("data.truncation", data.truncation, TRUNCATIONS)
    long: dict[str, Any] = {"max_length": None, "truncation": WINDOWS, "unknown": unknown}
    rows, boundaries = [], []
    pairs = zip(*(encode_rows(tokenizer, texts, **long) for texts in (first, second)), strict=True)
    for one, other in pairs:
        sizes = pair_sizes(len(one) - 2, len(other) - 2, data.max_length - 3)
        one, other = (cut(each[1:-1], size, data.truncation) for each, size in zip((one, other), sizes, strict=True))
        rows.append([tokenizer.cls_token_id, *one, tokenizer.sep_token_id, *other, tokenizer.sep_token_id])
        boundaries.append(len(one) + 2)
    return Examples(rows, [], boundaries=boundaries)


def pair_sizes(one: int, other: int, room: int) -> tuple[int, int]:
    """How many tokens are kept of two texts of so many; transformers' longest_first does the same."""
    if one + other <= room:
        return one, other
    half = room // 2
    if min(one, other) <= half:
        return (room - other, other) if other < one else (one, room - one)
    return (room - half, half) if one > other else (half, room - half)  # the odd one is the longer's, or the second's


def cut(ids: list[int], room: int, truncation: str) -> list[int]:
    """At most `room` ids: the head, the tail, or both."""
    head = {"head": room, "tail": 0}.get(truncation, room - room // 2)
    return ids if len(ids) <= room else ids[:head] + ids[len(ids) - (room - head) :]


def whole_texts(documents: Sequence[Document]) -> list[str]:
    """The text of each row, or those of its pair with a space between."""
    return [" ".join([document.text, *(text or "" for text in document.more)]) for document in documents]


def is_blank(document: Document) -> bool:
    """Whether one of its texts is empty or whitespace."""
    return not all(text and text.strip() for text in (document.text, *document.more))


def usable(documents: Iterable[Document], counts: RowCounts) -> list[Document]:
    """The documents without a blank text; the others are counted as skipped."""
    every = list(documents)
    found = [document for document in every if not is_blank(document)]
    counts.recount_as_skipped(len(every) - len(found))
    return found


def pair_document(value: Any) -> Document:
    """A text, or a pair of texts, as a row.

    Raises:
        UserError: for anything else.
    """
    texts = (value,) if isinstance(value, str) else tuple(listed(value) or ())
    if not 1 <= len(texts) <= 2 or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{value!r}: a text, or a pair of two texts, is needed for each row")
    return Document(texts[0], more=texts[1:])


def listed(value: Any) -> list[Any] | None:
    """What a list, a tuple, an array or the like holds; None for a text, a mapping or what holds nothing."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return None
    return list(value)


def check_pairs(data: Any) -> None:
    """Refuse settings that pairs of texts have no use for.

    Raises:
        UserError: naming one.
    """
    if data.text_pair_column is None:
        return
    if data.truncation == WINDOWS:
        raise UserError("data.truncation=windows: reads single texts: choose head, tail or both for pairs")
    if data.max_length < 5:
        raise UserError(f"data.max_length={data.max_length}: 5 or more needed for pairs of texts")


def tell_unknown(path: str | Path, unknown: Unknown) -> None:
    """Log how much of texts the model's vocabulary does not know, as a warning where it is most of them.

    Args:
        path: of the texts.
        unknown: the tally of `encode_rows`.
    """
    question = "; is this the column, and the kind of text, that the model was pre-trained on?"
    most = unknown.share > 0.5
    logger.log(
        logging.WARNING if most else logging.INFO, "%s: %s to the model%s", path, unknown, question if most else ""
    )


def split(num_rows: int, *, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (training, validation): those of scikit-learn's train_test_split(test_size=share, random_state=seed).

    Raises:
        UserError: if one side would be empty, or for a seed out of range.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < int(np.ceil(num_rows * share)) < num_rows:
        raise UserError(
            f"data.validation_share={share} of {num_rows} rows leaves nothing on one side: a share between 0 and 1, "
            "and at least 2 rows, are needed"
        )
    if not 0 <= seed < 2**32:
        raise UserError(f"data.split_seed={seed}: 0 or more, and below 2**32, needed")
    training, held_out = train_test_split(np.arange(num_rows), test_size=share, random_state=seed)
    return training, held_out


def choose_rows(data: HeldOutSettings, splits: list[str | None], name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Which rows are trained on, which are held out, and the splits of the latter.

    Where rows have splits, train is trained on and those of HELD_OUT are held out; else a random share is, in no split.

    Args:
        data: its share and seed.
        splits: of each row, None for none.
        name: of the data, for messages.

    Raises:
        UserError: for a split of another name, only some rows with one, or nothing on one side.
    """
    found = {(part or "").strip() for part in splits}
    if all(part is None for part in splits):
        return *split(len(splits), share=data.validation_share, seed=data.split_seed), []
    unknown = sorted(found.difference(SPLITS))
    if unknown:
        named = ", ".join(repr(part) for part in unknown[:5])
        raise UserError(f"{name}: rows of split {named}: each must be of {', '.join(SPLITS)}: rename or leave them out")
    judged_on = sorted(found.difference({"train"}))
    if "train" not in found or not judged_on:
        raise UserError(
            f"{name}: all rows are of split {', '.join(sorted(found))}: train and one of {', '.join(HELD_OUT)} are "
            "needed: add one"
        )
    trained = np.array([(part or "").strip() == "train" for part in splits])
    return np.flatnonzero(trained), np.flatnonzero(~trained), judged_on
