"""Predicting: a fine-tuned run and data files give the rows of these with what the task predicts beside them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from quorem.config.loading import load
from quorem.data.bad_rows import BAD_ROWS, FILE, report_bad_rows
from quorem.data.documents import Document, RowCounts
from quorem.data.extended import find_source, good_rows, head_of, join, line_of
from quorem.data.readers.table import Column, TableRow
from quorem.data.readers.value import to_whole_text
from quorem.data.writers import choose_writer
from quorem.errors import UserError, check_choice, did_you_mean
from quorem.files import check_new
from quorem.finetuning.checkpoint import load_model, model_folders
from quorem.finetuning.rows import is_blank, tell_unknown
from quorem.finetuning.text_task import EVALUATION_ROWS, TextTask
from quorem.tokenization import Unknown, load_tokenizer
from quorem.training.device import autocast_dtype
from quorem.training.run_folder import read_settings, run_of

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 2_000


@dataclass
class Predictor:
    """A task's model with its tokenizer.

    Attributes:
        task: what it learned.
        models: one, or several whose outputs are averaged.
        tokenizer: theirs.
        data: settings of the data that they were trained on.
        dtype: of autocast; None for float32 throughout.
        unknown: a tally of all texts so far.
    """

    task: TextTask
    models: list[Any]
    tokenizer: PreTrainedTokenizerFast
    data: Any
    dtype: torch.dtype | None = None
    unknown: Unknown = field(default_factory=Unknown)

    @property
    def config(self) -> Any:
        """That of the model, or of the first."""
        return self.models[0].config

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those that predictions have."""
        return self.task.columns(self.config)

    def outputs(self, documents: Sequence[Document]) -> tuple[Any, Any]:
        """Encoded rows, and what the models say of them, on average."""
        examples = self.task.encode(documents, self.tokenizer, self.data, self.models[0], self.unknown)
        how = {"pad_id": int(self.tokenizer.pad_token_id), "batch_size": EVALUATION_ROWS, "dtype": self.dtype}
        return examples, self.task.average([self.task.outputs(model, examples, **how) for model in self.models])

    def __call__(self, documents: Sequence[Document]) -> list[tuple[Any, ...]]:
        """Values of `columns` for each document; None for each where a text is blank."""
        nothing = (None,) * len(self.columns)
        if not documents:
            return []
        examples, outputs = self.outputs(documents)
        found = self.task.decode(outputs, examples, documents, self.config)
        return [nothing if is_blank(each) else said for said, each in zip(found, documents, strict=True)]


def predict_with(
    load_found: Callable[[], Predictor],
    path: str | Path | Sequence[str | Path],
    *,
    text_column: str | None = None,
    out: str | Path,
    precision: str = "auto",
    format: str = "auto",
    bad_rows: str = "error",
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    header: bool | None = None,
) -> dict[str, int]:
    """Predict every row of data files, with what `load_found` gives; see `quorem.tasks.predict.predict`.

    Raises:
        UserError: for files that cannot be used.
    """
    out = Path(out)
    check_new(out)
    choose_writer(out, words=True, answers=True)
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    found = load_found()
    data, task = found.data, found.task
    writer = choose_writer(out, words=task.row_kind == "words", answers=task.row_kind == "question")
    options = {"encoding": encoding, "delimiter": delimiter, "quoting": quoting, "header": header}
    given = {name: value for name, value in options.items() if value is not None}
    source = find_source(path, format, text_column, data, given)
    files = join(source, text_column, data, own_encoding=encoding is None)
    if torch.accelerator.is_available():
        for model in found.models:
            model.to(torch.accelerator.current_accelerator())
    found.dtype = autocast_dtype(precision, found.models[0].device)
    added = found.columns
    counts, head = RowCounts(), head_of(source, files, out, writer, added)
    more = task.more_columns(data) if files.text_column is not None else ()
    with writer.open(out, head) as write:
        rows = good_rows(files, counts, bad_rows, added)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            cells = found([_document(file, row, more, files.columns(needed=False)) for file, row in some])
            known = sum(each[0] is not None for each in cells)
            counts.used += known
            counts.skipped += len(some) - known
            write([line_of(head, file, row, each) for (file, row), each in zip(some, cells, strict=True)])
        if counts.bad and counts.bad == counts.read:
            raise UserError(f"{source}: all of its {counts.read:,} rows are bad. The first: {counts.messages[0]}")
    report_bad_rows(counts, out.parent, name=f"{out.stem}.{FILE}")
    if text_column is None and files.text_column not in (None, data.text_column):
        logger.info("%s: its column %r was read, for it has none named %r", source, files.text_column, data.text_column)
    tell_unknown(str(source), found.unknown)
    empty = counts.skipped - counts.bad
    return {"read": counts.read, "predicted": counts.used, "empty": empty, "bad": counts.bad}


def load_predictor(task: TextTask, folder: Path) -> Predictor:
    """The model of a fine-tuning run, its tokenizer, and the settings of the data it was trained on.

    Args:
        task: what the run learned.
        folder: of the run, of several with --seeds, or a model/.

    Raises:
        UserError: if a file is missing or damaged.
    """
    sources = model_folders(folder)
    run = run_of(sources[0])
    models = [load_model(task.model_class, task.network, source).eval() for source in sources]
    tokenizer = load_tokenizer(sources[0])
    if len(models) > 1 and (result := folder / "result.json").is_file():
        task.settle(models[0].config, read_settings(result).get("ensemble") or {})
    if run is not None:
        return Predictor(task, models, tokenizer, load(task.settings, run / "config.yaml").data)
    length = min(tokenizer.model_max_length, 512)
    return Predictor(task, models, tokenizer, replace(task.settings().data, max_length=length))


def _document(file: Path, row: TableRow, more: Sequence[str], columns: Sequence[Column]) -> Document:
    """A row as what is to be predicted.

    Raises:
        UserError: if it lacks one of the further columns that the task reads.
    """
    if not more:
        return Document(row.text or "", row=row.number)
    names = [column.name for column in columns] or list(row.keys)
    values = dict(zip(names, row.values(names), strict=False))
    for name in more:
        if name not in values:
            raise UserError(
                f"{file}, row {row.number}: no column {name!r}, which the run read.{did_you_mean(name, names)}"
            )
    place = f"{file}, row {row.number}: column"
    texts = tuple(to_whole_text(f"{place} {name!r}", values[name]) for name in more)
    return Document(row.text or "", row=row.number, more=texts)
