"""A small file of each format with rows: what every law of READERS is tried on. And the readers by name."""

import csv
import io
import json
from collections.abc import Callable
from typing import NamedTuple

from quorem.data.readers import READERS

read_csv, read_jsonl, read_text, read_folder, read_parquet, read_midi = (
    READERS[name].read for name in ("csv", "jsonl", "text", "folder", "parquet", "midi")
)


class Case(NamedTuple):
    """A format.

    Attributes:
        write: from texts to the bytes of a file with a row for each.
        text_column: the column that they are in; None for a format without columns.
        shown: from a text that was written to the one that is read.
    """

    write: Callable[[list[str]], bytes]
    text_column: str | None = None
    shown: Callable[[str], str] = str


def csv_of(texts: list[str]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([["text"], *([text] for text in texts)])
    return file.getvalue().encode()


def parquet_of(texts: list[str]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": texts}), file)
    return file.getvalue()


def squad_of(texts: list[str]) -> bytes:
    questions = [{"id": str(number), "question": text, "answers": []} for number, text in enumerate(texts)]
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": questions}]}]}).encode()


CASES = {
    "csv": Case(csv_of, "text"),
    "jsonl": Case(lambda texts: "\n".join(json.dumps({"text": text}) for text in texts).encode(), "text"),
    "squad": Case(squad_of, "question"),
    "text": Case(lambda texts: "\n".join(texts).encode()),
    "parquet": Case(parquet_of, "text"),
    "conll": Case(
        lambda texts: "\n\n".join(text.replace(" ", " X\n") + " X" for text in texts).encode(),
        shown=lambda text: json.dumps(text.split(), ensure_ascii=False),
    ),
}
