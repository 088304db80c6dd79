"""Predictions of what has no columns, and of several files: each row says which file it is from."""

import gzip
import os
import shutil

import pytest
from prediction_cases import ENDINGS, PREDICTED, ROWS, check, read, read_csv, read_lines, write

from quorem.tasks.predict import predict

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


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
