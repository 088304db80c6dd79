"""Readers turn a data file into a stream of documents, or into a table: one file per format, one line in `READERS`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BAD_ROWS, BadRow
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.compression import COMPRESSIONS
from quorem.data.readers.conll import open_conll
from quorem.data.readers.csv import open_csv
from quorem.data.readers.jsonl import open_jsonl
from quorem.data.readers.midi import check_midi, open_midi
from quorem.data.readers.parquet import open_parquet
from quorem.data.readers.paths import follow_paths, warn_of_path
from quorem.data.readers.session import warn_of_list
from quorem.data.readers.squad import open_squad
from quorem.data.readers.table import ColumnNames, Table, TableRow
from quorem.data.readers.tally import to_documents
from quorem.data.readers.text import open_text
from quorem.data.readers.whole import open_folder
from quorem.errors import UserError, check_choice


@dataclass(frozen=True)
class Reader:
    """A format.

    Attributes:
        open: from a file and `ColumnNames` to its `Table`; called as open(path, names, counts=..., **options).
        endings: of the names of its files, lower case; COMPRESSIONS may stand after them.
        options: keywords of `open` beside counts: settings of section data.
        has_columns: whether the text is one of several named columns or keys, of which another may say train or test.
        has_more: whether further columns may be read.
        by_folder: whether a file is a document, labelled by the folder that it is in.
        no_columns: the end of the error for a column that is given although the format has none.
        unusable: the end of the error where no row can be used; {what} is text, or text or label.
        empty: the end of the error for a file without rows.
    """

    open: Callable[..., Table]
    endings: tuple[str, ...]
    options: tuple[str, ...] = ()
    has_columns: bool = False
    has_more: bool = False
    by_folder: bool = False
    no_columns: str = ""
    unusable: str = ""
    empty: str = ""

    def read(
        self,
        path: str | Path,
        *,
        text_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        more_columns: Sequence[str] = (),
        counts: RowCounts | None = None,
        bad_rows: str = "error",
        paths: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[Document]:
        """The documents of a file, in file order; deterministic. One is in memory at a time.

        Rows whose text, or label where `label_column` is given, is empty or only whitespace are skipped and counted.

        Args:
            path: the file, packed if its name ends in .gz or .zst.
            text_column: the column or key of the texts; None in formats without columns.
            label_column: that of the class names; None for unlabelled documents. Where folders are labels, its name
                does not count.
            split_column: that which says train or test; None for none.
            more_columns: further ones, for `Document.more`; lists and objects are JSON there.
            counts: a tally to keep up to date while streaming.
            bad_rows: error, or skip: a row that cannot be read is left out and counted. A broken quote of a CSV
                swallows what follows up to the next quote or the end; each row swallowed is a bad one.
            paths: how MIDI files are spelled (`midi_text`), if the texts are paths of such files; otherwise None.
            options: those of the format.

        Raises:
            UserError: at the call for a column or option that cannot be, if the file is missing, a folder, unreadable,
                damaged or empty, or if its first row is bad; while streaming for a bad row; at the end if no row can be
                used. Bad rows are no error if they are skipped.
        """
        check_choice("data.bad_rows", bad_rows, BAD_ROWS)
        path, counts = Path(path), RowCounts() if counts is None else counts
        self._check_columns(path, text_column, None if self.by_folder else label_column)
        text = () if text_column is None else (text_column,)
        table = self.open(path, ColumnNames(text, label_column, split_column, more_columns), counts=counts, **options)
        labelled = label_column is not None
        unusable = self.unusable.format(what="text or label" if labelled else "text")
        if paths is not None:
            check_midi(**paths)
            table = replace(table, rows=follow_paths(path, table.rows, counts=counts, labelled=labelled, **paths))
            unusable = "rows have no text, or name a file without notes: check the paths."
        table, bad = _begun(table)
        if bad is not None and bad_rows == "error":
            raise bad
        rows = self._warned(path, table.rows, lists=bool(options.get("lists")), paths=paths is not None)
        return to_documents(
            path, rows, labelled=labelled, counts=counts, bad_rows=bad_rows, unusable=unusable, empty=self.empty
        )

    def table(
        self, path: Path, *, text_columns: Sequence[str] = (), counts: RowCounts | None = None, **options: Any
    ) -> Table:
        """The file as a table with everything that its rows hold, to be written again.

        Args:
            path: the file.
            text_columns: names of which the first that the file has is its column of text; empty in formats without.
            counts: a tally of warnings.
            options: those of the format.

        Raises:
            UserError: as `read` does at the call, except for a bad first row.
        """
        self._check_columns(path, *text_columns)
        table = self.open(path, ColumnNames(text_columns, whole=True), counts=counts, **options)
        return table if self.by_folder else _begun(table)[0]

    def _warned(
        self, path: Path, rows: Iterator[TableRow | BadRow], *, lists: bool, paths: bool
    ) -> Iterator[TableRow | BadRow]:
        """The rows, and a warning if the first text is a list or a path that is not read as one."""
        for row in rows:
            if isinstance(row, TableRow) and row.text and row.text.strip():
                if "lists" in self.options and not lists:
                    warn_of_list(path, row)
                if self.has_columns and not paths and known_format(row.text.strip()) == "midi":
                    warn_of_path(path, row)
                yield from chain([row], rows)
                return
            yield row

    def _check_columns(self, path: Path, *columns: str | None) -> None:
        if not self.has_columns and (given := [repr(name) for name in columns if name is not None]):
            raise UserError(f"{path} {self.no_columns.format(columns=' or '.join(given))}")


def _begun(table: Table) -> tuple[Table, BadRow | None]:
    """The table with its file open, so that dropping it unread closes it; and its first row if that is bad."""
    first = next(table.rows, None)
    rows = chain([] if first is None else [first], table.rows)
    return replace(table, rows=rows), first if isinstance(first, BadRow) else None


READERS: dict[str, Reader] = {
    "csv": Reader(
        open_csv,
        (".csv", ".tsv"),
        ("encoding", "delimiter", "lists", "quoting", "header"),
        has_columns=True,
        has_more=True,
        unusable="data rows have an empty {what}: check the file and the column names.",
        empty="has a header but no data rows: add rows below line 1.",
    ),
    "jsonl": Reader(
        open_jsonl,
        (".jsonl", ".ndjson"),
        ("encoding",),
        has_columns=True,
        has_more=True,
        unusable="lines are blank or have a blank {what}: check the file.",
    ),
    "text": Reader(
        open_text,
        (".txt",),
        ("encoding", "documents", "lists"),
        no_columns="is read as plain text, a document a line: it has no column {columns}. Columns, labels too, need a "
        "CSV: if this is one, name it .csv, or set data.format=csv to pre-train; otherwise leave the column out.",
        unusable="lines are blank: write one document in each line.",
        empty="has blank lines only: write one document in each paragraph.",
    ),
    "folder": Reader(
        open_folder,
        (".txt",),
        ("encoding",),
        by_folder=True,
        no_columns="is read as one document: it has no column {columns}: leave the column out, or set data.format if "
        "its rows are the documents.",
    ),
    "parquet": Reader(
        open_parquet,
        (".parquet",),
        has_columns=True,
        has_more=True,
        unusable="rows have an empty {what}: check the file and the column names.",
        empty="has no rows: write some.",
    ),
    "conll": Reader(
        open_conll,
        (".conll", ".iob", ".iob2", ".bio"),
        ("encoding",),
        has_more=True,
        no_columns="is read as CoNLL: its columns have no names, so leave {columns} out",
        unusable="sentences have no word: write a word in each line.",
        empty="has no sentence: write a word in each line.",
    ),
    "midi": Reader(
        open_midi,
        (".mid", ".midi", ".kar", ".rmi"),
        ("midi", "max_silence"),
        by_folder=True,
        no_columns="is read as MIDI, a document a file: it has no column {columns}: leave the column out; where a CSV "
        "has the paths of MIDI files in a column, read the CSV with data.paths=true.",
    ),
    "squad": Reader(
        open_squad,
        (".json",),
        ("encoding",),
        has_columns=True,
        has_more=True,
        unusable="questions have a blank {what}: check the file.",
        empty="has no question.",
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
