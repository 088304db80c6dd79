"""From a folder of MIDI files to a model that loads, with each tokenizer for events."""

import json

import pytest
from transformers import AutoModel, AutoTokenizer

from quorem.tokenization import encode
from quorem.training.run_folder import read_settings

symusic = pytest.importorskip("symusic", reason="needs quorem[midi]")
Note, Score, Track = symusic.Note, symusic.Score, symusic.Track


@pytest.fixture
def folder(tmp_path):
    """Twelve tunes and a file without notes."""
    folder = tmp_path / "tunes"
    folder.mkdir()
    for number in range(13):
        score, track = Score(480), Track("", 0, False)
        for beat in range(30 * (number < 12)):
            for pitch in (48 + (number * beat) % 12, 60 + (number + beat * beat) % 24):
                track.notes.append(Note(beat * 240, 240, pitch, 90))
        score.tracks.append(track)
        score.dump_midi(str(folder / f"tune{number}.mid"))
    return folder


@pytest.mark.parametrize(("spelling", "kind"), [("remi", "items"), ("chords", "items"), ("tsd", "item_bpe")])
def test_a_folder_of_tunes_is_pretrained_on(tmp_path, quorem, pretrain_settings, folder, spelling, kind):
    out = tmp_path / "run"
    command = ["pretrain", folder, "--tokenizer", kind, "--out", out, f"data.midi={spelling}", *pretrain_settings]
    outcome = quorem(*command)
    assert outcome.code == 0, outcome.err
    assert "13 rows read, 12 used, 1 skipped (1 empty)" in outcome.err
    tokenizer = AutoTokenizer.from_pretrained(out / "discriminator")
    text = "48.60 +6 48.61" if spelling == "chords" else "Pitch_60 Velocity_91 Duration_0.4.8"
    (ids,) = encode(tokenizer, [text])
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
    assert (len(ids) < 3) == (kind == "item_bpe")
    model = AutoModel.from_pretrained(out / "discriminator")
    assert model(**tokenizer(text, return_tensors="pt")).last_hidden_state.shape[:2] == (1, len(ids) + 2)


def test_another_spelling_is_another_run(tmp_path, quorem, refused, pretrain_settings, folder):
    command = ["pretrain", folder, "--tokenizer", "items", "--out", tmp_path / "run", *pretrain_settings]
    assert quorem(*command).code == 0
    assert "data.midi" in refused(*command, "data.midi=tsd")


@pytest.fixture
def labelled(folder):
    """The tunes in folders that are labels and splits, one that is no MIDI, and beside them a table that names all."""
    rows = ["file,genre,part"]
    for place, path in enumerate(sorted(folder.glob("*.mid"))):
        label, part = ("jigs", "reels")[place % 2], ("train", "test")[place % 3 == 2]
        moved = folder / part / label / path.name
        moved.parent.mkdir(parents=True, exist_ok=True)
        path.rename(moved)
        rows.append(f"{moved.relative_to(folder)},{label},{part}")
    (folder / "train" / "jigs" / "404.mid").write_text("<html>")
    (folder / "labels.txt").write_text("\n".join([*rows, "train/jigs/404.mid,jigs,train", ""]))
    (folder / "labels.txt").rename(folder.parent / "labels.csv")
    return folder


def test_labels_are_folders_or_stand_in_a_table(
    tmp_path, quorem, refused, pretrain_settings, finetune_settings, labelled
):
    base = tmp_path / "base"
    reading = ["data.midi=chords", "data.bad_rows=skip"]
    command = ["pretrain", labelled, "--tokenizer", "items", "--out", base, *reading, *pretrain_settings]
    assert "404.mid is damaged or not MIDI" in refused(*[word for word in command if word != "data.bad_rows=skip"])
    outcome = quorem(*command)
    assert outcome.code == 0, outcome.err
    assert "404.mid" in (base / "data" / "bad_rows.txt").read_text()
    by_folder = ["finetune", base, labelled, "--out", tmp_path / "one", *reading, *finetune_settings]
    outcome = quorem(*by_folder)
    assert outcome.code == 0, outcome.err
    assert "14 rows read, 12 used, 2 skipped (1 empty, 1 bad)" in outcome.err
    assert "404.mid" in (tmp_path / "one" / "bad_rows.txt").read_text()

    outcome = quorem("finetune", base, labelled, "--out", tmp_path / "same", *reading[1:], *finetune_settings)
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "same" / "result.json").read_text()) == json.loads(
        (tmp_path / "one" / "result.json").read_text()
    )
    given = ["data.midi=tsd", *reading[1:], *finetune_settings]
    assert quorem("finetune", base, labelled, "--out", tmp_path / "given", *given).code == 0
    spelled = {name: read_settings(tmp_path / name / "config.yaml")["data"]["midi"] for name in ("same", "given")}
    assert spelled == {"same": "chords", "given": "tsd"}

    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace("\n", f"\n{labelled.name}/").removesuffix(f"{labelled.name}/"))
    columns = ["--text-column", "file", "--label-column", "genre", "data.split_column=part", "data.paths=true"]
    outcome = quorem("finetune", base, table, "--out", tmp_path / "two", *columns, *reading, *finetune_settings)
    assert outcome.code == 0, outcome.err
    first, second = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    assert first["labels"] == second["labels"] == ["jigs", "reels"]
    assert first["held_out"] == second["held_out"] == {"splits": ["test"], "rows": 4}


def test_silence_is_cut_in_every_command_and_told_once(tmp_path, quorem, pretrain_settings, folder):
    score, track = Score(480), Track("", 0, False)
    for bar in range(0, 5_000_000, 500_000):
        track.notes.append(Note(bar // 10 * 1920, 240, 60, 90))
    score.tracks.append(track)
    score.dump_midi(str(folder / "late.mid"))
    outcome = quorem("pretrain", folder, "--tokenizer", "items", "--out", tmp_path / "run", *pretrain_settings)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("late.mid: 449,424 silent bars are left out: at most 64 in a row are kept") == 1
    assert "14 rows read, 13 used, 1 skipped (1 empty), 1 with silence cut" in outcome.err


def test_several_processes_count_what_one_counts(tmp_path, quorem, folder):
    (folder / "a.mid").write_text("<html>")
    said = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        outcome = quorem("prepare", folder, "--tokenizer", "items", "--out", out, "--processes", processes,
                         "data.bad_rows=skip")  # fmt: skip
        assert outcome.code == 0, outcome.err
        said.append((out / "bad_rows.txt").read_text())
        assert "14 rows read, 12 used, 2 skipped (1 empty, 1 bad)" in outcome.err
    assert said[0] == said[1]
    assert said[0].count("\n") == 1


def test_where_all_files_are_bad_the_first_is_named(tmp_path, refused, pretrain_settings, folder):
    for path in folder.glob("*.mid"):
        path.write_text("<html>")
    command = ["pretrain", folder, "--tokenizer", "items", "--out", tmp_path / "run", *pretrain_settings]
    message = refused(*command, "data.bad_rows=skip")
    assert "none of the 13 rows can be used, and 13 are bad. The first: " in message
    assert "tune0.mid is damaged or not MIDI" in message
