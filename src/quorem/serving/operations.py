"""What can be asked of a run: detect, predict, recommend and embed, each from rows to as many results."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, TypeAdapter
from torch import Tensor

from quorem.errors import UserError
from quorem.finetuning.predict import Predictor
from quorem.finetuning.rows import is_blank
from quorem.loaded import Encoder, Finetuned, NextItem, described, load, plain
from quorem.recommending.recommend import encode_items, known_ids
from quorem.serving.rows import ITEMS, TEXT, Kind, Whole, given, kind_of
from quorem.tokenization import Unknown
from quorem.tokenization.special import SPECIAL_IDS
from quorem.vectors.encoder import POOLINGS, encode_texts

PRE_TRAINING = "pre-training"
REPLACED = 0.5  # a token is called replaced above it
MOST_CHOSEN = 1_000
SEARCHED = 100_000  # items, the most frequent ones, that the page proposes


class Verdict(BaseModel):
    """A token, the probability that it was replaced, and whether that is above a half."""

    token: str
    probability: float
    replaced: bool


class Recommended(BaseModel):
    """An item and its probability among all items."""

    item: str
    probability: float


class Recommendation(BaseModel):
    """The likeliest next items, and the session's items that the model does not know, which it passes over."""

    items: list[Recommended]
    unknown: list[str]


@dataclass(frozen=True)
class Operation:
    """Something that a run can be asked.

    Attributes:
        name: of its address.
        what: it gives, in a sentence.
        kind: of its rows.
        result: the type of a result.
        run: from rows, as `read` gives them, and options to a result for each.
        read: of a checked row: what `run` takes.
        options: fields of the request beside the rows: type, and default with its limits.
        example: a result of `Kind.example`.
    """

    name: str
    what: str
    kind: Kind
    result: Any
    run: Callable[..., Sequence[Any]]
    read: Callable[[Any], Any]
    options: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    example: Any = None


@dataclass(frozen=True)
class Served:
    """A run as it is served.

    Attributes:
        name: of its folder.
        task: of TASKS, or PRE_TRAINING.
        model: in words.
        operations: what it can be asked; the page shows the first.
        labels: the names of classes, labels or tags, if it has any.
        items: the most frequent items of a recommender.
    """

    name: str
    task: str
    model: str
    operations: tuple[Operation, ...]
    labels: tuple[str, ...] = ()
    items: tuple[str, ...] = ()


def load_served(run: str | Path) -> Served:
    """A run, loaded, on the accelerator if there is one, and tried out.

    Raises:
        UserError: if there is no model, a damaged one, or one whose numbers are not finite.
    """
    found = load(run)
    name = Path(run).resolve().name
    several = found.predictor if isinstance(found, Finetuned) else getattr(found, "average", None)
    models = several.models if several else [found.model]
    if torch.accelerator.is_available():
        for model in models:
            model.to(torch.accelerator.current_accelerator())
    if isinstance(found, Encoder):
        served = Served(
            name, PRE_TRAINING, described(found.model), (_detect(found), _embed(found.model, found.tokenizer))
        )
    elif isinstance(found, NextItem):
        last = min(len(found.tokenizer), SPECIAL_IDS + SEARCHED)
        items = tuple(found.tokenizer.convert_ids_to_tokens(list(range(SPECIAL_IDS, last))))
        kind = replace(ITEMS, example=list(items[:2]))
        operations = (_recommend(found, kind), _embed_sessions(found, kind))
        served = Served(name, "next_item", described(found.model), operations, items=items)
    else:
        served = _finetuned(found, name)
    return replace(served, operations=tuple(map(_tried, served.operations)))


def _finetuned(found: Finetuned, name: str) -> Served:
    task, config = found.predictor.task, found.model.config
    labels = [str(config.id2label[number]) for number in range(config.num_labels)] if config.num_labels > 1 else []
    operations = [_predict(found.predictor, kind_of(task.row_kind, found.data, labels))]
    several = len(found.predictor.models) > 1  # of --seeds: their vectors are not to be averaged
    if hasattr(found.model, "electra") and not several:
        operations.append(_embed(found.model, found.tokenizer))
    seeds = f", {len(found.predictor.models)} seeds" if several else ""
    return Served(name, task.name, described(found.model) + seeds, tuple(operations), tuple(labels))


def _tried(operation: Operation) -> Operation:
    """The operation with the result of its example, which also warms it up.

    Raises:
        UserError: if a number of the result is not finite.
    """
    usual = {name: about.default for name, (_, about) in operation.options.items()}
    result = operation.run([operation.read(_checked(operation.kind))], **usual)[0]
    if not _is_finite(result):
        raise UserError(
            f"the model's numbers for {operation.kind.example!r} are not finite (NaN or infinite), so they mean "
            "nothing: train again, with a smaller train.learning_rate"
        )
    return replace(operation, example=result)


