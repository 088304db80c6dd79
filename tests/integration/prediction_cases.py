"""Tables to predict, in every format, and what comes of them."""

import csv
import json

import pytest

from quorem.data.writers import WRITERS

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ENDINGS = [
    ending for writer in WRITERS.values() if writer.writes(words=False, answers=False) for ending in writer.endings
]
ROWS = [
    {"id": "1", "review": "the film was good", "note": 'a "quoted", note'},
    {"id": "2", "review": "", "note": "no text"},
    {"id": "3", "review": "  ", "note": ""},
    {"id": "4", "review": "Ein schöner Film 映画\nover two lines", "note": "\ud55c"},
]
PREDICTED = [True, False, False, True]


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read(path):
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    return read_csv(path) if path.suffix in (".csv", ".tsv") else read_lines(path)


def write(path, rows=ROWS):
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def check(found, known):
    """Predictions are there where they should be; returns the rows without them."""
    for row, there in zip(found, known, strict=True):
        label, probability = row.pop("prediction"), row.pop("probability")
        assert (label in ("negative", "positive")) == there
        assert 0.5 <= float(probability) <= 1 if there else probability in (None, "")
    return found
