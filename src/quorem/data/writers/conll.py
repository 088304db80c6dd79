"""Write sentences as CoNLL: a line for each word, its predicted tag in the last column."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quorem.data.readers.conll import Sentence
from quorem.data.readers.table import TableRow
from quorem.data.writers.line import Head, Line, Write
from quorem.errors import UserError
from quorem.files import new_text

BREAKS = re.compile(r"[\t\r\n]")


@contextmanager
def write_conll(path: Path, head: Head) -> Iterator[Write]:
    """A CoNLL file to fill; a sentence that was read from one keeps its columns.

    Raises:
        UserError: if the file exists, or another process is writing it; while writing, for a row that is no words with
            a tag for each.
    """
    with new_text(path) as file:

        def write(lines: Sequence[Line]) -> None:
            for _, row, after in lines:
                words, tags = _words(row), next(iter(after.values()), None)
                if not isinstance(tags, list) or len(tags) != len(words):
                    raise UserError(f"{path}: row {row.number} has no tag for each word: write a .jsonl or .csv")
                blank = [each[0] for each in words if not each[0].strip()]
                if wrong := [*blank, *(field for each in words for field in each if BREAKS.search(field))]:
                    raise UserError(
                        f"{path}: row {row.number} has the word {wrong[0]!r}, for which a line of CoNLL has no room: "
                        "write a .jsonl or .csv"
                    )
                fields = ("\t".join([*before, tag]) + "\n" for before, tag in zip(words, tags, strict=True))
                file.write("".join(fields) + "\n")

        yield write


def _words(row: TableRow) -> list[list[str]]:
    """The fields before the tag, for each word."""
    if isinstance(row, Sentence):
        return list(row.lines)
    text = row.text or ""
    try:
        found: Any = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError:
        found = None
    words = found if isinstance(found, list) else text.split("\t") if "\t" in text else text.split()
    return [[str(word)] for word in words]
