"""Tables, columns and arrays of other libraries as data, and as what a model is asked."""

import numpy as np
import pytest

import quorem as package
from quorem.config.settings import TextDataSettings
from quorem.data.dataset import DatasetSource
from quorem.data.events.source import EventSource
from quorem.errors import UserError

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow", reason="needs quorem[parquet]")

ROWS = [{"text": "a good film", "label": "x"}, {"text": "a bad film", "label": "y"}, {"text": None, "label": "x"}]


@pytest.mark.parametrize("table", [pandas.DataFrame(ROWS), pyarrow.Table.from_pylist(ROWS)], ids=["pandas", "arrow"])
def test_a_table_is_its_rows(table):
    found = list(DatasetSource.of_rows(table, text_column="text", label_column="label").documents())
    assert [(each.text, each.label) for each in found] == [("a good film", "x"), ("a bad film", "y")]


@pytest.mark.parametrize("texts", [pandas.Series(["a", "b"]), np.array(["a", "b"])], ids=["series", "array"])
def test_a_column_is_texts(texts):
    found = list(DatasetSource.of_rows(texts, text_column="text").documents())
    assert [each.text for each in found] == ["a", "b"]


def test_a_list_of_texts_is_not_taken_for_files(tmp_path):
    with pytest.raises(UserError, match="A list of texts is no data: give rows"):
        package.pretrain(["a film", "another"], tmp_path / "run", size="tiny", steps=1)


def test_models_are_asked_about_columns(pretrained, classifier):
    encoder, model, texts = package.load(pretrained), package.load(classifier), ["good", "bad film"]
    frame = pandas.DataFrame({"text": texts, "label": ["x", "y"]})
    for given in (frame.text, np.array(texts), iter(texts)):
        assert encoder.encode(given).shape[0] == 2
    assert model.predict(frame.text) == model.predict(iter(texts)) == model.predict(texts)
    for table in (frame, {"text": texts}):
        with pytest.raises(UserError, match="has several columns: give the one to read"):
            encoder.encode(table)
        with pytest.raises(UserError, match="has several columns: give the one to read"):
            model.predict(table)


def test_a_table_of_events_is_a_log():
    pytest.importorskip("duckdb", reason="needs quorem[events]")
    events = {"user": ["u", "u", "v"], "item": ["a", "b", "a"], "time": pandas.to_datetime(["2024-01-02"] * 3)}
    data = TextDataSettings(user_column="user", item_column="item", time_column="time")
    assert [each.text for each in EventSource.of_rows(pandas.DataFrame(events), data).documents()] == ["a\tb", "a"]
