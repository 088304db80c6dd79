"""quorem from Python: pre-train, fine-tune, load a folder and use it, and the tables and softmaxes by themselves.

Everything here is also what a command does, with the same settings and the same folders.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from quorem.config.events import is_log
from quorem.config.loading import override
from quorem.config.settings import EmbeddingSettings, FinetuneConfig, ModelSettings, PretrainConfig
from quorem.data.dataset import DatasetSource
from quorem.data.events.source import EventSource
from quorem.data.source import DEFAULT_TEXT_COLUMN, Source
from quorem.embeddings import EMBEDDINGS, TokenEmbedding, build_table
from quorem.errors import UserError, check_choice
from quorem.finetuning.checkpoint import model_folder
from quorem.finetuning.classification import encode_rows, probabilities
from quorem.finetuning.finetune import finetune as finetune_run
from quorem.heads import HEADS, GeneratorHead
from quorem.models.checkpoint_files import fill
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremForPreTraining
from quorem.plan.layout import head_kind, lay_out
from quorem.pretraining.pretrain import pretrain as pretrain_run
from quorem.tokenization import load_tokenizer
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training.run_folder import read_settings
from quorem.vectors.encoder import batches, encode_texts

Config = TypeVar("Config")
Data = str | Path | Sequence[str | Path] | Iterable[Mapping[str, Any]] | Source
"""Files, rows, or what reads them."""

SHORT = {
    "text_column": "data.text_column",
    "label_column": "data.label_column",
    "user_column": "data.user_column",
    "item_column": "data.item_column",
    "time_column": "data.time_column",
    "session_gap": "data.session_gap",
    "max_length": "data.max_length",
    "tokenizer": "tokenizer.kind",
    "size": "model.size",
    "vocab_size": "model.vocab_size",
    "embedding": "model.embedding.kind",
    "budget": "model.embedding.budget",
    "steps": "train.max_steps",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "seed": "train.seed",
}
"""Keyword arguments, and the settings they are."""
AT_ONCE = 64  # texts


class Encoder:
    """A pre-trained discriminator with its tokenizer.

    Args:
        folder: of a pre-training run, or its discriminator/.

    Raises:
        UserError: if there is no model, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        place = model_folder(folder)
        self.tokenizer: PreTrainedTokenizerFast = load_tokenizer(place)
        try:
            network = QuoremForPreTraining(QuoremConfig.from_pretrained(place, local_files_only=True))
        except Exception as error:  # a damaged file can fail in any way
            raise UserError(f"{place}: its config.json cannot be read ({error})") from error
        fill(network, place, "discriminator")
        self.model: QuoremForPreTraining = network.eval()

    def encode(self, texts: Sequence[str], *, pooling: str = "mean", max_length: int | None = None) -> Tensor:
        """A vector for each text: the mean over its tokens, and over the states of all layers.

        (The last layer alone is made for telling replaced tokens apart, and reads less: docs/results.md.)

        Args:
            texts: any.
            pooling: mean or max over the tokens, or first, the state of [CLS].
            max_length: tokens of a text that are read, special ones included; the model's limit if None.

        Returns:
            float32 (n, hidden_size).
        """
        return encode_texts(self.model.electra, self.tokenizer, _texts(texts), pooling=pooling, max_length=max_length)

    @torch.no_grad()
    def detect(self, texts: Sequence[str], *, max_length: int | None = None) -> list[list[tuple[str, float]]]:
        """Of each token of each text, as the vocabulary has it: the probability that it was replaced."""
        found = []
        for ids, mask in batches(self.model.electra, self.tokenizer, _texts(texts), max_length):
            shares = torch.sigmoid(self.model(ids, mask).logits.float())
            lengths = ids.new_full((len(ids),), ids.shape[1]) if mask is None else mask.sum(1)
            for row, share, length in zip(ids, shares, lengths.tolist(), strict=True):
                inner = slice(1, int(length) - 1)  # without [CLS] and [SEP]
                tokens = self.tokenizer.convert_ids_to_tokens(row[inner].tolist())
                found.append(list(zip(tokens, share[inner].tolist(), strict=True)))
        return found

    def __repr__(self) -> str:
        return f"Encoder({str(self.folder)!r}: {_described(self.model)})"


