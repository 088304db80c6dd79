"""Predictions of whatever fine-tuning reads, written by the name's ending: every row, every column, every value."""

import csv
import datetime
import gzip
import json
import os
import shutil
from decimal import Decimal

import pytest

from quorem.data.readers import READERS
from quorem.data.writers import WRITERS
from quorem.tasks.predict import predict

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ENDINGS = [ending for writer in WRITERS.values() if not writer.of_words for ending in writer.endings]
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


@pytest.mark.parametrize("name", ["out.txt", "out.csv.gz", "out.json", "out.xlsx"])
def test_other_endings_are_refused_before_anything_else(refused, tmp_path, name):
    line = refused("predict", tmp_path / "no run", tmp_path / "no data", "--out", tmp_path / name)
    assert "choose a name that ends in .csv, .tsv, .jsonl, .ndjson, .parquet, .conll or .iob2" in line
    assert f"{name}: nothing is written as {(tmp_path / name).suffix}" in line


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


# ---- what has no columns, and several files


def test_a_text_file_is_a_row_for_each_line(quorem, tmp_path, classifier):
    path = tmp_path / "in.txt.gz"
    path.write_bytes(gzip.compress(b"the film was good\n\n a, bad one \n"))
    assert quorem("predict", classifier, path, "--out", tmp_path / "out.csv").code == 0
    found = check(read_csv(tmp_path / "out.csv"), [True, False, True])
    assert found == [
        {"line": "1", "text": "the film was good"},
        {"line": "2", "text": ""},
        {"line": "3", "text": " a, bad one "},
    ]
    predict(classifier, path, out=tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").column("line").to_pylist() == [1, 2, 3]


def test_a_folder_of_texts_is_a_row_for_each_file(quorem, tmp_path, classifier):
    folder = tmp_path / "texts"
    for name, text in {"pos/a.txt": "good", "neg/b.txt": " \n", "c.txt.gz": "bad\nfilm"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    outcome = quorem("predict", classifier, folder, "--out", tmp_path / "out.csv")
    assert "3 rows, 2 predicted, 1 left blank" in outcome.out
    found = check(read_csv(tmp_path / "out.csv"), [True, False, True])
    assert found == [{"file": str(folder / name)} for name in ("c.txt.gz", "neg/b.txt", "pos/a.txt")]
    line = read_lines_of(quorem, classifier, folder / "pos" / "a.txt", tmp_path, "--format", "folder")
    assert line == [{"file": str(folder / "pos" / "a.txt")}]
    (folder / "d.txt").write_bytes(b"caf\xe9 noir")
    words = ("predict", classifier, folder, "--out", tmp_path / "skipped.csv", "--bad-rows", "skip")
    outcome = quorem(*words)
    assert "4 rows, 2 predicted, 1 left blank (empty text), 1 bad and left out" in outcome.out
    assert str(folder / "d.txt") in (tmp_path / "skipped.bad_rows.txt").read_text()


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_of_files_that_are_no_text_are_escaped(quorem, tmp_path, classifier, ending):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, content in ((b"a\xff.txt", b"good"), (b"b\xff.txt", b"caf\xe9"), (b"c\nd.txt", b"bad")):
        (folder / os.fsdecode(name)).write_bytes(content)
    outcome = quorem("predict", classifier, folder, "--bad-rows", "skip", "--out", tmp_path / f"out{ending}")
    assert "3 rows, 2 predicted, 0 left blank (empty text), 1 bad" in outcome.out, outcome
    found = check(read(tmp_path / f"out{ending}"), [True, True])
    odd = "a\udcff.txt" if ending in (".jsonl", ".ndjson") else "a\\udcff.txt"
    assert [row["file"] for row in found] == [f"{folder}/{odd}", f"{folder}/c\nd.txt"]
    assert "b\\udcff.txt, line 1" in (tmp_path / "out.bad_rows.txt").read_text()


def read_lines_of(quorem, classifier, path, folder, *more):
    out = folder / "lines.jsonl"
    assert quorem("predict", classifier, path, "--out", out, *more).code == 0
    return check(read_lines(out), [True])


@pytest.fixture
def tunes(tmp_path):
    """A folder with a MIDI file, one without notes and one that is none."""
    symusic = pytest.importorskip("symusic")
    folder = tmp_path / "tunes"
    folder.mkdir()
    for name, pitches in (("a.mid", [60, 64]), ("b.mid", [])):
        score = symusic.Score(480)
        track = symusic.Track("piano")
        for place, pitch in enumerate(pitches):
            track.notes.append(symusic.Note(place * 480, 240, pitch, 90))
        score.tracks.append(track)
        score.dump_midi(str(folder / name))
    (folder / "c.mid").write_bytes(b"no tune")
    return folder


def test_a_folder_of_midi_files_names_each(quorem, refused, tmp_path, classifier, tunes):
    words = ("predict", classifier, tunes, "--out", tmp_path / "out.csv")
    assert f"{tunes / 'c.mid'} is damaged or not MIDI" in refused(*words)
    outcome = quorem(*words, "--bad-rows", "skip")
    assert "3 rows, 1 predicted, 1 left blank (empty text), 1 bad and left out" in outcome.out
    found = check(read_csv(tmp_path / "out.csv"), [True, False])
    assert found == [{"file": str(tunes / name)} for name in ("a.mid", "b.mid")]
    assert (tmp_path / "out.bad_rows.txt").read_text().startswith(f"{tunes / 'c.mid'} is damaged")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_table_of_paths_is_followed_as_in_the_run(quorem, refused, tmp_path, classifier, tunes, ending):
    run = shutil.copytree(classifier, tmp_path / "run")
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace("paths: false", "paths: true").replace("midi: remi", "midi: tsd"))
    rows = [{"review": name, "n": name[:1]} for name in ("a.mid", "b.mid", "", "none.mid", "c.mid")]
    path = write(tunes / f"all{ending}", rows)
    words = ("predict", run, path, "--out", tmp_path / "out.csv")
    assert f"{path}, row 4: {tunes / 'none.mid'} does not exist" in refused(*words)
    outcome = quorem(*words, "--bad-rows", "skip")
    assert "5 rows, 1 predicted, 2 left blank (empty text), 2 bad and left out" in outcome.out, outcome
    assert check(read_csv(tmp_path / "out.csv"), [True, False, False]) == rows[:3]
    assert (
        quorem("predict", run, tunes, "--format", "midi", "--bad-rows", "skip", "--out", tmp_path / "f.csv").code == 0
    )
    shares = [read_csv(tmp_path / name)[0]["probability"] for name in ("out.csv", "f.csv")]
    assert shares[0] == shares[1]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("how", ["folder", "pattern", "names"])
def test_the_rows_of_several_files_say_which(quorem, tmp_path, classifier, ending, how):
    folder = tmp_path / "data"
    folder.mkdir()
    paths = [write(folder / f"{name}{ending}", ROWS[:2]) for name in "ba"]
    place = {"folder": [folder], "pattern": [f"{folder}/*{ending}"], "names": paths}[how]
    for out in (tmp_path / "out.csv", tmp_path / "out.jsonl", tmp_path / "out.parquet"):
        outcome = quorem("predict", classifier, *place, "--out", out)
        assert outcome.code == 0, outcome
        found = check(read(out), PREDICTED[:2] * 2)
        assert list(found[0]) == ["file", "id", "review", "note"]
        order = paths if how == "names" else paths[::-1]
        assert [row.pop("file") for row in found] == [str(path) for path in order for _ in range(2)]
        assert found == ROWS[:2] * 2


def test_a_column_of_that_name_stays(tmp_path, classifier):
    for ending in (".csv", ".jsonl"):
        rows = [{"review": "good", "file": "mine"}]
        paths = [write(tmp_path / f"{name}{ending}", rows) for name in "ab"]
        for out in (tmp_path / f"{ending[1:]}.csv", tmp_path / f"{ending[1:]}.jsonl"):
            predict(classifier, paths, out=out)
            assert check(read(out), [True, True]) == rows * 2


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("review,id,more\n", "it has 'more' too"),
        ("id\n", "no column 'review'"),
        ("review\n", "it has no 'id'"),
        ("id,review\n", "they stand in another order (id, review)"),
    ],
)
def test_files_of_other_columns_are_named(refused, tmp_path, classifier, other, words):
    (tmp_path / "a.csv").write_text("review,id\ngood,1\n")
    (tmp_path / "b.csv").write_text(other + "x\n")
    line = refused("predict", classifier, tmp_path / "a.csv", tmp_path / "b.csv", "--out", tmp_path / "out.csv")
    assert f"{tmp_path / 'b.csv'}: " in line
    assert words in line


