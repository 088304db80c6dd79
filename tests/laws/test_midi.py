"""What the reader of MIDI files adds to the stream of documents: which words stand for which notes."""

import builtins
import gzip
import json

import pytest
from reader_cases import read_midi

from quorem.config.finetuning import LabelledDataSettings
from quorem.config.settings import DataSettings
from quorem.data.documents import Document, RowCounts
from quorem.data.readers import choose_format, compression, midi
from quorem.data.readers.midi import EVENTS, SPELLINGS
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.tasks.classification import Classification
from quorem.tokenization import SPECIAL_TOKENS

symusic = pytest.importorskip("symusic", reason="needs quorem[midi]")
Note, Score, TimeSignature, Track = symusic.Note, symusic.Score, symusic.TimeSignature, symusic.Track

QUARTER = 480
TUNE = [  # start and length in quarters, pitch, velocity
    (0, 1, 60, 95),
    (0, 1, 64, 95),
    (1, 0.5, 67, 95),
    (1.5, 0.5, 60, 95),
    (1.5, 0.5, 0, 127),
    (4, 2, 126, 1),
]
CHORDS = "60.64 +12 67 +6 0.60 +30 126"
NOTES = "60+0 64+0 67+12 0+6 60+0 126+30"
REMI = (
    "Bar_None TimeSig_4/4 Position_0 Program_25 Pitch_60 Velocity_95 Duration_1.0.8 "
    "Pitch_64 Velocity_95 Duration_1.0.8 "
    "Position_8 Pitch_67 Velocity_95 Duration_0.4.8 "
    "Position_12 Pitch_0 Velocity_127 Duration_0.4.8 Pitch_60 Velocity_95 Duration_0.4.8 "
    "Bar_None TimeSig_4/4 Position_0 Pitch_126 Velocity_3 Duration_2.0.8"
)
TSD = (
    "TimeSig_4/4 Program_25 Pitch_60 Velocity_95 Duration_1.0.8 Pitch_64 Velocity_95 Duration_1.0.8 "
    "TimeShift_1.0.8 Pitch_67 Velocity_95 Duration_0.4.8 "
    "TimeShift_0.4.8 Pitch_0 Velocity_127 Duration_0.4.8 Pitch_60 Velocity_95 Duration_0.4.8 "
    "TimeShift_2.4.8 Pitch_126 Velocity_3 Duration_2.0.8"
)
spellings = pytest.mark.parametrize("spelling", SPELLINGS)


def write(path, *tracks, signature=(4, 4), quarter=QUARTER):
    """A MIDI file; a track is notes as in TUNE, a program and whether it is drums."""
    score = Score(quarter)
    score.time_signatures.append(TimeSignature(0, *signature))
    for notes, program, drums in tracks:
        track = Track("", program, drums)
        for start, length, pitch, velocity in notes:
            track.notes.append(Note(round(start * quarter), round(length * quarter), pitch, velocity))
        score.tracks.append(track)
    score.dump_midi(str(path))
    return path


@pytest.fixture
def tune(tmp_path):
    return write(tmp_path / "tune.mid", (TUNE, 25, False))


def text_of(path, spelling="chords"):
    (document,) = read_midi(path, midi=spelling)
    return document.text


