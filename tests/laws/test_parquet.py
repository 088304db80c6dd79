"""Parquet, folders of text files, and rows from Python."""

import pytest
from reader_cases import read_parquet

from quorem.config.finetuning import LabelledDataSettings
from quorem.config.settings import DataSettings
from quorem.data.dataset import DatasetSource
from quorem.data.documents import Document, RowCounts
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.finetuning.rows import choose_rows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_become_text_and_nulls_are_counted(tmp_path):
    words = pa.array(["x", "y", "x"]).dictionary_encode()
    path = write(
        tmp_path / "a.parquet",
        text=["é", None, " "],
        kind=words,
        n=[1, 2, 3],
        ok=[True] * 3,
        many=[["a", None, "b"]] * 3,
    )
    counts = RowCounts()
    assert list(read_parquet(path, text_column="text", label_column="kind", counts=counts)) == [Document("é", "x", 1)]
    assert counts == RowCounts(3, 1, 2)
    for column, expected in (("n", "1"), ("ok", "true"), ("many", "a\tb")):
        assert next(read_parquet(path, text_column=column)).text == expected
    with pytest.raises(UserError, match="Did you mean text"):
        read_parquet(path, text_column="texd")


def test_rows_with_odd_characters_are_named_or_skipped_and_counted(tmp_path):
    path = write(tmp_path / "a.parquet", text=["a", "b\0", "c"], many=[["x"], ["y\tz"], ["w"]])
    for column, words in (("text", "row 2: column 'text' has a NUL"), ("many", "row 2: column 'many' has an item")):
        with pytest.raises(UserError, match=words):
            list(read_parquet(path, text_column=column))
        counts = RowCounts()
        assert [d.row for d in read_parquet(path, text_column=column, bad_rows="skip", counts=counts)] == [1, 3]
        assert (counts.read, counts.used, counts.skipped, counts.bad) == (3, 2, 1, 1)


def test_large_and_viewed_strings_are_texts(tmp_path):
    for kind in (pa.large_string(), pa.string_view()):
        path = write(tmp_path / "a.parquet", text=pa.array(["é", None, "x"], kind))
        assert [document.text for document in read_parquet(path, text_column="text")] == ["é", "x"]


def test_what_is_no_text_and_damaged_files_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", text=[{"a": 1}])
    with pytest.raises(UserError, match="is of type struct"):
        read_parquet(path, text_column="text")
    for content in (b"", b"text\na\n", path.read_bytes()[:-20]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged or not Parquet"):
            read_parquet(path, text_column="text")


def test_a_folder_gives_labels_and_splits(tmp_path):
    for name in ("train/pos/a", "train/neg/b", "test/pos/c", "test/neg/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(f"line\n{name}")
    (tmp_path / "train" / "urls.txt").write_text("no document")
    (tmp_path / "test" / "pos" / "e.txt").write_text(" ")
    counts = RowCounts()
    source = Source.of(LabelledDataSettings(path=str(tmp_path)), text_column="text", label_column="label")
    found = [(d.label, d.split) for d in source.documents(counts)]
    assert found == [("neg", "test"), ("pos", "test"), ("neg", "train"), ("pos", "train")]
    assert counts == RowCounts(6, 4, 2)
    lines = Source.of(DataSettings(path=str(tmp_path), format="text"), text_column=None)
    assert lines.format == "text"


def test_splits_choose_the_rows():
    training, held_out, names = choose_rows(LabelledDataSettings(), ["train", "test", "train"], "data")
    assert (training.tolist(), held_out.tolist(), names) == ([0, 2], [1], ["test"])
    for splits, words in ((["train", "tset"], "tset"), (["train", None], "''"), (["train"], "needed")):
        with pytest.raises(UserError, match=words):
            choose_rows(LabelledDataSettings(), splits, "data")


def test_a_dataset_is_a_source():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "", "b"], "label": [1, 0, 0]}, features=features)
    source = DatasetSource.of_rows(rows, label_column="label")
    assert [(d.text, d.label) for d in source.documents()] == [("a", "yes"), ("b", "no")]
    assert source.fingerprint() == source.fingerprint()
    with pytest.raises(UserError, match="can be read once"):
        DatasetSource.of_rows(iter([{"text": "a"}]))