class Classifier:
    """A fine-tuned classifier with its tokenizer.

    Args:
        folder: of a fine-tuning run, or its model/.

    Raises:
        UserError: if there is no classifier, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        from quorem.finetuning.predict import load_classifier

        self.folder = Path(folder)
        self.model, self.tokenizer, self.data = load_classifier(self.folder)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """The most probable class of each text as a `label`, and its probability as a `score`."""
        if not texts:
            return []
        best = self.probabilities(texts).max(-1)
        return [
            {"label": self.model.config.id2label[label], "score": score}
            for score, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Of every class, in the order of `labels`: float32 (n, classes)."""
        max_length = None if self.model.reads_whole else self.data.max_length
        rows = encode_rows(self.tokenizer, _texts(texts), max_length=max_length, truncation=self.data.truncation)
        return probabilities(self.model, rows, pad_id=int(self.tokenizer.pad_token_id), batch_size=AT_ONCE, dtype=None)

    @property
    def labels(self) -> list[str]:
        """The classes."""
        return [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    def __repr__(self) -> str:
        return f"Classifier({str(self.folder)!r}: {', '.join(self.labels[:5])}; {_described(self.model)})"


class NextItem:
    """A next-item model with its tokenizer: what `quorem finetune --task next_item` makes.

    Args:
        folder: of the run, or its model/.

    Raises:
        UserError: if there is no such model, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        from quorem.recommending.recommend import load_recommender

        self.folder = Path(folder)
        self.model, self.tokenizer, self.data = load_recommender(self.folder)

    def recommend(
        self, sessions: Sequence[Sequence[str]], *, top: int = 10, exclude_seen: bool = False
    ) -> list[list[dict[str, Any]]]:
        """The likeliest next items of each session, as an `item` and its probability as a `score`.

        Args:
            sessions: lists of items in the order of time; items that the model does not know are passed over.
            top: how many.
            exclude_seen: leave out the items that a session has.

        Returns:
            A list for each session, empty where it has no item that the model knows.
        """
        from quorem.recommending.recommend import Recommender

        if top < 1:
            raise UserError(f"top={top}: 1 or more needed")
        ids = [self.tokenizer.convert_tokens_to_ids(list(map(str, _texts(session)))) for session in _texts(sessions)]
        asked = Recommender(
            self.model, self.tokenizer, max_items=self.data.max_items, top=top, exclude_seen=exclude_seen
        )
        found = asked.after([[token for token in session if token >= SPECIAL_IDS] for session in ids])
        return [[{"item": item, "score": share} for item, share in zip(*each, strict=True)] for each in found]

    def __repr__(self) -> str:
        return f"NextItem({str(self.folder)!r}: {_described(self.model)})"


def pretrain(data: Data, out: str | Path, *, settings: Mapping[str, Any] | None = None, **given: Any) -> Encoder:
    """Pre-train on texts into a run folder, as `quorem pretrain` does; a finished run is loaded.

    Args:
        data: a file, a folder, a pattern or several of these; or rows, mappings from column to value, such as a Hugging
            Face dataset.
        out: the run folder.
        settings: any settings, by their dotted names: {"train.warmup": 0.1}.
        given: settings by their short names, `SHORT`: size, vocab_size, embedding, tokenizer, text_column, steps, ...

    Raises:
        UserError: for settings or data that cannot be used.
    """
    source, config = _configured(PretrainConfig(), data, settings, given)
    pretrain_run(config, Path(out), source=source)
    return Encoder(out)


def finetune(
    pretrained: "Encoder | str | Path",
    data: Data,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    **given: Any,
) -> Classifier:
    """Fine-tune a pre-trained run on labelled texts into a run folder, as `quorem finetune` does.

    Args:
        pretrained: what `pretrain` or `load` gave, or its folder.
        data: as for `pretrain`, with labels.
        out: the run folder.
        settings: any settings, by their dotted names.
        given: settings by their short names, `SHORT`.

    Raises:
        UserError: for settings or data that cannot be used.
    """
    source, config = _configured(FinetuneConfig(), data, settings, given)
    folder = pretrained.folder if isinstance(pretrained, Encoder) else pretrained
    finetune_run(replace(config, pretrained=str(folder)), Path(out), source=source)
    return Classifier(out)


def load(folder: str | Path) -> Encoder | Classifier | NextItem:
    """What a run has made: of pre-training an Encoder, of fine-tuning a Classifier or, of the next item, a NextItem.

    Raises:
        UserError: if the folder holds neither.
    """
    place = model_folder(folder)
    architectures = read_settings(place / "config.json").get("architectures") or []
    made: dict[str, Any] = {"QuoremForSequenceClassification": Classifier, "QuoremForNextItem": NextItem}
    kinds = [made[name] for name in architectures if name in made]
    return (kinds or [Encoder])[0](folder)


def embedding(num_embeddings: int, embedding_dim: int, *, kind: str = "qr", **options: Any) -> TokenEmbedding:
    """A table of vectors that stays small: ids int64 (...) in [0, num_embeddings) to vectors (..., embedding_dim).

    It stands where torch.nn.Embedding does. Ids that are frequent should be small: the first ones have rows of their
    own. Its numbers are drawn by torch's global generator, of variance 1 / embedding_dim.

    Args:
        num_embeddings: V.
        embedding_dim: D.
        kind: of EMBEDDINGS: qr (quotient-remainder, arXiv:1909.02107), dense, mixed_radix, hash_embedding and others.
        options: settings of model.embedding: budget="20MB", compression="20x", operation="multiply", own_rank=8, ...

    Raises:
        UserError: for an unknown kind or option, or a budget that is too small.
    """
    words = [f"model.embedding.{name}={value}" for name, value in options.items()]
    table = override(PretrainConfig(model=ModelSettings(embedding=EmbeddingSettings(kind=kind))), words).model.embedding
    if table.assignment is None:
        table = replace(table, assignment="identity")
    entry, _ = lay_out(ModelSettings(embedding=table), vocab_size=num_embeddings, width=embedding_dim)
    return build_table(entry, num_embeddings, embedding_dim)


def softmax(table: TokenEmbedding, *, kind: str = "auto", never: Iterable[int] = (), **options: Any) -> GeneratorHead:
    """An exact softmax over the ids of a table, tied to its rows: `nll`, `sample` and `topk` of hidden (n, D).

    Args:
        table: of `embedding`.
        kind: of HEADS: full, tree, two_level, digits, or auto, by the table.
        never: ids that are never targets.
        options: of the kind, such as digits=3 of a tree.

    Raises:
        UserError: for an unknown kind.
    """
    name = next(name for name, known in EMBEDDINGS.items() if type(table) is known)
    if kind == "auto":
        kind = head_kind(kind, name, table.num_embeddings, own_rank=int(table.options.get("own_rank", 0)))
    check_choice("kind", kind, HEADS)
    found = HEADS[kind](table, never=never, **options)
    found.reset_parameters(table.dim**-0.5)
    return found


def _configured(
    config: Config, data: Data, settings: Mapping[str, Any] | None, given: Mapping[str, Any]
) -> tuple[Source | None, Config]:
    """What is read, None for the files that data.path names, and the settings."""
    for name in given:
        check_choice("argument", name, SHORT)
    values = {SHORT[name]: value for name, value in given.items()} | dict(settings or {})
    several = isinstance(data, list | tuple) and all(isinstance(each, str | Path) for each in data)
    if several or isinstance(data, str | Path):
        values["data.path"] = list(map(str, cast(Sequence[Any], data))) if several else str(data)
    settled: Any = override(config, [f"{name}={_written(value)}" for name, value in values.items()])
    if "data.path" in values:
        return None, settled
    if isinstance(data, Source):
        return data, settled
    if is_log(settled.data):
        return EventSource.of_rows(cast(Iterable[Mapping[str, Any]], data), settled.data), settled
    columns: dict[str, Any] = {
        name: getattr(settled.data, name, None) for name in ("text_column", "label_column", "split_column")
    }
    columns["text_column"] = columns["text_column"] or DEFAULT_TEXT_COLUMN
    return DatasetSource.of_rows(cast(Iterable[Mapping[str, Any]], data), **columns), settled


def _written(value: Any) -> str:
    """A value as it is written behind section.key=."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join('"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in value) + "]"
    return "null" if value is None else str(value)


def _texts(texts: Sequence[Any]) -> Sequence[Any]:
    if isinstance(texts, str):
        raise UserError(f"{texts!r}: a list is needed, not one text: write [text]")
    return texts


def _described(model: PreTrainedModel) -> str:
    config = model.config
    table = f"{config.embedding['kind']} table of {config.vocab_size:,} x {config.embedding_size}"
    return f"{table}, {config.num_hidden_layers} layers of {config.hidden_size}"
