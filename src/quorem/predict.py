"""Predicting: a fine-tuned run and a CSV give the same CSV with two more columns."""

import csv
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from quorem.classifier import QuoremForSequenceClassification
from quorem.config import load
from quorem.data.readers import READERS, choose_format
from quorem.data.readers.csv import read_csv, read_rows
from quorem.data.readers.dialect import delimiter_of, find_dialect
from quorem.data.readers.encoding import is_utf8_beside
from quorem.data.readers.records import read_records
from quorem.data.readers.session import parse_items
from quorem.data.source import DEFAULT_TEXT_COLUMN
from quorem.errors import UserError
from quorem.files import check_new, new_text
from quorem.pretrained import load_classifier_model
from quorem.settings import FinetuneConfig, LabelledDataSettings
from quorem.tasks.classification import encode_rows, probabilities, tell_unknown
from quorem.tokenization import Unknown, load_tokenizer
from quorem.train import autocast_dtype

logger = logging.getLogger(__name__)

ADDED = ("prediction", "probability")
ROWS_AT_ONCE = 2_000


def predict(
    run: str | Path,
    path: str | Path,
    *,
    text_column: str | None = None,
    out: str | Path,
    precision: str = "auto",
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    header: bool | None = None,
) -> dict[str, int]:
    """Classify every row of a CSV.

    The output has the input's columns and rows, in order, and two more: `prediction`, the most probable class, and
    `probability`, the model's for it. Both stay empty where the text is empty. Rows are streamed; the file appears when
    it is complete.

    Args:
        run: a finished fine-tuning run, or its model folder.
        path: the CSV.
        text_column: its column of text; None for that of the run or, where the file has none of that name, "text".
        out: the CSV to write; must not exist.
        precision: bf16, fp32 or auto.
        encoding: of the CSV, as data.encoding; None for that of the run, or UTF-8 where the file is that.
        delimiter: of the CSV, as data.delimiter; None for that of the run. The output's goes by its name.
        quoting: of the CSV, as data.quoting; None for that of the run. The output's is standard.
        header: whether the CSV has one, as data.header; None for what the run's has. The output has one where it has.

    Returns:
        Number of rows `read`, `predicted` and `empty`.

    Raises:
        UserError: for files that cannot be used.
    """
    path, out = Path(path), Path(out)
    check_new(out)
    model, tokenizer, data = load_classifier(Path(run))
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    kind = choose_format(path)
    if kind in ("jsonl", "parquet"):
        raise UserError(f"{path}: predictions are columns beside those of a CSV: write the texts as one, with a header")
    if kind != "csv":
        READERS[kind].read(path, text_column=text_column or DEFAULT_TEXT_COLUMN)  # says why not
    encoding = encoding or _own_encoding(path, data.encoding)
    reading: dict[str, Any] = {
        "delimiter": delimiter or data.delimiter,
        "encoding": encoding,
        "quoting": quoting or data.quoting,
        "header": data.header if header is None else header,
    }
    found_column = text_column is None
    text_column = text_column or _own_column(path, data.text_column, reading)
    read_csv(path, text_column=text_column, **reading)  # checks the column
    dialect = find_dialect(path, [text_column], **reading)
    names, rows = read_rows(path, dialect=dialect, encoding=encoding)
    taken = [name for name in ADDED if name in names]
    if taken:
        raise UserError(f"{path}: already has a column {taken[0]!r}, which predictions would repeat: rename it")
    index, dtype = names.index(text_column), autocast_dtype(precision, model.device)
    counts, unknown = {"read": 0, "predicted": 0, "empty": 0}, Unknown()
    with new_text(out) as file:
        writer = csv.writer(file, delimiter=delimiter_of(out))
        if dialect.header:
            writer.writerow([*names, *ADDED])
        for fields in _grouped(rows):
            texts = [row[index] for row in fields]
            if data.lists:
                texts = [
                    parse_items(f"{path}, row {number}: column {text_column!r}", text)
                    for number, text in enumerate(texts, start=counts["read"] + 1)
                ]
            max_length = None if model.reads_whole else data.max_length
            encoded = encode_rows(tokenizer, texts, max_length=max_length, truncation=data.truncation, unknown=unknown)
            shares = probabilities(model, encoded, pad_id=tokenizer.pad_token_id, batch_size=64, dtype=dtype)
            best = shares.max(-1)
            for row, text, share, label in zip(fields, texts, best.values.tolist(), best.indices.tolist(), strict=True):
                known = bool(text.strip())
                counts["predicted" if known else "empty"] += 1
                writer.writerow([*row, *((model.config.id2label[label], f"{share:.6f}") if known else ("", ""))])
            counts["read"] += len(fields)
    if found_column and text_column != data.text_column:
        logger.info("%s: its column %r was read, for it has none named %r", path, text_column, data.text_column)
    tell_unknown(path, unknown)
    return counts


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


def _own_encoding(path: Path, of_run: str | None) -> str | None:
    """That of the run, unless the file is UTF-8, which is told."""
    if of_run is None or not is_utf8_beside(path, of_run):
        return of_run
    logger.warning("%s: is valid UTF-8 and read as that, not in the run's data.encoding=%s", path, of_run)
    return None


def _own_column(path: Path, of_run: str, reading: dict[str, Any]) -> str:
    """That of the run or, if the file has none of that name but one named text, the latter."""
    for name in (of_run, DEFAULT_TEXT_COLUMN):
        if name in read_records(path, find_dialect(path, [name], **reading), reading["encoding"])[0]:
            return name
    return of_run


def _grouped(rows: Iterator[tuple[int, list[str]]]) -> Iterator[list[list[str]]]:
    while group := [fields for _, fields in islice(rows, ROWS_AT_ONCE)]:
        yield group