def _checked(kind: Kind) -> Any:
    """The example of a kind as pydantic gives it."""
    return TypeAdapter(kind.schema).validate_python(kind.example)


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _detect(encoder: Encoder) -> Operation:
    def run(texts: list[str]) -> list[Any]:
        return [
            [{"token": token, "probability": _short(share), "replaced": share > REPLACED} for token, share in tokens]
            for tokens in encoder.detect(texts)
        ]

    what = "Of each token of a text: how likely the discriminator holds it to be replaced."
    return Operation("detect", what, TEXT, list[Verdict], run, TEXT.given)


def _predict(predictor: Predictor, kind: Kind) -> Operation:
    task, config = predictor.task, predictor.config
    names = [column.name for column in predictor.columns]

    def read(row: Any) -> Any:
        return given(kind, row, task.document)

    def run(documents: list[Any], top: int = 1) -> list[Any]:
        predictor.unknown = Unknown()  # a tally of rows that come for ever says nothing
        examples, outputs = predictor.outputs(documents)
        decoded = task.decode(outputs, examples, documents, config)
        shares = outputs if _are_probabilities(outputs, config) else [None] * len(documents)
        found = []
        for document, values, own in zip(documents, decoded, shares, strict=True):
            row = {name: plain(value) for name, value in zip(names, values, strict=True)}
            if own is not None:
                row["probabilities"] = _likeliest(own, config, top)
            found.append(dict.fromkeys(row) if is_blank(document) else row)
        return found

    options = {}
    if _are_probabilities(predictor.outputs([read(_checked(kind))])[1], config):
        about = Field(10, ge=1, le=MOST_CHOSEN, description="how many probabilities a result has, the largest first")
        options = {"top": (Whole, about)}
    what = f"What the model predicts for each row ({task.name}); null where a text is blank."
    return Operation("predict", what, kind, dict[str, Any], run, read, options)


def _are_probabilities(outputs: Any, config: Any) -> bool:
    """Whether outputs have a number for each of several labels, as those of classes, labels and choices do."""
    return isinstance(outputs, Tensor) and outputs.ndim == 2 and 1 < outputs.shape[1] == config.num_labels


def _likeliest(shares: Tensor, config: Any, top: int) -> dict[str, float]:
    best = shares.topk(min(top, len(shares)))
    return {
        config.id2label[place]: _short(share)
        for share, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    }


def _embed(model: Any, tokenizer: Any) -> Operation:
    def run(texts: list[str], pooling: str | None) -> list[Any]:
        return _vectors(encode_texts(model.electra, tokenizer, texts, pooling=pooling))

    about = Field(None, description="of a text's tokens: " + ", ".join(POOLINGS), pattern=f"^({'|'.join(POOLINGS)})$")
    what = "A vector for each text: of its tokens' own vectors (sif), or of the states of all layers."
    return Operation("embed", what, TEXT, list[float], run, TEXT.given, {"pooling": (str | None, about)})


def _recommend(found: NextItem, kind: Kind) -> Operation:
    def run(sessions: list[list[str]], top: int, exclude_seen: bool) -> list[Any]:
        said = found.recommend(sessions, top=top, exclude_seen=exclude_seen)
        return [
            {
                "items": [{"item": each["item"], "probability": _short(each["score"])} for each in items],
                "unknown": _unknown(found, session),
            }
            for session, items in zip(sessions, said, strict=True)
        ]  # fmt: skip

    options = {
        "top": (Whole, Field(10, ge=1, le=MOST_CHOSEN, description="how many items")),
        "exclude_seen": (bool, Field(False, description="leave out the items that a session has")),
    }
    what = "The likeliest next items of a session; none where the model knows none of its items."
    return Operation("recommend", what, kind, Recommendation, run, kind.given, options)


def _embed_sessions(found: NextItem, kind: Kind) -> Operation:
    def run(sessions: list[list[str]]) -> list[Any]:
        known = [known_ids(session) for session in encode_items(found.tokenizer, sessions)]
        return _vectors(found.model.vectors(known, max_items=found.data.max_items).cpu())

    what = "A vector for each session: what the softmax over items is asked with."
    return Operation("embed", what, kind, list[float], run, kind.given)


def _unknown(found: NextItem, session: list[str]) -> list[str]:
    (items,) = encode_items(found.tokenizer, [session])
    return [item for item, ids in zip(session, items, strict=True) if not known_ids([ids])]


def _vectors(vectors: Tensor) -> list[list[float]]:
    return [[_short(value) for value in row] for row in vectors.tolist()]


def _short(value: float) -> float:
    """A float32 with as many digits as it has."""
    return float(f"{value:.7g}")
