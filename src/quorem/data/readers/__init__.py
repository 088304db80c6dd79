"""Readers turn a data file into a stream of documents: one file per format, one line per format in `READERS`.

`lines` is what they share. Every reader is called as reader.read(path, text_column=..., label_column=..., counts=...),
with the options it has beside these.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from quorem.data.documents import Document
from quorem.data.readers.compression import COMPRESSIONS
from quorem.data.readers.conll import read_conll, read_conll_table
from quorem.data.readers.csv import read_csv, read_csv_table
from quorem.data.readers.folder import read_folder
from quorem.data.readers.jsonl import read_jsonl, read_jsonl_table
from quorem.data.readers.midi import read_midi
from quorem.data.readers.parquet import read_parquet, read_parquet_table
from quorem.data.readers.squad import read_squad, read_squad_table
from quorem.data.readers.table import Table
from quorem.data.readers.text import read_text, read_text_table
from quorem.errors import check_choice


class Reader(NamedTuple):
    """A format.

    Attributes:
        read: from a file to its documents.
        endings: of the names of its files, lower case; COMPRESSIONS may stand after them.
        has_columns: whether the text is one of several named columns or keys.
        has_more: whether `read` takes more_columns, names of further columns.
        has_splits: whether `read` takes split_column, None or the name of the column that says train or test.
        by_folder: whether a file is a document, labelled by the folder that it is in.
        options: keywords of `read` beside text_column, label_column and counts: settings of section data.
        table: from a file to all that its rows hold, called as table(path, text_columns=..., **options), or with
            text_column=None where the format has no columns, and without bad_rows; None where a file is one document.
    """

    read: Callable[..., Iterator[Document]]
    endings: tuple[str, ...]
    has_columns: bool
    options: tuple[str, ...] = ()
    has_splits: bool = False
    has_more: bool = False
    by_folder: bool = False
    table: Callable[..., Table] | None = None


READERS: dict[str, Reader] = {
    "csv": Reader(
        read_csv,
        (".csv", ".tsv"),
        has_columns=True,
        has_splits=True,
        has_more=True,
        options=("bad_rows", "encoding", "delimiter", "lists", "quoting", "header"),
        table=read_csv_table,
    ),
    "jsonl": Reader(
        read_jsonl,
        (".jsonl", ".ndjson"),
        has_columns=True,
        has_splits=True,
        has_more=True,
        options=("bad_rows", "encoding"),
        table=read_jsonl_table,
    ),
    "text": Reader(
        read_text,
        (".txt",),
        has_columns=False,
        options=("bad_rows", "encoding", "documents", "lists"),
        table=read_text_table,
    ),
    "folder": Reader(read_folder, (".txt",), has_columns=False, by_folder=True, options=("bad_rows", "encoding")),
    "parquet": Reader(
        read_parquet,
        (".parquet",),
        has_columns=True,
        has_splits=True,
        has_more=True,
        options=("bad_rows",),
        table=read_parquet_table,
    ),
    "conll": Reader(
        read_conll,
        (".conll", ".iob", ".iob2", ".bio"),
        has_columns=False,
        has_more=True,
        options=("bad_rows", "encoding"),
        table=read_conll_table,
    ),
    "midi": Reader(
        read_midi,
        (".mid", ".midi", ".kar", ".rmi"),
        has_columns=False,
        by_folder=True,
        options=("bad_rows", "midi", "max_silence"),
    ),
    "squad": Reader(
        read_squad,
        (".json",),
        has_columns=True,
        has_more=True,
        options=("bad_rows", "encoding"),
        table=read_squad_table,
    ),
}
UNSURE = ("folder", "squad")
"""Formats whose endings say little: a .txt file is rather text, and .json may be anything that is no data too."""
FORMATS = {ending: name for name, reader in READERS.items() if name not in UNSURE for ending in reader.endings}
FORMATS[".inter"] = "csv"  # RecBole's logs of events (quorem.data.events)


def known_format(path: str | Path) -> str | None:
    """The key of READERS that the name of a file stands for, None if it stands for none; case does not count."""
    return FORMATS.get(_ending(path))


def may_be_squad(path: str | Path) -> bool:
    """Whether the name of a file is one of SQuAD's JSON, if nothing else says what it is."""
    return _ending(path) in READERS["squad"].endings


def _ending(path: str | Path) -> str:
    name = Path(path).name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).suffix


def choose_format(path: str | Path, chosen: str = "auto") -> str:
    """The key of READERS for a file: the one chosen, or by its name where that is "auto".

    A .json is SQuAD's, and whatever has another name unknown is CSV.

    Args:
        path: the file, which need not exist.
        chosen: a key of READERS, or "auto".

    Raises:
        UserError: for any other choice.
    """
    check_choice("data.format", chosen, ("auto", *READERS))
    if chosen != "auto":
        return chosen
    return known_format(path) or ("squad" if may_be_squad(path) else "csv")


__all__ = ["COMPRESSIONS", "READERS", "Reader", "choose_format", "known_format", "may_be_squad"]
