"""Write vectors to a file: of rows of data, or of all tokens."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from quorem.bars import bar
from quorem.config.finetuning import LabelledDataSettings
from quorem.data.bad_rows import BAD_ROWS, FILE, report_bad_rows
from quorem.data.documents import RowCounts
from quorem.data.extended import find_source, good_rows, head_of, join, line_of
from quorem.data.joined import JoinedFiles
from quorem.data.readers.table import Column, TableRow
from quorem.data.readers.value import Number
from quorem.data.source import Source
from quorem.data.writers import Head, Line, choose_writer
from quorem.errors import UserError, check_choice, check_number
from quorem.files import check_new, new_bytes, new_text
from quorem.finetuning.checkpoint import model_folder
from quorem.finetuning.rows import tell_unknown, with_midi_of_run
from quorem.models.checkpoint_files import read_config
from quorem.recommending.recommend import ROWS_ENCODED, known_ids, load_recommender
from quorem.tokenization import Unknown, encode
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training.device import autocast_dtype
from quorem.vectors.encoder import POOLINGS, encode_texts, load_encoder
from quorem.vectors.tokens import token_table, token_vectors

logger = logging.getLogger(__name__)

ADDED = (Column("vector", "vector"),)
ROWS_AT_ONCE = 2_000
NPY, WORD2VEC = ".npy", (".vec", ".txt")


def embed(
    run: str | Path,
    path: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    text_column: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    precision: str = "auto",
    format: str = "auto",
    bad_rows: str = "error",
) -> dict[str, int]:
    """Write a vector for each row of data files, in order.

    Of a model of the next item it is what its softmax is asked with, after the row's last item; of all others the
    encoder's vectors, pooled (`quorem.vectors.encoder.encode_texts`). A row without text has a vector too, that of
    no text, so that rows and vectors stay side by side. Rows are streamed; the output appears when it is complete.

    Args:
        run: any run, or a model folder.
        path: the data: a file, a folder, a pattern such as data/*.csv, or several of these.
        out: the file to write, which must not exist: .npy for the vectors alone, float32 (rows, width), or .parquet,
            .jsonl, .csv and .tsv for all columns and a column `vector` (a list; JSON in a CSV).
        text_column: its column of text; None for "text".
        pooling: sif, mean, first or max; None as in `encode_texts`.
        max_length: tokens of a text that are read; the model's limit if None.
        precision: bf16, fp32 or auto.
        format: of the data, as data.format.
        bad_rows: error, or skip: rows that cannot be read are left out, counted, and listed beside the output.

    Returns:
        Number of rows `read`, `written` and `bad`, and the `width` of a vector.

    Raises:
        UserError: for files that cannot be used.
    """
    out = Path(out)
    check_new(out)
    if pooling is not None:
        check_choice("--pooling", pooling, POOLINGS)
    check_choice("data.bad_rows", bad_rows, BAD_ROWS)
    check_number("--max-length", max_length, at_least=1)
    if out.suffix.lower() != NPY:
        choose_writer(out)
    unknown = Unknown()
    vectors = _vectors_of(Path(run), pooling, max_length, precision, unknown)
    data, counts, width = with_midi_of_run(LabelledDataSettings(), run), RowCounts(), 0
    source = find_source(path, format, text_column, data, {})
    files = join(source, text_column, data, own_encoding=True)
    with _rows_and_vectors(out, source, files) as write, bar(unit="row") as progress:
        rows = good_rows(files, counts, bad_rows, () if out.suffix.lower() == NPY else ADDED)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            found = vectors([row.text or "" for _, row in some])
            write(some, found)
            width, counts.used = found.shape[1], counts.used + len(some)
            progress.update(len(some))
        if counts.bad and counts.bad == counts.read:
            raise UserError(f"{source}: all of its {counts.read:,} rows are bad. The first: {counts.messages[0]}")
        if not counts.used:
            raise UserError(f"{source}: has no rows: give a file with some")
    report_bad_rows(counts, out.parent, name=f"{out.stem}.{FILE}")
    tell_unknown(str(source), unknown)
    return {"read": counts.read, "written": counts.used, "bad": counts.bad, "width": width}


def embed_tokens(run: str | Path, out: str | Path) -> dict[str, int]:
    """Write the vector of every token but the special ones, in the order of their ids.

    Args:
        run: any run, or a model folder.
        out: the file to write, which must not exist: .vec or .txt (word2vec's text format, which gensim and others
            read), .npy (float32 (tokens, width); their names stand in a .tokens.txt beside it), or .parquet, .jsonl,
            .csv and .tsv with columns `token` and `vector`.

    Returns:
        Number of `tokens`, and the `width` of a vector.

    Raises:
        UserError: if there is no model, or the file cannot be written.
    """
    out = Path(out)
    check_new(out)
    kind = out.suffix.lower()
    writer = None if kind in (NPY, *WORD2VEC) else choose_writer(out)
    table, tokenizer = token_table(run)
    pieces, number = token_vectors(table, tokenizer), 0
    if kind in WORD2VEC:
        with new_text(out) as file:
            file.write(f"{len(tokenizer) - SPECIAL_IDS} {table.dim}\n")
            for names, found in pieces:
                for name, vector in zip(names, found.tolist(), strict=True):
                    file.write(f"{_without_spaces(name)} {' '.join(f'{value:.6g}' for value in vector)}\n")
                number += len(names)
    elif writer is None:
        names_file = out.with_suffix(".tokens.txt")
        check_new(names_file)
        with new_text(names_file) as file, _npy(out) as write:  # the vectors, which take longer, are whole first
            for names, found in pieces:
                write(found)
                file.writelines(f"{_without_spaces(name)}\n" for name in names)
                number += len(names)
    else:
        with writer.open(out, Head([], [Column("token")], ADDED)) as write_lines:
            for names, found in pieces:
                write_lines([
                    Line({}, TableRow(place, cells=[name]), {"vector": _numbers(vector)})
                    for place, (name, vector) in enumerate(zip(names, found, strict=True), number + 1)
                ])  # fmt: skip
                number += len(names)
    return {"tokens": number, "width": table.dim}


def _vectors_of(
    run: Path, pooling: str | None, max_length: int | None, precision: str, unknown: Unknown
) -> Callable[[list[str]], Tensor]:
    """From texts to their vectors float32 (n, D), by the kind of model; what it does not know of them is tallied."""
    place = model_folder(run)
    if "QuoremForNextItem" in (read_config(place).architectures or []):
        if pooling is not None:
            raise UserError(f"--pooling {pooling}: a run of next_item has one vector for each row: leave it out")
        average, items, data = load_recommender(run)
        (model,) = average.models
        if torch.accelerator.is_available():
            model.to(torch.accelerator.current_accelerator())
        how: dict[str, Any] = {
            "max_items": max_length or data.max_items,
            "dtype": autocast_dtype(precision, model.device),
        }

        def after(texts: list[str]) -> Tensor:
            rows = encode(items, texts)
            unknown.add(items, texts, rows, range(1, len(rows) + 1))
            known = [known_ids([ids]) for ids in rows]
            parts = [known[start : start + ROWS_ENCODED] for start in range(0, len(known), ROWS_ENCODED)]
            return torch.cat([model.vectors(part, **how).cpu() for part in parts])

        return after
    network, tokenizer = load_encoder(place)
    if torch.accelerator.is_available():
        network.to(torch.accelerator.current_accelerator())
    dtype = autocast_dtype(precision, network.device)
    return lambda texts: encode_texts(
        network, tokenizer, texts, pooling=pooling, max_length=max_length, dtype=dtype, unknown=unknown
    )


@contextmanager
def _rows_and_vectors(
    out: Path, source: Source, files: JoinedFiles
) -> Iterator[Callable[[list[tuple[Path, TableRow]], Tensor], None]]:
    """A file to fill with vectors, and with the rows that they are of where its format holds more than numbers."""
    if out.suffix.lower() == NPY:
        with _npy(out) as write_vectors:
            yield lambda _, found: write_vectors(found)
        return
    writer = choose_writer(out)
    head = head_of(source, files, out, writer, ADDED)
    with writer.open(out, head) as write_lines:
        yield lambda some, found: write_lines(
            [line_of(head, file, row, [_numbers(vector)]) for (file, row), vector in zip(some, found, strict=True)]
        )


@contextmanager
def _npy(path: Path) -> Iterator[Callable[[Tensor], None]]:
    """A .npy of rows whose number is known at the end only: they wait in a file without a name."""
    with new_bytes(path) as file, TemporaryFile(dir=path.parent) as waiting:
        shape = [0, 0]

        def write(rows: Tensor) -> None:
            shape[0], shape[1] = shape[0] + len(rows), rows.shape[1]
            waiting.write(np.ascontiguousarray(rows.numpy(), dtype="<f4").tobytes())

        yield write
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)})
        waiting.seek(0)
        _copy(waiting, file)


def _copy(source: Any, target: BinaryIO) -> None:
    while piece := source.read(2**20):
        target.write(piece)


def _numbers(vector: Tensor) -> list[Number]:
    return [Number(f"{value:.7g}") for value in vector.tolist()]  # as many digits as a float32 has


def _without_spaces(token: str) -> str:
    """A token as formats that split lines at spaces can hold it."""
    return "".join("\u2581" if character.isspace() else character for character in token)
