"""Predicting: a fine-tuned run and data files give the rows of these with two more columns."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from quorem.classifier import QuoremForSequenceClassification
from quorem.config import load
from quorem.data.bad_rows import BAD_ROWS, FILE, BadRow, report_bad_rows
from quorem.data.documents import RowCounts
from quorem.data.joined import Joined
from quorem.data.readers import known_format
from quorem.data.readers.encoding import is_utf8_beside
from quorem.data.readers.table import FILE_COLUMN, Column, TableRow
from quorem.data.readers.value import Number
from quorem.data.source import DEFAULT_TEXT_COLUMN, Source, find_files, find_format, options_for
from quorem.data.writers import Head, Line, Writer, choose_writer
from quorem.errors import UserError, check_choice
from quorem.files import check_new
from quorem.finetuning.checkpoint import load_classifier_model
from quorem.settings import FinetuneConfig, LabelledDataSettings, ReadingSettings
from quorem.tasks.classification import encode_rows, probabilities, tell_unknown
from quorem.tokenization import Unknown, load_tokenizer
from quorem.train import autocast_dtype

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
    source = _source(path, format, text_column, data, given)
    files = _joined(source, text_column, data, own_encoding=encoding is None)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    classify = _Classify(model, tokenizer, data, autocast_dtype(precision, model.device))
    counts, head = RowCounts(), _head(source, files, out, writer)
    with writer.open(out, head) as write:
        rows = _good_rows(files, counts, bad_rows)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            found = classify([row.text or "" for _, row in some])
            lines = [_line(head, file, row, said) for (file, row), said in zip(some, found, strict=True)]
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


def _source(
    path: str | Path | Sequence[str | Path],
    chosen: str,
    text_column: str | None,
    data: LabelledDataSettings,
    given: dict[str, Any],
) -> Source:
    """The files, with the run's options as far as their format has them, and those given instead.

    Raises:
        UserError: if there are no such files, they have several formats, or an option given has no meaning for theirs.
    """
    place = str(path) if isinstance(path, str | Path) else [str(each) for each in path]
    place = place[0] if isinstance(place, list) and len(place) == 1 else place
    files, found = find_format(place, _choose_format(place, chosen, data.format))
    of_run = {name: value for name, value in options_for(data, found).items() if name != "bad_rows"}
    settings = ReadingSettings(path=[str(file) for file in files], format=found, **of_run | given)
    return Source.of(settings, text_column=text_column)


def _choose_format(path: str | list[str], chosen: str, of_run: str) -> str:
    """The format given, or the run's where the names of files say nothing, or several things of which it is one."""
    if chosen != "auto" or of_run == "auto":
        return chosen
    named = {known_format(file) for file in find_files(path)}
    return of_run if named == {None} or (len(named) > 1 and of_run in named) else chosen


def _joined(source: Source, text_column: str | None, data: LabelledDataSettings, *, own_encoding: bool) -> Joined:
    """The files as one table, each UTF-8 file read as that unless an encoding was given."""

    @cache  # a file is opened several times, and told once
    def encoding_of(file: Path) -> str | None:
        of_run = source.options.get("encoding")
        return _own_encoding(file, of_run) if own_encoding else of_run

    def options_of(file: Path) -> dict[str, Any]:
        return source.options | ({"encoding": encoding_of(file)} if "encoding" in source.options else {})

    columns = [text_column] if text_column is not None else [data.text_column, DEFAULT_TEXT_COLUMN]
    return Joined(source, columns, options_of=options_of)


def _head(source: Source, files: Joined, out: Path, writer: Writer) -> Head:
    """The columns of the output, as far as the writer needs to know them.

    Raises:
        UserError: for columns that are not alike, or would be there twice.
    """
    columns = files.columns(needed=writer.needs_columns)
    names = [column.name for column in columns]
    for added in ADDED:
        if added.name in names:
            raise _taken(str(source), added.name)
    before = [FILE_COLUMN] if len(source.files) > 1 and FILE_COLUMN.name not in names else []
    head = Head(before, columns, ADDED, files.named, files.metadata)
    if not writer.repeats and len(set(names)) < len(names):
        last = {name: place for place, name in enumerate(names)}
        twice = next(name for place, name in enumerate(names) if last[name] != place)
        raise UserError(
            f"{source}: has several columns {twice!r}, which {out.suffix} has no room for: rename them, or write a .csv"
        )
    return head


def _good_rows(files: Joined, counts: RowCounts, bad_rows: str) -> Iterator[tuple[Path, TableRow]]:
    """The rows that can be read, each with its file; `counts` tells how many were read, and which were bad.

    Raises:
        UserError: for a bad row unless they are skipped, and for one that has a key of those added.
    """
    for file, row in files.rows():
        if isinstance(row, BadRow):
            if bad_rows == "error":
                raise row
            counts.skip_bad(str(row))
            continue
        for added in ADDED:
            if added.name in row.keys:
                raise _taken(f"{file}, line {row.number}", added.name)
        counts.read += 1
        yield file, row


def _line(head: Head, file: Path, row: TableRow, found: tuple[str, float] | tuple[None, None]) -> Line:
    """A row with its file, where there are several and the row has no such key, and what was found."""
    before = {} if not head.before or FILE_COLUMN.name in row.keys else {FILE_COLUMN.name: str(file)}
    label, share = found
    probability = None if share is None else Number(f"{share:.6f}")  # the same digits in every format
    return Line(before, row, dict(zip((column.name for column in ADDED), (label, probability), strict=True)))


def _taken(place: str, name: str) -> UserError:
    return UserError(f"{place}: already has a column {name!r}, which predictions would repeat: rename it")


def _own_encoding(path: Path, of_run: str | None) -> str | None:
    """That of the run, unless the file is UTF-8, which is told."""
    if of_run is None or not is_utf8_beside(path, of_run):
        return of_run
    logger.warning("%s: is valid UTF-8 and read as that, not in the run's data.encoding=%s", path, of_run)
    return None
