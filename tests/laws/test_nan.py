"""NaN, as pandas writes what is missing, is no text and no class."""

import json
import math
from decimal import Decimal

import pytest
from reader_cases import read_jsonl, read_parquet

from quorem.data.dataset import DatasetSource
from quorem.data.documents import RowCounts
from quorem.data.readers.value import to_text
from quorem.errors import UserError
from quorem.finetuning.labels import label_names, not_nan

NAN = math.nan
ROWS = [("a", 1.0), (NAN, 0.0), ("b", NAN), ("c", 0.0), (NAN, NAN), ("NaN", 1.0)]  # the last is a word
KEPT = [("a", "1.0"), ("c", "0.0"), ("NaN", "1.0")]


def found(documents, counts):
    rows = [(document.text, document.label) for document in documents]
    assert (counts.read, counts.used, counts.skipped, counts.bad) == (6, 3, 3, 0)
    return rows


def test_json_lines_leave_it_out_and_count_it(tmp_path):
    path, counts = tmp_path / "a.jsonl", RowCounts()
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    assert found(read_jsonl(path, text_column="text", label_column="label", counts=counts), counts) == KEPT


def test_parquet_does_too(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, counts = tmp_path / "a.parquet", RowCounts()
    numbers = pa.array([label for _, label in ROWS], pa.float64(), from_pandas=False)
    texts = pa.array([None if text is NAN else text for text, _ in ROWS])
    pq.write_table(pa.table({"text": texts, "label": numbers}), path)
    assert found(read_parquet(path, text_column="text", label_column="label", counts=counts), counts) == KEPT
    pq.write_table(pa.table({"text": pa.array([1.5, NAN], from_pandas=False)}), path)
    assert [document.text for document in read_parquet(path, text_column="text")] == ["1.5"]


def test_rows_from_python_do_too():
    counts = RowCounts()
    source = DatasetSource.of_rows([{"text": text, "label": label} for text, label in ROWS], label_column="label")
    assert found(source.documents(counts), counts) == KEPT
    (document,) = DatasetSource.of_rows([{"text": ["a", NAN, "b"]}]).documents()
    assert document.text == "a\tb"


@pytest.mark.parametrize("value", [NAN, -NAN, Decimal("NaN"), None])
def test_it_is_no_text(value):
    assert to_text("here", value) is None


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1.0"), (math.inf, "inf"), (Decimal("1.50"), "1.50"), ("nan", "nan")]
)
def test_everything_else_is(value, text):
    assert to_text("here", value) == text


def test_among_numbers_the_word_is_no_class(caplog):
    labels = ["1", "nan", "0.0", "NaN", "1"]
    kept = not_nan(labels)
    assert kept == [0, 2, 4]
    assert label_names([labels[place] for place in kept]) == ["0.0", "1"]
    assert "2 rows are left out: their label is NaN" in caplog.text


@pytest.mark.parametrize("labels", [["nan", "pita", "nan"], ["1", "0", "1"]])
def test_among_words_it_is_one(labels, caplog):
    assert not_nan(labels) == [0, 1, 2]
    assert not caplog.records


def test_nothing_but_nan_is_refused():
    with pytest.raises(UserError):
        label_names([["nan", "nan"][place] for place in not_nan(["nan", "nan"])])
