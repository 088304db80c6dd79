"""Predicting: a fine-tuned run and data files give the rows of these with two more columns."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from quorem.config.loading import load
from quorem.config.settings import FinetuneConfig, LabelledDataSettings
from quorem.data.bad_rows import BAD_ROWS, FILE, report_bad_rows
from quorem.data.documents import RowCounts
from quorem.data.extended import find_source, good_rows, head_of, join, line_of
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.writers import choose_writer
from quorem.errors import UserError, check_choice
from quorem.files import check_new
from quorem.finetuning.checkpoint import load_classifier_model
from quorem.finetuning.classification import encode_rows, probabilities, tell_unknown
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.tokenization import Unknown, load_tokenizer
from quorem.training.device import autocast_dtype

logger = logging.getLogger(__name__)

ADDED = (Column("prediction"), Column("probability", "number"))
ROWS_AT_ONCE = 2_000


def predict(
    run: str | Path,
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
    """Classify every row of data files: whatever fine-tuning reads.

    The output has the input's columns and rows, in order, and two more: `prediction`, the most probable class, and
    `probability`, the model's for it. Both stay empty where the text is empty. Of a text file the columns are `line`,
    its number, and `text`; where a file is one document, the column is `file`. The rows of several files have a column
    `file` before all others, unless they have one. Rows are streamed; the output appears when it is complete.

    Args:
        run: a finished fine-tuning run, or its model folder.
        path: the data: a file, a folder, a pattern such as data/*.csv, or several of these.
        text_column: its column of text; None for that of the run or, where the first file has none of that name,
            "text".
        out: the file to write: CSV, JSON Lines or Parquet by the ending of its name (`WRITERS`); must not exist.
        precision: bf16, fp32 or auto.
        format: of the data, as data.format; auto: by its name or, where that says nothing, that of the run.
        bad_rows: error, or skip: rows that cannot be read are left out, counted, and listed beside the output.
        encoding: of the data, as data.encoding; None for that of the run, or UTF-8 where a file is that.
        delimiter: of a CSV, as data.delimiter; None for that of the run. The output's goes by its name.
        quoting: of a CSV, as data.quoting; None for that of the run. The output's is standard.
        header: whether a CSV has one, as data.header; None for what the run's has. The output has one where it has.

    Returns:
        Number of rows `read`, `predicted`, `empty` and `bad`; the last three add up to the first.

    Raises:
        UserError: for files that cannot be used.
    """
    out = Path(out)
    check_new(out)
    writer = choose_writer(out)
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    model, tokenizer, data = load_classifier(Path(run))
    options = {"encoding": encoding, "delimiter": delimiter, "quoting": quoting, "header": header}
    given = {name: value for name, value in options.items() if value is not None}
    source = find_source(path, format, text_column, data, given)
    files = join(source, text_column, data, own_encoding=encoding is None)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    classify = _Classify(model, tokenizer, data, autocast_dtype(precision, model.device))
    counts, head = RowCounts(), head_of(source, files, out, writer, ADDED)
    with writer.open(out, head) as write:
        rows = good_rows(files, counts, bad_rows, ADDED)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            found = classify([row.text or "" for _, row in some])
            lines = [line_of(head, file, row, _cells(*said)) for (file, row), said in zip(some, found, strict=True)]
            known = sum(label is not None for label, _ in found)
            counts.used += known
            counts.skipped += len(some) - known
            write(lines)
        if counts.bad and counts.bad == counts.read:
            raise UserError(f"{source}: all of its {counts.read:,} rows are bad. The first: {counts.messages[0]}")
    report_bad_rows(counts, out.parent, name=f"{out.stem}.{FILE}")
    if text_column is None and files.text_column not in (None, data.text_column):
        logger.info("%s: its column %r was read, for it has none named %r", source, files.text_column, data.text_column)
    tell_unknown(str(source), classify.unknown)
    empty = counts.skipped - counts.bad
    return {"read": counts.read, "predicted": counts.used, "empty": empty, "bad": counts.bad}


def load_classifier(
    folder: Path,
) -> tuple[QuoremForSequenceClassification, PreTrainedTokenizerFast, LabelledDataSettings]:
    """The classifier of a fine-tuning run, its tokenizer, and the settings of the data it was trained on.

    Raises:
        UserError: if there is no classifier, or a damaged one.
    """
    source = folder / "model" if (folder / "model").exists() else folder
    if not (source / "config.json").exists():
        found = (
            "a pre-training run: run quorem finetune on it first"
            if (folder / "discriminator").exists()
            else "no classifier"
        )
        raise UserError(f"{folder}: has {found} (no model/config.json)")
    settings = source.parent / "config.yaml"
    model, tokenizer = load_classifier_model(source).eval(), load_tokenizer(source)
    default = LabelledDataSettings(max_length=min(tokenizer.model_max_length, 512))
    return model, tokenizer, load(FinetuneConfig, settings).data if settings.exists() else default


@dataclass
class _Classify:
    """Texts to the name of each one's most probable class and its probability, or twice None where a text is blank.

    Attributes:
        unknown: a tally of all texts so far.
    """

    model: QuoremForSequenceClassification
    tokenizer: PreTrainedTokenizerFast
    data: LabelledDataSettings
    dtype: torch.dtype | None
    unknown: Unknown = field(default_factory=Unknown)

    def __call__(self, texts: list[str]) -> list[tuple[str, float] | tuple[None, None]]:
        max_length = None if self.model.reads_whole else self.data.max_length
        encoded = encode_rows(
            self.tokenizer, texts, max_length=max_length, truncation=self.data.truncation, unknown=self.unknown
        )
        pad_id = self.tokenizer.pad_token_id
        best = probabilities(self.model, encoded, pad_id=pad_id, batch_size=64, dtype=self.dtype).max(-1)
        return [
            (self.model.config.id2label[label], share) if text.strip() else (None, None)
            for text, share, label in zip(texts, best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def _cells(label: str | None, share: float | None) -> tuple[Any, ...]:
    return label, None if share is None else Number(f"{share:.6f}")  # the same digits in every format
