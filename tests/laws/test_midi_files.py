"""What a MIDI file may look like, and what is said of one that cannot be read, byte by byte."""

import gzip
import logging

import numpy as np
import pytest
from reader_cases import read_midi

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.midi import SPELLINGS
from quorem.data.readers.midi_file import LAST_TICK, parse_midi
from quorem.data.readers.midi_time import in_quarters
from quorem.errors import UserError

pytest.importorskip("symusic", reason="needs quorem[midi]")

END = b"\0\xff\x2f\0"
HTML = b"<!DOCTYPE html><html><body>404</body></html>"


def note(pitch, before=0, length=240):
    return number(before) + bytes([0x90, pitch, 90]) + number(length) + bytes([0x80, pitch, 0])


def number(value):
    """Seven bits a byte, the highest first."""
    found = [value & 0x7F]
    while value := value >> 7:
        found.append(value & 0x7F | 0x80)
    return bytes(reversed(found))


def midi(*tracks, kind=1, counted=None, division=480, end=END):
    header = (kind, len(tracks) if counted is None else counted, division % 2**16)
    return b"MThd\0\0\0\6" + b"".join(n.to_bytes(2) for n in header) + b"".join(chunk(track + end) for track in tracks)


def chunk(content, name=b"MTrk"):
    return name + len(content).to_bytes(4) + content


def riff(*chunks, form=b"RMID"):
    content = form + b"".join(
        name + len(inside).to_bytes(4, "little") + inside + b"\0" * (len(inside) % 2) for name, inside in chunks
    )
    return b"RIFF" + len(content).to_bytes(4, "little") + content


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.mid"


def text_of(path, content, spelling="chords", **options):
    path.write_bytes(content)
    (document,) = read_midi(path, midi=spelling, **options)
    return document.text


def failure_of(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_midi(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    counts = RowCounts()
    assert list(read_midi(path, bad_rows="skip", counts=counts)) == []
    assert counts.messages == [message]
    assert counts == RowCounts(read=1, skipped=1, bad=1, messages=[message])
    return message.removeprefix(str(path))


PLAIN = midi(note(60) + note(64), note(40))


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "type 0 with two tracks": midi(note(60) + note(64), note(40), kind=0),
        "a RIFF file": riff((b"data", PLAIN)),
        "a RIFF file with other chunks": riff((b"DISP", b"odd"), (b"data", PLAIN), (b"LIST", b"INFO")),
        "a chunk of another kind": PLAIN[:14] + chunk(b"any\xff", b"XFIH") + PLAIN[14:],
        "a longer header": PLAIN[:7] + b"\x08" + PLAIN[8:14] + b"ab" + PLAIN[14:],
        "bytes after the last track": PLAIN + b"\0" * 20,
        "no end of track": midi(note(60) + note(64), note(40), end=b""),
        "events after the end of track": midi(note(60) + note(64), note(40) + END + note(90)),
        "running status": midi(bytes([0, 0x90, 60, 90, *number(240), 60, 0, 0, 64, 90, *number(240), 64, 0]), note(40)),
        "bytes that are not MIDI's": midi(b"\0\xf7\3abc" + note(60) + b"\0\xf0\2a\xf7" + note(64), note(40)),
        "a time signature of two bytes": midi(b"\0\xff\x58\2\4\2" + note(60) + note(64), note(40)),
    }.items(),
)
def test_a_file_is_read_whatever_stands_around_its_tracks(path, caplog, name, content):
    expected = [text_of(path, PLAIN, spelling) for spelling in SPELLINGS]
    with caplog.at_level(logging.INFO):
        assert [text_of(path, content, spelling) for spelling in SPELLINGS] == expected
    assert not caplog.records


@pytest.mark.parametrize("counted", [0, 1])
def test_tracks_that_the_header_does_not_count_are_read_and_told(path, caplog, counted):
    counts = RowCounts()
    assert text_of(path, midi(note(60), note(40), counted=counted), counts=counts) == "40.60"
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: its header counts {counted} tracks, all 2 are read"
    ]
    assert str(counts) == "1 rows read, 1 used, 0 skipped (0 empty), 1 with more tracks"


