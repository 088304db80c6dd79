"""quorem from Python: pre-train, fine-tune, load a folder and use it, and the tables and softmaxes by themselves.

Everything here is also what a command does, with the same settings and the same folders.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from quorem.config.events import is_log
from quorem.config.loading import override
from quorem.config.settings import EmbeddingSettings, ModelSettings, PretrainConfig
from quorem.data.dataset import DatasetSource
from quorem.data.events.source import EventSource
from quorem.data.source import DEFAULT_TEXT_COLUMN, Source
from quorem.embeddings import EMBEDDINGS, TokenEmbedding, build_table
from quorem.embeddings.mixed_radix import even_moduli
from quorem.errors import UserError, check_choice
from quorem.exporting.compress import compress as compress_run
from quorem.exporting.export import export as export_run
from quorem.files import is_named
from quorem.heads import HEADS, GeneratorHead
from quorem.loaded import Encoder, Finetuned, NextItem, load
from quorem.plan.layout import LEVELS, head_kind, lay_out
from quorem.pretraining.pretrain import pretrain as pretrain_run
from quorem.tasks import TASKS, load_task
from quorem.tasks import finetune as finetune_run

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
    pretrained: Encoder | Finetuned | NextItem | str | Path,
    data: Data,
    out: str | Path,
    *,
    task: str = "classification",
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Fine-tune a pre-trained run on labelled rows into a run folder, as `quorem finetune` does, and load it.

    Args:
        pretrained: what `pretrain`, `finetune` or `load` gave, or its folder.
        data: as for `pretrain`, with labels.
        out: the run folder.
        task: of TASKS.
        seeds: train so many times, into folders of their own there, as --seeds does: what is loaded averages the
            models.
        settings: any settings, by their dotted names.
        given: settings by their short names, `SHORT`.

    Raises:
        UserError: for settings or data that cannot be used.
    """
    check_choice("task", task, TASKS)
    source, config = _configured(TASKS[task].settings(), data, settings, given)
    folder = pretrained if isinstance(pretrained, str | Path) else pretrained.folder
    finetune_run(replace(config, pretrained=str(folder)), Path(out), source=source, seeds=seeds)
    return load(out)


def export(
    run: Encoder | Finetuned | NextItem | str | Path,
    out: str | Path,
    *,
    format: str,
    int8: bool = False,
    license: str | None = None,
) -> list[str]:
    """Write a run's networks for use without quorem, as `quorem export` does.

    Args:
        run: what `pretrain`, `finetune` or `load` gave, or its folder.
        out: the folder to write, which must not exist.
        format: electra, onnx or remote-code.
        int8: onnx: matrices and tables in eight bits.
        license: of the weights, for the model card.

    Returns:
        What was written, a line each.

    Raises:
        UserError: for a run that cannot be read, or that the format has no room for.
    """
    folder = run if isinstance(run, str | Path) else run.folder
    return export_run(folder, out, format=format, int8=int8, license=license)


def compress(
    run: Encoder | Finetuned | NextItem | str | Path,
    out: str | Path,
    *,
    compression: str | None = None,
    budget: str | None = None,
) -> list[str]:
    """Write a trained run with a smaller token table, as `quorem compress` does.

    Args:
        run: what `pretrain`, `finetune` or `load` gave, or its folder.
        out: the folder to write, which must not exist.
        compression: times smaller than a row for each token, such as 10x.
        budget: bytes of the table with its index, such as 20MB. One of the two is needed.

    Returns:
        What was written, a line for each network.

    Raises:
        UserError: for a run that cannot be read, bytes that are too few, or a table that is as small already.
    """
    folder = run if isinstance(run, str | Path) else run.folder
    return compress_run(folder, out, compression=compression, budget=budget)


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
        UserError: for an unknown kind or option, attributes, which pre-training reads, or a budget that is too small.
    """
    words = [f"model.embedding.{name}={value}" for name, value in options.items()]
    table = override(PretrainConfig(model=ModelSettings(embedding=EmbeddingSettings(kind=kind))), words).model.embedding
    if table.assignment is None:
        table = replace(table, assignment="identity")
    if table.attributes_file is not None or kind == "attributes":
        raise UserError("attributes_file: is for pre-training (model.embedding.attributes_file): leave it out")
    entry, _ = lay_out(ModelSettings(embedding=table), vocab_size=num_embeddings, width=embedding_dim)
    return build_table(entry, num_embeddings, embedding_dim)


def softmax(table: TokenEmbedding, *, kind: str = "auto", never: Iterable[int] = (), **options: Any) -> GeneratorHead:
    """An exact softmax over the ids of a table, tied to its rows: `nll`, `sample` and `topk` of hidden (n, D).

    Args:
        table: of `embedding`.
        kind: of HEADS: full, tree, two_level, digits, or auto, by the table.
        never: ids that are never targets.
        options: of the kind, such as digits=3, the levels of a tree.

    Raises:
        UserError: for another table, an unknown kind, or one that does not fit the table or the options.
    """
    name = next((name for name, known in EMBEDDINGS.items() if type(table) is known), None)
    if name is None:
        raise UserError(f"{type(table).__name__}: a table that quorem.embedding has made is needed")
    if kind == "auto":
        kind = head_kind(kind, name, table.num_embeddings, own_rank=int(table.options.get("own_rank", 0)))
    check_choice("kind", kind, HEADS)
    digits = options.pop("digits", LEVELS if kind == "digits" and "moduli" not in options else None)
    if digits is not None:
        if kind not in ("tree", "digits") or not isinstance(digits, int) or digits < 2:
            raise UserError(f"digits={digits!r}: a whole number from 2 on, for kind tree or digits: kind is {kind}")
        if kind == "digits" or digits > 2:  # a tree of two levels has no moduli
            options["moduli"] = even_moduli(table.assignment.tail, digits)
    try:
        found = HEADS[kind](table, never=never, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"a {kind} softmax of a {name} table: {error}") from error
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
    if several and data and not any(map(is_named, cast(Sequence[Any], data))):
        first = str(next(iter(cast(Sequence[Any], data))))[:60]
        raise UserError(f'{first!r}: no such file. A list of texts is no data: give rows, as [{{"text": "..."}}]')
    if several or isinstance(data, str | Path):
        values["data.path"] = list(map(str, cast(Sequence[Any], data))) if several else str(data)
    settled: Any = override(config, [f"{name}={_written(value)}" for name, value in values.items()])
    if "data.path" in values:
        return None, settled
    if isinstance(data, Source):
        return data, settled
    if is_log(settled.data):
        return EventSource.of_rows(cast(Iterable[Mapping[str, Any]], data), settled.data), settled
    names = ("text_column", "label_column", "split_column")
    columns: dict[str, Any] = {name: getattr(settled.data, name, None) for name in names}
    if hasattr(settled, "task"):
        columns = load_task(settled.task).reading(settled.data)
    columns["text_column"] = columns["text_column"] or DEFAULT_TEXT_COLUMN
    return DatasetSource.of_rows(cast(Iterable[Mapping[str, Any]], data), **columns), settled


def _written(value: Any) -> str:
    """A value as it is written behind section.key=."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join('"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in value) + "]"
    return "null" if value is None else str(value)