def failure_of(path, **options):
    with pytest.raises(UserError) as caught:
        list(read_midi(path, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("spelling", "expected"), [("chords", CHORDS), ("notes", NOTES), ("remi", REMI), ("tsd", TSD)])
def test_a_file_is_one_document_of_words(tune, spelling, expected):
    assert list(read_midi(tune, midi=spelling)) == [Document(expected, None, 1)]
    assert list(read_midi(tune)) == [Document(REMI, None, 1)]


@spellings
def test_words_do_not_depend_on_the_resolution_or_the_order_of_tracks_and_gzip_is_undone(tmp_path, tune, spelling):
    halves = [(TUNE[::2], 25, False), (TUNE[1::2], 25, False)]
    others = [
        write(tmp_path / "a.mid", (TUNE, 25, False), quarter=96),
        write(tmp_path / "b.mid", *halves),
        write(tmp_path / "c.mid", *reversed(halves)),
    ]
    (tmp_path / "d.mid.gz").write_bytes(gzip.compress(tune.read_bytes()))
    assert {text_of(other, spelling) for other in (*others, tmp_path / "d.mid.gz")} == {text_of(tune, spelling)}


@spellings
def test_no_word_has_a_space_or_is_a_special_token(tune, spelling):
    text = text_of(tune, spelling)
    assert text.split() == text.split(" ")
    assert not {*text.split(), *(word.lower() for word in text.split())} & {*SPECIAL_TOKENS}


def test_chords_are_rounded_to_twelfths_and_the_silence_before_them_is_dropped(tmp_path):
    notes = [(2 + start, 0.1, pitch, 90) for start, pitch in [(0, 72), (1 / 3, 60), (0.35, 55), (0.35, 60), (0.5, 61)]]
    assert text_of(write(tmp_path / "a.mid", (notes, 0, False))) == "72 +4 55.60 +2 61"


def tags_of(path, column):
    (document,) = read_midi(path, midi="notes", more_columns=("tokens", column))
    tokens, tags = (None if each is None else json.loads(each) for each in document.more)
    assert " ".join(tokens) == document.text
    return tags


def test_each_note_has_its_loudness_and_whether_it_is_melody(tmp_path):
    notes = [(0, 1, 60, 1), (1, 1, 60, 31), (2, 1, 60, 32), (3, 1, 60, 64), (3, 1, 59, 95), (4, 1, 60, 96)]
    path = write(tmp_path / "a.mid", (notes, 0, False), ([(0.5, 1, 70, 79)], 0, False), ([(0.5, 1, 35, 127)], 0, True))
    assert text_of(path, "notes") == "60+0 70+6 60+6 60+12 59+12 60+0 60+12"
    assert tags_of(path, "velocity") == ["pp", "mf", "pp", "p", "f", "mf", "ff"]
    assert tags_of(path, "melody") == ["melody", "other", *["melody"] * 5]  # of the first track


def test_a_track_called_melody_is_it_and_one_of_one_track_only_says_nothing(tmp_path, tune):
    path = write(tmp_path / "a.mid", ([(0, 1, 40, 90)], 0, False), ([(20, 1, 70, 90)], 0, False))
    score = Score(path)
    score.tracks[1].name = "Vocal Melody"
    score.dump_midi(str(path))
    assert text_of(path, "notes") == "40+0 70+96"  # two bars at most
    assert tags_of(path, "melody") == ["other", "melody"]
    assert tags_of(tune, "melody") is None


def test_notes_that_start_together_at_one_pitch_are_one(tmp_path):
    path = write(tmp_path / "a.mid", ([(0, 1, 60, 20)], 0, False), ([(0, 2, 60, 100), (1, 1, 62, 20)], 0, False))
    assert text_of(path, "notes") == "60+0 62+12"
    assert tags_of(path, "velocity") == ["ff", "pp"]
    assert tags_of(path, "melody") == ["melody", "other"]


def test_only_tagging_asks_for_the_tags_of_notes(tune):
    with pytest.raises(UserError, match=r"data.format=midi has no column 'velocity'"):
        Source.of(DataSettings(path=str(tune), midi="notes"), text_column=None, more_columns=("velocity",))


def test_instruments_are_named_where_they_change_and_drums_have_no_pitch(tmp_path):
    path = write(tmp_path / "a.mid", ([(0, 1, 60, 95), (2, 1, 62, 95)], 0, False), ([(1, 1, 38, 95)], 0, True))
    words = text_of(path, "remi").split()
    assert [word for word in words if word.startswith(("Program", "Pitch"))] == [
        *("Program_0", "Pitch_60"),
        *("Program_-1", "PitchDrum_38"),
        *("Program_0", "Pitch_62"),
    ]
    assert text_of(path) == "60 +24 62"


@pytest.mark.parametrize("signature", [(9, 8), (2, 2), (7, 16), (1, 4), (32, 32)])
def test_time_signatures_are_kept(tmp_path, signature):
    path = write(tmp_path / "a.mid", (TUNE, 0, False), signature=signature)
    assert text_of(path, "remi").split()[1] == text_of(path, "tsd").split()[0] == "TimeSig_{}/{}".format(*signature)


@spellings
def test_a_file_without_notes_is_skipped_and_counted(tmp_path, spelling, tune):
    counts = RowCounts()
    empty = write(tmp_path / "empty.mid", ([], 0, False))
    documents = [
        document for path in (empty, tune, empty) for document in read_midi(path, counts=counts, midi=spelling)
    ]
    assert len(documents) == 1
    assert counts == RowCounts(read=3, used=1, skipped=2)
    drums = write(tmp_path / "drums.mid", (TUNE, 0, True))
    assert len(list(read_midi(drums, midi=spelling))) == (spelling in EVENTS)


@pytest.mark.parametrize("change", [slice(-20), slice(40), slice(5), slice(4, None)])
def test_a_damaged_file_is_named_at_the_call(tune, change):
    tune.write_bytes(tune.read_bytes()[change])
    with pytest.raises(UserError, match=r"tune.mid is damaged or not MIDI \(") as caught:
        read_midi(tune)
    assert "\n" not in str(caught.value)


def test_other_files_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.mid"
    for content, words in ((b"", "is empty"), (b"word\n" * 9, "damaged or not MIDI")):
        path.write_bytes(content)
        assert words in failure_of(path)
    (tmp_path / "a.mid.gz").write_bytes(gzip.compress(b"MThd" * 99)[:-9])
    assert "not a whole gzip file" in failure_of(tmp_path / "a.mid.gz")
    assert "does not exist" in failure_of(tmp_path / "none.mid")
    assert "is a folder" in failure_of(tmp_path)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(compression, "open", refuse, raising=False)
    assert "read permission" in failure_of(path)


def test_what_has_no_meaning_is_refused(tune):
    assert "Did you mean remi" in failure_of(tune, midi="rem")
    assert "no column 'text'" in failure_of(tune, text_column="text")
    assert "read the CSV with data.paths=true" in failure_of(tune, text_column="file")
    (tune.parent / "a.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"data.midi=tsd has no meaning for data.format=text"):
        Source.of(DataSettings(path=str(tune.parent / "a.txt"), midi="tsd"), text_column=None)


@pytest.mark.parametrize(("library", "spelling"), [("symusic", "chords"), ("miditok", "remi")])
def test_a_missing_library_is_named(tune, monkeypatch, library, spelling):
    load = builtins.__import__

    def refuse(name, *rest):
        if name == library:
            raise ImportError(name)
        return load(name, *rest)

    midi._library.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "pip install 'quorem[midi]'" in failure_of(tune, midi=spelling)


def test_a_folder_is_its_files_in_order(tmp_path):
    (tmp_path / "deep").mkdir()
    for name, pitch in (("b.MID", 62), ("a.midi", 61), ("deep/c.mid", 63)):
        write(tmp_path / name, ([(0, 1, pitch, 90)], 0, False))
    source = Source.of(DataSettings(path=str(tmp_path), midi="chords"), text_column=None)
    assert (source.format, source.options["midi"]) == ("midi", "chords")
    assert [document.text for document in source.documents()] == ["61", "62", "63"]
    assert choose_format("a.mid.gz") == "midi"


def test_labels_and_splits_are_the_names_of_folders(tmp_path):
    names = ("train/jigs/a.mid", "test/reels/b.mid", "train/c.mid", "jigs/d.kar")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, ([(0, 1, 60 + names.index(name), 90)], 0, False))
    counts = RowCounts()
    source = Classification().source(LabelledDataSettings(path=str(tmp_path), midi="chords"))
    assert [(found.text, found.label, found.split) for found in source.documents(counts)] == [
        *(("63", "jigs", None), ("61", "reels", "test"), ("60", "jigs", "train")),
    ]
    assert (counts.read, counts.skipped) == (4, 1)  # right in train: no label
    before = source.fingerprint()
    (tmp_path / "jigs").rename(tmp_path / "jegs")
    assert Classification().source(LabelledDataSettings(path=str(tmp_path), midi="chords")).fingerprint() != before


@pytest.mark.slow
@spellings
def test_real_tunes_give_documents_with_as_many_notes(tmp_path, shared_data, spelling):
    import tarfile

    with tarfile.open(shared_data / "nottingham" / "nottingham.tar.gz") as found:
        for member in [member for member in found if member.name.endswith(".mid")][:20]:
            path = tmp_path / "tune.mid"
            path.write_bytes(found.extractfile(member).read())
            notes = Score(str(path)).note_num()
            words = text_of(path, spelling).split()
            if spelling == "chords":
                assert 0 <= notes - sum(len(word.split(".")) for word in words if word[0] != "+") <= notes / 10
            elif spelling == "notes":
                assert notes * 0.9 <= len(words) == len(tags_of(path, "velocity")) <= notes
            else:
                assert sum(word.startswith("Pitch_") for word in words) == notes
