"""Writers turn the rows of tables into a file: one file per format, one line per format in `WRITERS`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from quorem.data.writers.conll import write_conll
from quorem.data.writers.csv import write_csv
from quorem.data.writers.jsonl import write_jsonl
from quorem.data.writers.line import Head, Line, Write
from quorem.data.writers.parquet import write_parquet
from quorem.data.writers.squad import write_squad
from quorem.errors import UserError


class Writer(NamedTuple):
    """A format.

    Attributes:
        open: from a file that does not exist and a `Head` to what takes the rows; it appears when it is complete.
        endings: of the names of its files, lower case.
        needs_columns: whether all columns must be known before the first row.
        of_words: whether rows must be words with a tag for each.
        of_answers: whether what is predicted must be answers to questions.
        repeats: whether several columns may have one name.
    """

    open: Callable[[Path, Head], AbstractContextManager[Write]]
    endings: tuple[str, ...]
    needs_columns: bool = True
    repeats: bool = False
    of_words: bool = False
    of_answers: bool = False

    def writes(self, *, words: bool, answers: bool) -> bool:
        """Whether it writes predictions of a task, which may be tags of words, or answers."""
        return (words or not self.of_words) and (answers or not self.of_answers)


WRITERS: dict[str, Writer] = {
    "csv": Writer(write_csv, (".csv", ".tsv"), repeats=True),
    "jsonl": Writer(write_jsonl, (".jsonl", ".ndjson"), needs_columns=False),
    "parquet": Writer(write_parquet, (".parquet",)),
    "conll": Writer(write_conll, (".conll", ".iob2"), of_words=True),
    "squad": Writer(write_squad, (".json",), needs_columns=False, of_answers=True),
}


def choose_writer(path: Path, *, words: bool = False, answers: bool = False) -> Writer:
    """The writer of a file by the ending of its name, in which case does not count; without an ending CSV's.

    Args:
        path: the file.
        words: whether rows are words with a tag for each, which CoNLL has too.
        answers: whether what is predicted are answers, which SQuAD's JSON has too.

    Raises:
        UserError: for another ending.
    """
    ending = path.suffix.lower()
    writers = [writer for writer in WRITERS.values() if writer.writes(words=words, answers=answers)]
    for writer in writers:
        if ending in writer.endings:
            return writer
    if not ending:
        return WRITERS["csv"]
    *others, last = (each for writer in writers for each in writer.endings)
    raise UserError(
        f"{path}: nothing is written as {path.suffix}: choose a name that ends in {', '.join(others)} or {last}"
    )


__all__ = ["WRITERS", "Head", "Line", "Write", "Writer", "choose_writer"]
