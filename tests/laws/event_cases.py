"""Logs of events to read, and what is read of them."""

import csv

import pytest

from quorem.config.settings import TextDataSettings
from quorem.data.documents import RowCounts
from quorem.data.events.source import source_of

pytest.importorskip("duckdb", reason="logs of events need duckdb: pip install 'quorem[events]'")

COLUMNS = {"user_column": "user", "item_column": "item", "time_column": "time"}


def log_of(path, **given):
    return source_of(TextDataSettings(path=str(path), **(COLUMNS | given)), text_column=None)


def read(source):
    counts = RowCounts()
    documents = list(source.documents(counts))
    assert counts.read == counts.used + counts.skipped
    assert counts.skipped >= counts.bad + sum(counts.left_out.values())
    return [document.text.split("\t") for document in documents], counts


def write(path, rows, header=("user", "item", "time")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return path
