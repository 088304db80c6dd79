"""Write rows as CSV (RFC 4180), or with tabs where the name of the file ends in .tsv."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from quorem.data.writers.cell import to_field
from quorem.data.writers.line import Head, Line, Write
from quorem.files import new_text


@contextmanager
def write_csv(path: Path, head: Head) -> Iterator[Write]:
    """A CSV to fill; see `to_field` for its values. It has a header where columns have names.

    Raises:
        UserError: if the file exists, or another process is writing it.
    """
    with new_text(path) as file:
        writer, names = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","), head.names
        if head.named:
            writer.writerow([to_field(column.name) for column in head.all])

        def write(lines: Sequence[Line]) -> None:
            for before, row, after in lines:
                fields = (*before.values(), *row.values(names), *after.values())
                writer.writerow(map(to_field, fields))

        yield write
