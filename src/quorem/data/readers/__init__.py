"""Readers turn a data file into a stream of documents: one file per format, one line per format in `READERS`."""

from collections.abc import Callable, Iterator

from quorem.data.documents import Document
from quorem.data.readers.csv import read_csv

READERS: dict[str, Callable[..., Iterator[Document]]] = {"csv": read_csv}

__all__ = ["READERS"]
