"""Tables that name MIDI files (data.paths): their words are the texts, and a bad path is a bad row."""

import json
import logging

import pytest

from quorem.config.finetuning import LabelledDataSettings
from quorem.data.documents import Document, RowCounts
from quorem.data.source import Source
from quorem.errors import UserError

symusic = pytest.importorskip("symusic", reason="needs quorem[midi]")
Note, Score, Track = symusic.Note, symusic.Score, symusic.Track


def write(path, *pitches):
    score, track = Score(480), Track("", 0, False)
    for pitch in pitches:
        track.notes.append(Note(0, 480, pitch, 90))
    score.tracks.append(track)
    path.parent.mkdir(exist_ok=True)
    score.dump_midi(str(path))


@pytest.fixture
def folder(tmp_path):
    """Tunes, a file without notes, one that is no MIDI, and a table that names the first three."""
    write(tmp_path / "tunes" / "a.mid", 60, 64)
    write(tmp_path / "tunes" / "b.mid", 62)
    write(tmp_path / "tunes" / "empty.mid")
    (tmp_path / "tunes" / "bad.mid").write_text("<html>")
    table(tmp_path, [("tunes/a.mid", "jig"), (tmp_path / "tunes" / "b.mid", "reel"), ("tunes/empty.mid", "jig")])
    return tmp_path


def table(folder, rows, kind="csv"):
    path = folder / f"labels.{kind}"
    if kind == "csv":
        lines = ["file,genre", *(f"{file},{label}" for file, label in rows)]
    else:
        lines = [json.dumps({"file": str(file), "genre": label}) for file, label in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def source_of(folder, kind="csv", **settings):
    data = LabelledDataSettings(path=str(folder / f"labels.{kind}"), **{"paths": True, "midi": "chords"} | settings)
    return Source.of(data, text_column="file", label_column="genre")


def failure_of(folder, **settings):
    with pytest.raises(UserError) as caught:
        list(source_of(folder, **settings).documents())
    return str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_words_of_the_files_are_the_texts(folder, kind):
    table(folder, [("tunes/a.mid", "jig"), (folder / "tunes" / "b.mid", "reel"), ("tunes/empty.mid", "jig")], kind)
    counts = RowCounts()
    found = list(source_of(folder, kind).documents(counts))
    assert found == [Document("60.64", "jig", 1), Document("62", "reel", 2)]
    assert (counts.read, counts.used, counts.skipped, counts.bad) == (3, 2, 1, 0)
    (first, _) = source_of(folder, kind, midi="remi").documents()
    assert first.text.startswith("Bar_None TimeSig_4/4 Position_0 Program_0 Pitch_60 ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tunes/c.mid", "tunes/c.mid does not exist: check the folder and the spelling"),
        ("tunes/bad.mid", "tunes/bad.mid is damaged or not MIDI"),
        ("tunes", "is a folder"),
        ("x" * 300, "cannot be opened"),
    ],
)
def test_a_bad_path_is_named_with_its_row_or_skipped_and_listed(folder, name, words):
    path = table(folder, [("tunes/a.mid", "jig"), (name, "jig"), ("tunes/b.mid", "reel")])
    message = failure_of(folder)
    assert message.startswith(f"{path}, row 2: ")
    assert words in message
    counts = RowCounts()
    found = [document.row for document in source_of(folder, bad_rows="skip").documents(counts)]
    assert found == [1, 3]
    assert counts == RowCounts(read=3, used=2, skipped=1, bad=1, messages=[message])
    source_of(folder).fingerprint()  # what is missing is said where it is read


def test_a_table_of_which_no_file_can_be_used_is_an_error(folder):
    path = table(folder, [("tunes/c.mid", "jig"), ("tunes/bad.mid", "jig")])
    message = failure_of(folder, bad_rows="skip")
    assert message.startswith(f"{path}: none of its 2 rows can be used, and 2 are bad. The first: {path}, row 1: ")
    table(folder, [("tunes/empty.mid", "jig")])
    assert failure_of(folder) == f"{path}: all 1 rows have no text, or name a file without notes: check the paths."


def test_the_fingerprint_is_of_the_files_too(folder):
    before = source_of(folder).fingerprint()
    assert source_of(folder).fingerprint() == before
    write(folder / "tunes" / "b.mid", 63)
    assert source_of(folder).fingerprint() != before


def test_what_has_no_meaning_is_refused(folder):
    assert "data.midi=chords has no meaning for data.format=csv" in failure_of(folder, paths=False)
    assert "data.lists=true has no meaning" in failure_of(folder, lists=True)
    assert "Did you mean remi" in failure_of(folder, midi="rem", bad_rows="skip")
    assert "data.max_silence=0" in failure_of(folder, max_silence=0, bad_rows="skip")
    (folder / "labels.txt").write_text("tunes/a.mid\n")
    with pytest.raises(UserError, match=r"data.paths=True has no meaning for data.format=text"):
        source_of(folder, "txt", midi="remi")


def test_paths_that_are_read_as_texts_are_warned_of(folder, caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            found = [document.text for document in source_of(folder, paths=False, midi="remi").documents()]
    assert found[0] == "tunes/a.mid"
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}/labels.csv, row 1: the text is the path of a MIDI file: data.paths=true reads its words"
    ]
    caplog.clear()
    table(folder, [("no/such.mid", "jig"), ("x" * 300 + ".mid", "jig")])
    assert len(list(source_of(folder, paths=False, midi="remi").documents())) == 2
    assert not caplog.records
