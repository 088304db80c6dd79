"""Token tagging: a tag for each word, such as the entity that it is part of."""

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from quorem.config.tasks import TaggingConfig
from quorem.data.bad_rows import check_some_used
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.midi_words import NOTE_TAGS, TOKENS
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.source import Source, find_format
from quorem.errors import UserError, check_number
from quorem.finetuning.program import TextProgram, infer
from quorem.finetuning.rows import Examples, listed, tell_unknown
from quorem.finetuning.task import Begun
from quorem.finetuning.text_task import TextTask
from quorem.finetuning.windows import windows
from quorem.models.modeling import IGNORED
from quorem.models.token_classifier import QuoremForTokenClassification
from quorem.tokenization import Unknown, encode
from quorem.tokenization.special import SPECIAL_TOKENS

logger = logging.getLogger(__name__)

BEFORE, BEHIND = re.compile(r"[BIESLU]-.+"), re.compile(r".+-[BIESLU]")  # IOB1, IOB2, IOBES, BILOU, IO and a type
BILOU = str.maketrans("UL", "SE")  # to IOBES, which seqeval knows
OUTSIDE = "O"
CLS, SEP = SPECIAL_TOKENS.index("[CLS]"), SPECIAL_TOKENS.index("[SEP]")


class TokenCrossEntropy:
    """The mean over words of -log p of their tag, which their first token carries."""

    def labels(self, examples: Examples, time: int) -> Tensor:
        """int64 (batch, time), IGNORED where a token carries none."""
        return torch.tensor([[*row, *[IGNORED] * (time - len(row))] for row in examples.labels])

    def weight(self, examples: Examples) -> float:
        """The number of tags; 1 where there is none."""
        return max(1, sum(tag != IGNORED for row in examples.labels for tag in row))

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The sum over words."""
        logits = outputs.logits.float().flatten(0, 1)
        return F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")

    def hits(self, outputs: Any, labels: Tensor) -> None:
        """Nothing: rows are no unit here."""


class Tagging(TextTask):
    """A tag for each word. Long texts are read in windows, and each word's tag is one window's."""

    name, settings = "tagging", TaggingConfig
    model_class, network, new = QuoremForTokenClassification, "token_classifier", ("classifier.",)
    chosen_by, shown = "f1", ("f1", "precision", "recall", "accuracy")
    text_columns = ("text_column",)
    row_kind = "words"

    def resolve(self, config: TaggingConfig) -> TaggingConfig:
        """As in `TextTask`."""
        check_number("data.stride", config.data.stride, at_least=0)
        found: TaggingConfig = super().resolve(config)
        return found

    def source(self, data: Any) -> Source:
        """As in `TextTask`; the columns of a CoNLL file have no names, and the notes of a MIDI file tags of their own.

        Raises:
            UserError: what `TextTask.source` raises, and for settings that have no meaning for MIDI files.
        """
        reading, kind = self.reading(data), find_format(data.path, data.format)[1]
        if data.paths:
            raise UserError("data.paths=true has no meaning for --task tagging: give the MIDI files themselves")
        if kind in ("conll", "midi"):
            reading["text_column"] = None
        if kind != "midi":
            return Source.of(data, **reading)
        if data.text_column != TOKENS:
            raise UserError(f"data.text_column={data.text_column} has no meaning for MIDI files: leave it out")
        if data.label_column not in NOTE_TAGS:
            tags = " or ".join(f"--label-column {name}" for name in NOTE_TAGS)
            raise UserError(f"data.label_column={data.label_column}: notes of MIDI files have other tags: give {tags}")
        if data.midi != "notes":
            raise UserError(
                f"data.midi={data.midi}: there a note is no single word, which could have a tag: pre-train with "
                "data.midi=notes"
            )
        plain = Source.of(data, **(reading | {"more_columns": ()}))
        return replace(plain, more_columns=(TOKENS, data.label_column))

    def reading(self, data: Any) -> dict[str, Any]:
        """As in `TextTask`; words and tags are lists, which further columns may hold."""
        return super().reading(data) | {"label_column": None, "more_columns": (data.text_column, data.label_column)}

    def read(
        self, config: TaggingConfig, tokenizer: PreTrainedTokenizerFast, source: Source, counts: RowCounts
    ) -> tuple[Examples, dict[str, Any]]:
        """The words of each text as lists of ids, with a tag for each, and the tags as `labels`.

        Raises:
            UserError: for a text whose words and tags are not as many, or fewer than two tags in all.
        """
        seqeval()
        texts, tags, splits = [], [], []
        for document in source.documents(counts):
            words, found = (None if each is None else parse_words(each) for each in document.more)
            if not words or not found:
                counts.recount_as_skipped(1)
                continue
            if len(words) != len(found):
                raise UserError(
                    f"{source}, row {document.row}: {len(words):,} words in {config.data.text_column!r} and "
                    f"{len(found):,} tags in {config.data.label_column!r}: one for each word is needed: correct the row"
                )
            texts.append(words)
            tags.append(found)
            splits.append(document.split)
        check_some_used(counts, str(source))
        logger.info("%s: %s", source, counts)
        if not texts:
            why = "" if source.format != "midi" else ": every file has drums only, or one track, all of it melody"
            raise UserError(f"{source}: no row has tags in {config.data.label_column!r}{why}")
        names = sorted({tag for row in tags for tag in row}, key=lambda tag: (tag != OUTSIDE, tag))
        if len(names) < 2:
            raise UserError(f"{source}: every tag is {names[0]!r}: two or more are needed to learn from")
        number, unknown = {name: place for place, name in enumerate(names)}, Unknown()
        rows = encode_words(tokenizer, texts, unknown)
        tell_unknown(str(source), unknown)
        return Examples(rows, [[number[tag] for tag in row] for row in tags], splits), {"labels": names}

    def changes(self, config: TaggingConfig, facts: dict[str, Any]) -> dict[str, Any]:
        """The tags, and how long texts are cut."""
        return {
            "num_labels": len(facts["labels"]),
            "id2label": dict(enumerate(facts["labels"])),
            "label2id": {name: place for place, name in enumerate(facts["labels"])},
            "window_length": config.data.max_length,
            "window_stride": min(config.data.stride, (config.data.max_length - 2) // 2),
        }

    def objective(self, begun: Begun) -> TokenCrossEntropy:
        """As in `TextTask`."""
        return TokenCrossEntropy()

    def program(self, begun: Begun) -> TextProgram:
        """As in `TextTask`, on windows."""
        rows = cut(begun.training, begun.model.config)
        how: dict[str, Any] = {"pad_id": begun.tokenizer.pad_token_id, "objective": self.objective(begun)}
        return TextProgram(begun.model, rows, begun.config.train, **how)

    def encode(
        self, documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, data: Any, model: Any, unknown: Unknown
    ) -> Examples:
        """As in `TextTask`."""
        return Examples(encode_words(tokenizer, [_words(each) for each in documents], unknown), [])

    def outputs(self, model: QuoremForTokenClassification, examples: Examples, **how: Any) -> list[Tensor]:
        """For each text the probabilities float32 (words, tags)."""
        config = model.config
        found = [torch.empty(len(row), config.num_labels) for row in examples.rows]
        rows = cut(examples, config)
        if not rows.rows:
            return found
        for chosen, outputs in infer(model, rows, **how):
            shares = torch.softmax(outputs.logits.float(), dim=-1).cpu()
            for place, share in zip(chosen, shares, strict=True):
                text, words, tokens = rows.origins[place]
                found[text][words] = share[tokens]
        return found

    def scores(self, outputs: list[Tensor], examples: Examples, config: Any) -> dict[str, Any]:
        """Precision, recall and F1 of entities as conlleval counts them (seqeval), accuracy of words, mean loss.

        Where no tag is an entity's (B-, I- and such), F1 and the others are scikit-learn's, the mean over tags.
        """
        names = [config.id2label[number] for number in range(config.num_labels)]
        truth = [[names[tag] for tag in row] for row in examples.labels]
        found = [[names[tag] for tag in each.argmax(-1).tolist()] for each in outputs]
        labels = torch.tensor([tag for row in examples.labels for tag in row])
        own = torch.cat(outputs).gather(-1, labels.unsqueeze(-1)).clamp(min=1e-9)
        return score_tags(truth, found, names) | {"loss": float(-own.log().mean())}

    def columns(self, config: Any) -> tuple[Column, ...]:
        """The tag of each word, and its probability: two lists."""
        return Column("prediction"), Column("probability")

    def decode(
        self, outputs: list[Tensor], examples: Examples, documents: Sequence[Document], config: Any
    ) -> list[Any]:
        """As in `TextTask`."""
        best = [each.max(-1) for each in outputs]
        return [
            ([config.id2label[tag] for tag in tags.tolist()], [Number(f"{share:.6f}") for share in shares.tolist()])
            for shares, tags in best
        ]

    def document(self, value: Any) -> Document:
        """A list of words, or a text with spaces between them.

        Raises:
            UserError: for anything else.
        """
        words = value.split() if isinstance(value, str) else listed(value)
        if words is None:
            raise UserError(f"{value!r}: a list of words, or a text, is needed for each row")
        words = [str(word) for word in words]
        return Document(json.dumps(words) if words else "")

    def said(self, result: dict[str, Any]) -> str:
        """The scores."""
        found = ", ".join(f"{name} {result[name]:.4f}" for name in ("f1", "precision", "recall", "accuracy"))
        line = f"held out, {result['held_out']['rows']:,} texts, {len(result['labels'])} tags: {found}"
        return f"{line} ({self.said_of_epoch(result)})"


def parse_words(text: str) -> list[str]:
    """The words of a JSON list, or what stands between tabs or, without any, whitespace."""
    try:
        found: Any = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError:
        found = None
    if isinstance(found, list):
        return [str(word) for word in found]
    return text.split("\t") if "\t" in text else text.split()


def encode_words(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[Sequence[str]], unknown: Unknown
) -> list[list[list[int]]]:
    """The ids of each word of each text, cut by itself; [UNK] where a word gives none."""
    words = [word for text in texts for word in text]
    found = encode(tokenizer, words) if words else []
    unknown.add(tokenizer, words, found, range(1, len(words) + 1))
    ids = iter(each or [tokenizer.unk_token_id] for each in found)
    return [[next(ids) for _ in text] for text in texts]


def cut(examples: Examples, config: Any) -> Examples:
    """Windows of texts, [CLS] tokens [SEP] each, as rows that the model reads.

    Args:
        examples: words as lists of ids; tags, or none.
        config: the model's, with window_length and window_stride.

    Returns:
        Rows; labels for each of their tokens, IGNORED but for the first of each word that is a window's own; origins:
        the text's place, the words' places in it and their first tokens' places in the row, int64 (words,) each.
    """
    room = config.window_length - 2
    rows, labels, origins = [], [], []
    for text, words in enumerate(examples.rows):
        short = [word[:room] for word in words]
        for window in windows([len(word) for word in short], room=room, stride=config.window_stride):
            inside = short[window.start : window.end]
            firsts = 1 + np.cumsum([0, *map(len, inside)])[:-1]
            own = slice(window.own_start - window.start, window.own_end - window.start)
            rows.append([CLS, *(token for word in inside for token in word), SEP])
            tags = [IGNORED] * len(rows[-1])
            if examples.labels:
                mine = examples.labels[text][window.own_start : window.own_end]
                for place, tag in zip(firsts[own].tolist(), mine, strict=True):
                    tags[place] = tag
            labels.append(tags)
            origins.append((text, np.arange(window.own_start, window.own_end), firsts[own]))
    return Examples(rows, labels, origins=origins)


def score_tags(truth: Sequence[Sequence[str]], found: Sequence[Sequence[str]], names: Iterable[str]) -> dict[str, Any]:
    """Precision, recall and F1 of entities, or of tags that are none (see `Tagging.scores`), and accuracy of words.

    Args:
        truth: the tags of each text.
        found: as many.
        names: all tags that there can be, which say whether they are of entities, and where their types stand.
    """
    tags = set(names) - {OUTSIDE}
    behind = not all(map(BEFORE.fullmatch, tags))
    flat = [[tag for row in rows for tag in row] for rows in (truth, found)]
    accuracy = float(np.mean([one == other for one, other in zip(*flat, strict=True)])) if flat[0] else 0.0
    how: dict[str, Any] = {"average": "macro"}
    if not behind or all(map(BEHIND.fullmatch, tags)):
        metrics, how = seqeval(), {"average": "micro", "suffix": behind}
        rows: list[Any] = [[[_iobes(tag, behind) for tag in row] for row in side] for side in (truth, found)]
    else:
        metrics, rows = import_module("sklearn.metrics"), flat
    names = ("precision", "recall", "f1")
    scores = {name: float(getattr(metrics, f"{name}_score")(*rows, zero_division=0, **how)) for name in names}
    return scores | {"accuracy": accuracy}


def _iobes(tag: str, behind: bool) -> str:
    """A tag with the prefix of IOBES where it has one of BILOU."""
    if tag == OUTSIDE:
        return tag
    return tag[:-1] + tag[-1].translate(BILOU) if behind else tag[0].translate(BILOU) + tag[1:]


def seqeval() -> Any:
    """The metrics of the library seqeval.

    Raises:
        UserError: if it is not installed.
    """
    try:
        from seqeval import metrics
    except ImportError as error:
        raise UserError("--task tagging needs seqeval: pip install 'quorem[tagging]'") from error
    return metrics


def _words(document: Document) -> list[str]:
    return parse_words(document.more[0] or "" if document.more else document.text)
