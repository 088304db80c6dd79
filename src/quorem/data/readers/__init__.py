"""Readers turn a data file into a stream of documents: one file per format, one line per format in `READERS`.

`lines` is what they share. Every reader is called as reader(path, text_column=..., label_column=..., counts=...).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from quorem.data.documents import Document
from quorem.data.readers.csv import read_csv
from quorem.data.readers.jsonl import read_jsonl
from quorem.data.readers.text import read_text
from quorem.errors import check_choice

READERS: dict[str, Callable[..., Iterator[Document]]] = {
    "csv": read_csv,
    "jsonl": read_jsonl,
    "text": read_text,
}
ENDINGS = {".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # of names, .gz aside; all others are CSV


def choose_format(path: str | Path, chosen: str = "auto") -> str:
    """The key of READERS for a file: the one chosen, or by its name where that is "auto".

    Names that end in .txt are text, those in .jsonl or .ndjson JSON Lines, all others CSV; a .gz after it and the case
    of letters do not count.

    Args:
        path: the file, which need not exist.
        chosen: a key of READERS, or "auto".

    Raises:
        UserError: for any other choice.
    """
    check_choice("data.format", chosen, ("auto", *READERS))
    if chosen != "auto":
        return chosen
    return ENDINGS.get(Path(Path(path).name.lower().removesuffix(".gz")).suffix, "csv")


__all__ = ["READERS", "choose_format"]
