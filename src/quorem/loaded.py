"""What a run has made, loaded: an encoder, a fine-tuned model, a recommender."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from quorem.data.readers.value import Number
from quorem.errors import UserError
from quorem.finetuning.checkpoint import model_folder, model_folders
from quorem.models.checkpoint_files import check_finite, fill, read_config
from quorem.models.modeling import QuoremForPreTraining
from quorem.tasks.predict import load_predictor_of, task_name
from quorem.tokenization import load_tokenizer
from quorem.training.run_folder import read_settings, run_of
from quorem.vectors.encoder import batches, encode_texts


class _OfRun:
    """What is loaded from a folder.

    Attributes:
        folder: of the run, or of its model.
    """

    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        """What result.json says of the run: scores, and those of counting beside them; empty where only a model is.

        Raises:
            UserError: if it is damaged.
        """
        path = (run_of(self.folder) or self.folder) / "result.json"
        return read_settings(path) if path.is_file() else {}


class Encoder(_OfRun):
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
        network = QuoremForPreTraining(read_config(place))
        fill(network, place, "discriminator")
        check_finite(network, place)
        self.model: QuoremForPreTraining = network.eval()

    def encode(self, texts: Sequence[str], *, pooling: str | None = None, max_length: int | None = None) -> Tensor:
        """A vector for each text: by default a mean of its tokens' vectors in which rare ones weigh more.

        Args:
            texts: any.
            pooling: sif (the default of a pre-training run; `quorem.vectors.encoder.encode_texts` says what it is), or
                of the states of all layers mean (the default of a fine-tuned one), max, or first, the state of [CLS].
            max_length: tokens of a text that are read, special ones included; the model's limit if None.

        Returns:
            float32 (n, embedding_size) for sif, else (n, hidden_size).
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
        return f"Encoder({str(self.folder)!r}: {described(self.model)})"


class Finetuned(_OfRun):
    """A model that was fine-tuned on texts, with its tokenizer; of --seeds, all of them, averaged.

    Args:
        folder: of a fine-tuning run, or its model/.

    Raises:
        UserError: if there is no such model, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.predictor = load_predictor_of(self.folder)
        self.model, self.tokenizer = self.predictor.models[0], self.predictor.tokenizer
        self.data = self.predictor.data

    def predict(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """What `quorem predict` writes for each row, by its columns.

        Args:
            rows: a text each, or what the task reads: (text, text) of a pair, a list of words to tag, a mapping with
                `question` and `context` to answer, (text, [choice, choice]) to choose.

        Raises:
            UserError: for a row of another kind.
        """
        documents = [self.predictor.task.document(row) for row in _texts(rows)]
        names = [column.name for column in self.predictor.columns]
        return [
            {name: plain(value) for name, value in zip(names, found, strict=True)}
            for found in self.predictor(documents)
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}: {self.predictor.task.name}; {described(self.model)})"


class Classifier(Finetuned):
    """A fine-tuned classifier with its tokenizer.

    Args:
        folder: of a fine-tuning run, or its model/.

    Raises:
        UserError: if there is no classifier, or a damaged one.
    """

    def predict(self, texts: Sequence[Any]) -> list[dict[str, Any]]:
        """The most probable class of each text as a `label`, and its probability as a `score`."""
        texts = _texts(texts)
        if not texts:
            return []
        best = self.probabilities(texts).max(-1)
        return [
            {"label": self.model.config.id2label[label], "score": score}
            for score, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def probabilities(self, texts: Sequence[Any]) -> Tensor:
        """Of every class, in the order of `labels`: float32 (n, classes)."""
        documents = [self.predictor.task.document(text) for text in _texts(texts)]
        found: Tensor = self.predictor.outputs(documents)[1]
        return found

    @property
    def labels(self) -> list[str]:
        """The classes."""
        return [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    def __repr__(self) -> str:
        return f"Classifier({str(self.folder)!r}: {', '.join(self.labels[:5])}; {described(self.model)})"


class NextItem(_OfRun):
    """A next-item model with its tokenizer: what `quorem finetune --task next_item` makes.

    A folder of --seeds recommends by the mean of its models' probabilities; `model` is the first.

    Args:
        folder: of the run or of several seeds, or a model/.

    Raises:
        UserError: if there is no such model, or a damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        from quorem.recommending.recommend import load_recommender

        self.folder = Path(folder)
        self.average, self.tokenizer, self.data = load_recommender(self.folder)
        self.model = self.average.models[0]

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
        from quorem.recommending.recommend import Recommender, encode_items, known_ids

        if top < 1:
            raise UserError(f"top={top}: 1 or more needed")
        rows = _texts(sessions)
        if any(isinstance(session, str) for session in rows):
            raise UserError(f"{rows[0]!r}: a list of sessions is needed, each a list of items: write [['1', '2']]")
        items = encode_items(self.tokenizer, [list(map(str, _texts(session))) for session in rows])
        asked = Recommender(
            self.average, self.tokenizer, max_items=self.data.max_items, top=top, exclude_seen=exclude_seen
        )
        found = asked.after([known_ids(session) for session in items])
        return [[{"item": item, "score": share} for item, share in zip(*each, strict=True)] for each in found]

    def __repr__(self) -> str:
        return f"NextItem({str(self.folder)!r}: {described(self.model)})"


def load(folder: str | Path) -> Any:
    """What a run has made: an Encoder of pre-training, of fine-tuning a Finetuned, a Classifier or a NextItem.

    Raises:
        UserError: if the folder holds neither.
    """
    name = task_name(_model_folder(folder))
    made: dict[str | None, Any] = {None: Encoder, "classification": Classifier, "next_item": NextItem}
    return made.get(name, Finetuned)(folder)


def _model_folder(folder: str | Path) -> Path:
    """Where the model of a run is, or the first of several with --seeds."""
    several = model_folders(Path(folder))[0]
    return several if (several / "config.json").exists() else model_folder(folder)


def _texts(texts: Any) -> list[Any]:
    """What a list, a column of pandas, an array or an iterator holds.

    Raises:
        UserError: for one text, or a table, of which a column is needed.
    """
    if isinstance(texts, str):
        raise UserError(f"{texts!r}: a list is needed, not one text: write [text]")
    if hasattr(texts, "columns") or hasattr(texts, "column_names") or isinstance(texts, Mapping):
        raise UserError(f"a {type(texts).__name__} has several columns: give the one to read, as rows['text']")
    return list(texts)


def described(model: PreTrainedModel) -> str:
    """The table and the layers of a model, in words."""
    config = model.config
    table = f"{config.embedding['kind']} table of {config.vocab_size:,} x {config.embedding_size}"
    return f"{table}, {config.num_hidden_layers} layers of {config.hidden_size}"


def plain(value: Any) -> Any:
    """A value of a file's cell as Python has it, inside lists and objects too."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return float(value) if isinstance(value, Number) else value
