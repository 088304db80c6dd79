"""How much of the data is read, by every reader, and what is shown of it."""

import gzip
import itertools
import json
import logging

import pytest

from quorem.config.settings import ReadingSettings
from quorem.data import progress
from quorem.data.dataset import DatasetSource
from quorem.data.documents import RowCounts
from quorem.data.progress import Progress
from quorem.data.source import Source

TEXTS = [f"the film number {number} was {'very ' * (number % 7)}good" for number in range(20_000)]


def write_csv(path):
    path.write_text("".join(["text,other\n", *(f'"{text}",x\n' for text in TEXTS)]))


def write_gzip(path):
    with gzip.open(path, "wt", compresslevel=0) as file:  # larger than what Python 3.12 reads ahead of it, 128 KB
        file.writelines(f"{text}\n" for text in TEXTS)


def write_jsonl(path):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))


def write_text(path):
    path.write_text("".join(f"{text}\n" for text in TEXTS))


def write_parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": TEXTS}), path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", write_csv),
        ("a.txt.gz", write_gzip),
        ("a.jsonl", write_jsonl),
        ("a.txt", write_text),
        ("a.parquet", write_parquet),
    ],
)
def test_the_share_read_grows_with_the_documents_over_files_of_any_format(tmp_path, name, write):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / name)
    column = None if ".txt" in name else "text"
    source = Source.of(ReadingSettings(path=str(tmp_path / "*" / name)), text_column=column)
    counts = RowCounts()
    assert source.share_read(counts) == 0.0
    shares = [source.share_read(counts) for _ in source.documents(counts)]
    assert counts.used == len(shares) == 2 * len(TEXTS)
    assert all(late >= early for early, late in itertools.pairwise(shares))
    off = max(abs(share - number / len(shares)) for number, share in enumerate(shares, start=1))
    assert off < 0.15  # a buffer is read ahead: 256 KB of gzip at most
    assert source.share_read(counts) == 1.0


def test_files_that_are_read_whole_count_by_their_bytes(tmp_path):
    for number, words in enumerate([10, 20, 70]):
        (tmp_path / f"{number}.txt").write_text("word " * words)
    source, counts = Source.of(ReadingSettings(path=str(tmp_path), format="folder"), text_column=None), RowCounts()
    assert [round(source.share_read(counts), 2) for _ in source.documents(counts)] == pytest.approx([0.1, 0.3, 1.0])


def test_rows_from_python_count_by_their_number():
    source, counts = DatasetSource.of_rows([{"text": text} for text in TEXTS[:4]]), RowCounts()
    assert [source.share_read(counts) for _ in source.documents(counts)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([0.0, 0.25], "20 documents, 300 tokens, 30 tokens/s, 25 % read, about 30 s left"),
        ([0.5, 0.75], "20 documents, 300 tokens, 30 tokens/s, 75 % read, about 10 s left"),
        ([0.0, 0.0], "20 documents, 300 tokens, 30 tokens/s"),
        ([None, None], "20 documents, 300 tokens, 30 tokens/s"),
    ],
)
def test_the_time_left_follows_from_the_share_read_since_it_began(monkeypatch, caplog, shares, said):
    times, found = iter([100.0, 110.0]), iter(shares)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(progress, "SECONDS_TO_LOG", 5)
    caplog.set_level(logging.INFO, "quorem")
    shown = Progress("to shards", lambda: next(found))
    shown.show(20, tokens=300)
    shown.close()
    assert [record.getMessage() for record in caplog.records] == [f"to shards: {said}"]
