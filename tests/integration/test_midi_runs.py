"""From a folder of MIDI files to a model that loads, with each tokenizer for events."""

import pytest
from symusic import Note, Score, Track
from transformers import AutoModel, AutoTokenizer

from quorem.tokenization import encode


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
