"""Predictions of whatever fine-tuning reads, written by the name's ending: every row, every column, every value."""

import datetime
import json
import shutil
from decimal import Decimal

import pytest
from prediction_cases import ENDINGS, PREDICTED, ROWS, check, read, read_csv, read_lines, write

from quorem.data.readers import READERS
from quorem.tasks.predict import predict

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("source", ENDINGS)
def test_any_columns_to_any_format(quorem, tmp_path, classifier, source, ending):
    path, out = write(tmp_path / f"in{source}"), tmp_path / "new" / f"out{ending.upper()}"
    outcome = quorem("predict", classifier, path, "--out", out)
    assert outcome.code == 0, outcome
    assert outcome.out == f"{out}: 4 rows, 2 predicted, 2 left blank (empty text)\n"
    found = read(out.rename(tmp_path / f"out{ending}"))
    assert list(found[0]) == ["id", "review", "note", "prediction", "probability"]
    assert check(found, PREDICTED) == ROWS
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"in{source}", "new", f"out{ending}"])


def test_the_same_digits_in_every_format(tmp_path, classifier):
    found = []
    for ending in ENDINGS:
        counts = predict(classifier, write(tmp_path / "in.jsonl"), out=tmp_path / f"out{ending}")
        assert counts == {"read": 4, "predicted": 2, "empty": 2, "bad": 0}
        found.append([str(row["probability"] or "") for row in read(tmp_path / f"out{ending}")])
    assert [[float(share or 0) for share in shares] for shares in found] == [[float(s or 0) for s in found[0]]] * 5


@pytest.mark.parametrize("name", ["out.txt", "out.csv.gz", "out.xlsx"])
def test_other_endings_are_refused_before_anything_else(refused, tmp_path, name):
    (tmp_path / "no run").mkdir()
    (tmp_path / "no data").touch()
    line = refused("predict", tmp_path / "no run", tmp_path / "no data", "--out", tmp_path / name)
    assert "choose a name that ends in .csv, .tsv, .jsonl, .ndjson, .parquet, .conll, .iob2 or .json" in line
    assert f"{name}: nothing is written as {(tmp_path / name).suffix}" in line


def test_of_a_run_that_is_not_finished_the_seeds_that_are_predict_and_it_is_said(quorem, refused, tmp_path, classifier):
    run, path = tmp_path / "run", write(tmp_path / "in.csv")
    run.mkdir()
    shutil.copyfile(classifier / "config.yaml", run / "config.yaml")
    line = refused("predict", run, path, "--out", tmp_path / "out.csv")
    assert f"{run}: this run is not finished, so it has no model yet: run the same command again to resume" in line
    shutil.copytree(classifier, run / "seed-0")
    (run / "seed-1").mkdir()
    outcome = quorem("predict", run, path, "--out", tmp_path / "out.csv")
    assert outcome.code == 0
    assert f"{run}: not all of its seeds are finished: this is by the 1 that are" in outcome.err
    assert check(read(tmp_path / "out.csv"), PREDICTED)


# ---- values


