"""Readers turn a data file into a stream of documents: one file per format, one line per format in `READERS`.

`lines` is what they share. Every reader is called as reader(path, text_column=..., label_column=..., counts=...).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from quorem.data.documents import Document
from quorem.data.readers.csv import read_csv
from quorem.data.readers.text import read_text
from quorem.errors import check_choice

READERS: dict[str, Callable[..., Iterator[Document]]] = {"csv": read_csv, "text": read_text}


def choose_format(path: str | Path, chosen: str = "auto") -> str:
    """The key of READERS for a file: the one chosen, or by its name where that is "auto".

    Names that end in .txt or .txt.gz are text, all others CSV, in either case of letters.

    Args:
        path: the file, which need not exist.
        chosen: a key of READERS, or "auto".

    Raises:
        UserError: for any other choice.
    """
    check_choice("data.format", chosen, ("auto", *READERS))
    if chosen != "auto":
        return chosen
    return "text" if Path(path).name.lower().endswith((".txt", ".txt.gz")) else "csv"


__all__ = ["READERS", "choose_format"]