def test_of_many_files_the_first_are_told_and_all_are_counted(tmp_path, caplog):
    counts = RowCounts()
    for number in range(9):
        text_of(tmp_path / f"{number}.mid", midi(note(60), note(40), counted=1), counts=counts)
    assert len(caplog.records) == 3
    assert counts.warnings == {"with more tracks": 9}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (HTML, "it begins with b'<!DO', not with MThd"),
        (gzip.compress(PLAIN, mtime=0), "is gzipped: add .gz"),
        (riff((b"data", PLAIN), form=b"WAVE"), "RIFF file of b'WAVE' without MIDI"),
        (riff((b"LIST", b"INFO")), "without MIDI"),
        (riff((b"data", HTML)), "it begins with"),
        (PLAIN[:9], "header is cut off"),
        (midi(note(60), kind=3), "its type is 3"),
        (midi(note(60), note(62), kind=2), "is MIDI of type 2: its 2 tracks are pieces of their own: save each"),
        (midi(note(60), division=0), "0 ticks in a quarter"),
        (midi(note(60), division=-17 * 256 + 40), "17 SMPTE frames a second of 40 ticks"),
        (midi(note(60), division=-25 * 256), "25 SMPTE frames a second of 0 ticks"),
        (midi(), "it has no track"),
        (PLAIN[:14], "it has no track"),
        (midi(note(60), counted=3), "its header counts 3 tracks, 1 are there"),
        (PLAIN[:-5], "track 2 is cut off: 13 bytes are announced, 8 are there"),
        (midi(note(60)[:3], end=b""), "track 1: the event at byte 22 is cut off"),
        (midi(note(60) + b"\0\xff\x01\x7fabc", end=b""), "track 1: the event at byte 31 is cut off"),
        (midi(note(60) + b"\x81", end=b""), "track 1: the event at byte 31 is cut off"),
        (midi(bytes([0, 60, 90])), "has no status byte, and none before it holds"),
        (midi(bytes([0, 0x90, 60, 200])), "has a data byte above 0x7f after status 0x90"),
        (midi(b"\0\xf4" + note(60)), "has status 0xf4"),
        (midi(b"\xff\xff\xff\xff\x7f" + note(60)), "a number of more than four bytes"),
        (midi(b"\0\xff\x51\1\7" + note(60)), "is a meta event 0x51 of 1 bytes"),
        (midi(b"".join(note(60, before=2**28 - 1) for _ in range(9))), f"where {LAST_TICK:,} can be counted"),
    ],
)
def test_what_cannot_be_read_is_named_or_skipped(path, content, words):
    assert words in failure_of(path, content)


def test_a_packed_file_that_is_not_whole_is_a_bad_one_too(tmp_path):
    path = tmp_path / "a.mid.gz"
    assert "not a whole gzip file" in failure_of(path, gzip.compress(PLAIN, mtime=0)[:-9])


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_single_track_is_a_piece_whatever_its_type(path, kind):
    assert text_of(path, midi(note(60), kind=kind)) == "60"


@pytest.mark.parametrize("frames", [24, 25, 29, 30])
def test_times_in_seconds_become_quarters(path, frames):
    """A quarter is half a second unless a tempo says otherwise."""
    parts, rate = 40, frames * (1000 / 1001 if frames == 29 else 1) + (frames == 29) * 0.97
    second = round(parts * rate)
    division = -frames * 256 + parts
    assert text_of(path, midi(note(60, 0, second // 2) + note(64, 0, second // 2), division=division)) == "60 +12 64"
    slow = b"\0\xff\x51\3" + (1_000_000).to_bytes(3)  # a quarter a second
    assert text_of(path, midi(slow + note(60, 0, second) + note(64, 0, second), division=division)) == "60 +12 64"
    assert text_of(path, midi(note(60, 0, second) + note(64, 0, second), division=division)) == "60 +24 64"


def test_each_tempo_holds_from_its_time_on():
    times = np.array([0, 500, 1_000, 1_500, 3_000])
    tempos = [(1_000, 250_000), (2_000, 0), (0, 1_000_000)]
    assert in_quarters(times, tempos, 1_000.0, 480).tolist() == [0, 240, 480, 480 + 2 * 480, 480 + 8 * 480]
    assert in_quarters(times, [], 1_000.0, 480).tolist() == [0, 480, 960, 1440, 2880]


def test_what_is_handed_on_is_plain(tmp_path):
    assert parse_midi(tmp_path, PLAIN).content == PLAIN
    for content in (riff((b"data", PLAIN)), PLAIN + b"junk", midi(note(60) + note(64), note(40), kind=0, counted=1)):
        assert parse_midi(tmp_path, content).content == PLAIN


def test_a_file_is_a_row_and_the_ones_after_a_bad_one_are_read(tmp_path):
    counts, found = RowCounts(), []
    for name, content in (("a", PLAIN), ("b", HTML), ("c", midi(b"")), ("d", PLAIN[:-1]), ("e", PLAIN)):
        (tmp_path / f"{name}.mid").write_bytes(content)
        found += read_midi(tmp_path / f"{name}.mid", midi="chords", counts=counts, bad_rows="skip")
        assert counts.read == counts.used + counts.skipped
    assert found == [Document("40.60 +6 64", None, 1)] * 2
    assert (counts.read, counts.used, counts.skipped, counts.bad) == (5, 2, 3, 2)
    with pytest.raises(UserError, match=r"data.bad_rows=skp: unknown. Did you mean skip"):
        read_midi(tmp_path / "a.mid", bad_rows="skp")