def test_parquet_files_of_other_types_are_named(refused, quorem, tmp_path, classifier):
    write(tmp_path / "a.parquet", [{"review": "good", "n": 1}])
    write(tmp_path / "b.parquet", [{"review": "good", "n": "1"}])
    words = ("predict", classifier, tmp_path, "--out", tmp_path / "out.csv")
    assert "'n' is string, and int64 there" in refused(*words)
    fields = [pyarrow.field("review", pyarrow.string(), nullable=False), pyarrow.field("n", pyarrow.int64())]
    table = pyarrow.table({"review": ["good"], "n": [2]}, pyarrow.schema(fields))
    parquet.write_table(table, tmp_path / "b.parquet")
    for paths in (("a.parquet", "b.parquet"), ("b.parquet", "a.parquet")):
        out = tmp_path / f"{paths[0]}.parquet"
        assert quorem("predict", classifier, *[tmp_path / path for path in paths], "--out", out).code == 0
        assert parquet.read_schema(out).field("review").nullable
        out.unlink()


def test_json_lines_of_several_files_need_not_have_the_same_keys(tmp_path, classifier):
    paths = [
        write(tmp_path / "a.jsonl", [{"review": "good", "n": None}, {"review": "bad", "x": 1}]),
        write(tmp_path / "b.jsonl", [{"n": 2, "review": "good"}]),
    ]
    predict(classifier, paths, out=tmp_path / "out.parquet")
    found = check(parquet.read_table(tmp_path / "out.parquet").to_pylist(), [True] * 3)
    assert [tuple(row.values())[1:] for row in found] == [("good", None, None), ("bad", None, 1), ("good", 2, None)]
    predict(classifier, paths, out=tmp_path / "out.jsonl")
    assert [list(row) for row in check(read_lines(tmp_path / "out.jsonl"), [True] * 3)] == [
        ["file", "review", "n"], ["file", "review", "x"], ["file", "n", "review"],
    ]  # fmt: skip


def test_files_of_several_formats_are_refused(refused, tmp_path, classifier):
    paths = [write(tmp_path / "a.csv"), write(tmp_path / "b.jsonl")]
    assert "files of several formats" in refused("predict", classifier, *paths, "--out", tmp_path / "out.csv")


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
