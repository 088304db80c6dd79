"""Write rows as JSON Lines: an object in each line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quorem.data.readers.jsonl import JsonRow
from quorem.data.writers.cell import to_json
from quorem.data.writers.line import Head, Line, Write
from quorem.files import new_text


@contextmanager
def write_jsonl(path: Path, head: Head) -> Iterator[Write]:
    """A JSON Lines file to fill. An object that was read from one keeps its values exactly as they are written.

    Raises:
        UserError: if the file exists, or another process is writing it.
    """
    with new_text(path) as file:
        names = head.names

        def write(lines: Sequence[Line]) -> None:
            for before, row, after in lines:
                inside = row.body[1:-1].strip() if isinstance(row, JsonRow) else _pairs(names, row.values(names))
                parts = (_pairs(before, before.values()), inside, _pairs(after, after.values()))
                file.write("{" + ", ".join(filter(None, parts)) + "}\n")

        yield write


def _pairs(names: Any, values: Any) -> str:
    return ", ".join(f"{to_json(name)}: {to_json(value)}" for name, value in zip(names, values, strict=True))
