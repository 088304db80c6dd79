"""Write answers as the JSON that SQuAD's official evaluation reads: an object from the ids of questions to answers."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from quorem.data.writers.line import Head, Line, Write
from quorem.errors import UserError
from quorem.files import new_text

ID = "id"


@contextmanager
def write_squad(path: Path, head: Head) -> Iterator[Write]:
    """A JSON file to fill. What is predicted first of a row is its answer; a row without one gets "".

    Raises:
        UserError: if the file exists, or another process is writing it; while writing, for a row without an id, or with
            one that another row has.
    """
    with new_text(path) as file:
        seen = set[str]()
        file.write("{")

        def write(lines: Sequence[Line]) -> None:
            for _, row, after in lines:
                names = [*row.keys] if row.keys else head.names
                value = dict(zip(names, row.values(names), strict=True)).get(ID)
                if value is None or str(value) in seen:
                    wrong = "no id" if value is None else f"the id {value!r}, which another row has"
                    raise UserError(f"{path}: row {row.number} has {wrong}: write a .jsonl or .csv instead of a .json")
                answer = next(iter(after.values()), None)
                file.write(",\n" if seen else "\n")
                file.write(
                    f"{json.dumps(str(value), ensure_ascii=False)}: {json.dumps(answer or '', ensure_ascii=False)}"
                )
                seen.add(str(value))

        yield write
        file.write("\n}\n")