def test_json_lines_keep_every_value_as_it_is_written(quorem, tmp_path, classifier):
    objects = [
        '{"review":"good", "n": 1.50, "big": 123456789012345678901234567890, "e": 1E400, "a": [1, {"b": null}]}',
        '  {"x": "\\ud800\\u0000", "nan": NaN, "inf": -Infinity, "review" : null}\t',
        '{"review": ["a", 7, "good film"], "more": {"deep": {"er": ["\\u00e9", "é"]}}}',
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("\n\n".join(objects) + "\n", encoding="utf-8")
    outcome = quorem("predict", classifier, path, "--out", tmp_path / "out.jsonl")
    assert "3 rows, 2 predicted, 1 left blank" in outcome.out
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [line.partition(', "prediction": ')[0] for line in lines] == [each.strip()[:-1] for each in objects]
    assert lines[1].endswith('"review" : null, "prediction": null, "probability": null}')
    assert json.loads(lines[2])["prediction"] in ("negative", "positive")


def test_json_lines_to_columns(tmp_path, classifier):
    path, deep = tmp_path / "in.jsonl", "[" * 400 + "]" * 400
    path.write_text(
        '{"review": "good", "n": 1, "x": 1.50, "flag": true, "mixed": 1, "a": [1.50, {"b": null}], "none": null}\n'
        '{"n": 3, "big": 12345678901234567890, "x": 2, "review": "bad", "mixed": "one", "odd": "a\\ud800\\u0000b"}\n'
        f'{{"review": null, "x": NaN, "flag": null, "deep": {deep}}}\n',
        encoding="utf-8",
    )
    predict(classifier, path, out=tmp_path / "out.csv")
    found = check(read_csv(tmp_path / "out.csv"), [True, True, False])
    names = ["review", "n", "x", "flag", "mixed", "a", "none", "big", "odd", "deep"]
    assert [list(row) for row in found] == [names] * 3
    assert list(found[0].values()) == ["good", "1", "1.50", "true", "1", '[1.50, {"b": null}]', "", "", "", ""]
    assert list(found[1].values())[-3:] == ["12345678901234567890", "a\\ud800\\u0000b", ""]
    assert list(found[2].values()) == ["", "", "", "", "", "", "", "", "", deep]
    predict(classifier, path, out=tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    kinds = {"n": "int64", "x": "double", "flag": "bool", "probability": "double"}
    assert {field.name: str(field.type) for field in table.schema} == {
        **dict.fromkeys([*names, "prediction"], "string"),
        **kinds,
    }
    found = check(table.to_pylist(), [True, True, False])
    assert list(found[0].values()) == ["good", 1, 1.5, True, "1", '[1.50, {"b": null}]', None, None, None, None]
    assert list(found[2].values())[:4] == [None, None, None, None]


def typed():
    """A table of many types, with metadata."""
    when = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)
    columns = {
        "review": pyarrow.array(["good", None, "bad"]),
        "int": pyarrow.array([1, None, -3], pyarrow.int8()),
        "float": pyarrow.array([0.5, float("nan"), float("inf")], pyarrow.float32()),
        "when": pyarrow.array([when, None, when], pyarrow.timestamp("ns", tz="Europe/Berlin")),
        "day": pyarrow.array([when.date()] * 3),
        "decimal": pyarrow.array([Decimal("1.50"), None, Decimal("2.00")]),
        "bytes": pyarrow.array([b"a", b"\xff", None]),
        "class": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
        "list": pyarrow.array([[1, None], [], None], pyarrow.list_(pyarrow.int16())),
        "struct": pyarrow.array([{"a": 1, "b": when}, None, {"a": None, "b": None}]),
        "map": pyarrow.array([[("k", 1)], [], None], pyarrow.map_(pyarrow.string(), pyarrow.int32())),
    }
    fields = [pyarrow.field(name, column.type, metadata={"of": name}) for name, column in columns.items()]
    return pyarrow.table(columns, pyarrow.schema(fields, metadata={"made": "here"}))


def test_parquet_keeps_its_schema(tmp_path, classifier):
    table = typed()
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    predict(classifier, tmp_path / "in.parquet", out=tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")
    expected = parquet.read_table(tmp_path / "in.parquet")
    assert str(found.select(table.schema.names).to_pylist()) == str(expected.to_pylist())  # NaN is not equal to itself
    assert found.schema.names == [*table.schema.names, "prediction", "probability"]
    assert found.schema.metadata == {b"made": b"here"}
    assert all(found.schema.field(name).equals(expected.schema.field(name), True) for name in table.schema.names)
    assert found.column("prediction").to_pylist()[1] is None


def test_parquet_as_text(tmp_path, classifier):
    parquet.write_table(typed(), tmp_path / "in.parquet")
    for ending, rows in ((".csv", read_csv), (".jsonl", read_lines)):
        predict(classifier, tmp_path / "in.parquet", out=tmp_path / f"out{ending}")
        first, second, _ = check(rows(tmp_path / f"out{ending}"), [True, False, True])
        plain = ending == ".csv"
        assert first["when"] == "2024-02-29T13:30:00+01:00"
        assert (first["day"], first["decimal"], first["class"]) == ("2024-02-29", "1.50", "x")
        assert (first["int"], first["float"]) == (("1", "0.5") if plain else (1, 0.5))
        assert (second["float"], second["bytes"]) == ("" if plain else None, "/w==")
        struct = {"a": 1, "b": "2024-02-29T12:30:00+00:00"}
        assert (json.loads(first["struct"]) if plain else first["struct"]) == struct
        assert (json.loads(first["map"]) if plain else first["map"]) == [["k", 1]]
        assert first["list"] == ("[1, null]" if plain else [1, None])


def test_a_parquet_file_is_written_in_pieces(tmp_path, classifier, monkeypatch):
    monkeypatch.setattr("quorem.data.writers.parquet.GROUP_ROWS", 50)
    monkeypatch.setattr("quorem.finetuning.predict.ROWS_AT_ONCE", 30)
    rows = [{"review": f"film {number}", "n": number} for number in range(500)]
    for ending in (".parquet", ".jsonl"):
        predict(classifier, write(tmp_path / f"in{ending}", rows), out=tmp_path / f"from{ending}.parquet")
        file = parquet.ParquetFile(tmp_path / f"from{ending}.parquet")
        assert file.num_row_groups == 9
        assert [row["n"] for row in file.read().to_pylist()] == list(range(500))


# ---- bad rows


BAD = {
    "a.csv": ("review,id\ngood,1\nbad\nbad,2,3\ngood,4\n", ["row 2 (line 3)", "row 3 (line 4)"]),
    "a.jsonl": (
        '{"review": "good"}\n{"review": 1, "review": 2}\n[1]\n{"review": "a\\u0000"}\n{"review": "x"}\n',
        ["line 2: the key 'review' is in an object twice", "line 3: a list", "line 4: the value of 'review' has a NUL"],
    ),
    "a.txt": ("good\nb\rad\ngood\n", ["line 2: a carriage return"]),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_bad_rows_are_errors_or_skipped_and_listed(quorem, refused, tmp_path, classifier, half_written, name, ending):
    content, messages = BAD[name]
    path, out = tmp_path / name, tmp_path / "out" / f"p{ending}"
    path.write_bytes(content.encode())
    assert f"{path}, {messages[0]}" in refused("predict", classifier, path, "--out", out)
    assert not out.exists()
    assert half_written(out.parent) == []
    outcome = quorem("predict", classifier, path, "--out", out, "--bad-rows", "skip")
    assert outcome.code == 0, outcome
    read_in_all = 2 + len(messages)
    assert (
        f"{read_in_all} rows, 2 predicted, 0 left blank (empty text), {len(messages)} bad and left out" in outcome.out
    )
    assert len(check(read(out), [True, True])) == 2
    listed = (tmp_path / "out" / "p.bad_rows.txt").read_text().splitlines()
    assert len(listed) == len(messages)
    assert all(message in line for message, line in zip(messages, listed, strict=True))
    assert f"skipped: {listed[0]}" in outcome.err


def test_where_every_row_is_bad_there_is_no_output(refused, tmp_path, classifier):
    (tmp_path / "a.jsonl").write_text("1\n2\n")
    words = ("predict", classifier, tmp_path / "a.jsonl", "--out", tmp_path / "o.jsonl", "--bad-rows")
    assert "all of its 2 rows are bad. The first: " in refused(*words, "skip")
    assert "data.bad_rows=drop: unknown" in refused(*words, "drop")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_columns_of_predictions_are_not_repeated(refused, tmp_path, classifier):
    (tmp_path / "a.jsonl").write_text('{"review": "good"}\n{"review": "good", "prediction": 1}\n')
    for ending in (".jsonl", ".csv"):
        line = refused("predict", classifier, tmp_path / "a.jsonl", "--out", tmp_path / f"o{ending}")
        assert "already has a column 'prediction'" in line
    write(tmp_path / "a.parquet", [{"review": "good", "probability": 1}])
    words = ("predict", classifier, tmp_path / "a.parquet", "--out", tmp_path / "o.parquet")
    assert "already has a column 'probability'" in refused(*words)


def test_columns_of_one_name_are_for_csv(refused, quorem, tmp_path, classifier):
    (tmp_path / "a.csv").write_text("review,a,a\ngood,1,2\n")
    words = ("predict", classifier, tmp_path / "a.csv", "--out")
    assert "has several columns 'a', which .jsonl has no room for" in refused(*words, tmp_path / "o.jsonl")
    assert quorem(*words, tmp_path / "o.csv").code == 0
    assert (tmp_path / "o.csv").read_text().startswith("review,a,a,prediction,probability\ngood,1,2,")


# ---- what the run knows


def test_options_have_to_fit_the_format(refused, quorem, tmp_path, classifier):
    run = shutil.copytree(classifier, tmp_path / "run")
    settings = (run / "config.yaml").read_text()
    assert "delimiter: null" in settings
    (run / "config.yaml").write_text(settings.replace("delimiter: null", "delimiter: ;"))
    path = write(tmp_path / "a.jsonl")
    assert quorem("predict", run, path, "--out", tmp_path / "o.csv").code == 0  # the run's is of CSVs alone
    line = refused("predict", run, path, "--delimiter", ";", "--out", tmp_path / "p.csv")
    assert "data.delimiter=; has no meaning for data.format=jsonl" in line


def test_the_runs_format_is_that_of_names_that_say_nothing(quorem, refused, tmp_path, classifier):
    run = shutil.copytree(classifier, tmp_path / "run")
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace("format: auto", "format: jsonl"))
    path = write(tmp_path / "a.jsonl").rename(tmp_path / "a.json")
    assert quorem("predict", run, path, "--out", tmp_path / "o.csv").code == 0
    assert quorem("predict", classifier, path, "--out", tmp_path / "p.csv", "--format", "jsonl").code == 0
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()
    assert quorem("predict", run, write(tmp_path / "a.csv"), "--out", tmp_path / "q.csv").code == 0
    assert "name it .jsonl" in refused("predict", classifier, path, "--out", tmp_path / "r.csv")


def test_every_format_of_data_can_be_predicted():
    """Of a reader without tables a file is a document."""
    assert {name for name, reader in READERS.items() if reader.by_folder} == {"folder", "midi"}
