"""Any bytes as MIDI: a document, a file without notes, or one clear error. QUOREM_FUZZ=10000 tries so many files."""

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader_cases import read_midi

from quorem.data.documents import RowCounts
from quorem.data.readers.midi import SPELLINGS
from quorem.errors import UserError

pytest.importorskip("symusic", reason="needs quorem[midi]")

FILES = int(os.environ.get("QUOREM_FUZZ", "100"))
fuzzed = settings(max_examples=FILES, deadline=None, suppress_health_check=list(HealthCheck))
PIECES = (
    b"MThd",
    b"MTrk",
    b"RIFF",
    b"RMID",
    b"\0\0\0\6",
    b"\0\1",
    b"\1\xe0",
    b"\0\xff\x2f\0",
    b"\x90\x3c\x5a",
    b"\xff",
)
SECONDS = 10

EVENTS = tuple(  # each to stand after a time
    bytes.fromhex(event)
    for event in (
        *("903c5a", "803c00", "3c00", "992640", "903e00", "93007f", "907f7f", "c019", "c97f", "b0407f", "b04000"),
        *("e00040", "d001", "a03c01", "ff580404021808", "ff580401051808", "ff580400ff1808", "ff58020302", "ff2f00"),
        *("ff510307a120", "ff5103000000", "ff5103000001", "ff0302fffe", "ff59028501", "f0030102f7", "f70101"),
    )
)
WRONG_EVENTS = tuple(bytes.fromhex(event) for event in ("ff510100", "f4", "f8", "f101", "90ff5a", "ffffffff00", "90"))
TIMES = tuple(
    bytes.fromhex(time) for time in (*["00", "01", "60", "8360"] * 3, "ff7f", "ffff7f", "ffffff7f", "ffffff7f")
)
DIVISIONS = (0, 0xE301, 0xE801, 0xE628, 0xE700, 0x8000, 0xFFFF)


def seldom(draw, usual, others):
    """One time in eight one of the others."""
    return draw(st.sampled_from(others)) if draw(st.integers(0, 7)) == 7 else usual


@st.composite
def midi_files(draw):
    """A MIDI file, of which a number may lie, perhaps inside RIFF, with bytes put in or taken away."""
    time = st.sampled_from(TIMES)
    event = st.tuples(time, st.sampled_from(EVENTS)).map(b"".join)
    note = st.tuples(time, st.integers(0, 15), st.integers(0, 127), time).map(
        lambda n: n[0] + bytes([0x90 + n[1], n[2], 90]) + n[3] + bytes([0x80 + n[1], n[2], 0])
    )
    tracks = draw(st.lists(st.lists(note | event, max_size=30).map(b"".join), min_size=1, max_size=3))
    numbers = (
        seldom(draw, 1, [0, 2, 3]), len(tracks) + seldom(draw, 0, [-1, 1, 9]),
        draw(st.sampled_from([480, 480, 96, 1, 0x7FFF, 0xE728, 0xE250])) if draw(st.booleans()) else
        seldom(draw, 480, DIVISIONS),
    )  # fmt: skip
    content = b"MThd\0\0\0\6" + b"".join(number.to_bytes(2) for number in numbers)
    for whole in tracks:
        track = whole + seldom(draw, b"", WRONG_EVENTS)
        length = max(0, len(track) + seldom(draw, 0, [-1, 1, 2**31]))
        content += seldom(draw, b"MTrk", [b"XFIH", b"MTr\xff"]) + length.to_bytes(4) + track
    if draw(st.integers(0, 7)) == 7:
        size = len(content).to_bytes(4, "little")
        content = b"RIFF" + size + b"RMIDdata" + size + content
    if draw(st.integers(0, 3)) == 3:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.just(b"") | st.binary(max_size=3)) + content[at + draw(st.integers(0, 3)) :]
    return content


anything = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=20).map(b"".join)


@pytest.mark.slow
@fuzzed
@given(
    content=midi_files() | anything,
    bad_rows=st.sampled_from(["error", "skip"]),
    spelling=st.sampled_from(SPELLINGS),
    label=st.booleans(),
    max_silence=st.sampled_from([1, 8, 64]),
)
def test_any_midi(tmp_path_factory, content, bad_rows, spelling, label, max_silence):
    path = tmp_path_factory.getbasetemp() / "any.mid"
    path.write_bytes(content)
    counts, documents, message, begun = RowCounts(), [], "", time.monotonic()
    more = {"midi": spelling, "max_silence": max_silence, "label_column": "label" if label else None}
    try:
        for document in read_midi(path, counts=counts, bad_rows=bad_rows, **more):
            documents.append(document)
            assert document.text.split(" ") == document.text.split()
            # An event is two bytes or more; it may end a silence, and spell a signature, an instrument and a note.
            assert len(document.text.split()) <= (2 * max_silence + 8) * len(content)
    except UserError as error:
        message = str(error)
        assert str(path) in message
        assert len(message.splitlines()) == 1
    assert time.monotonic() - begun < SECONDS  # whatever times it says, a file this small has few words
    assert (counts.read, counts.used, counts.skipped) == (not message, len(documents), not message and not documents)
    assert counts.bad == len(counts.messages) <= counts.skipped
    assert all(line.startswith(str(path)) and len(line.splitlines()) == 1 for line in counts.messages)
    assert bad_rows == "error" or not message
    assert bad_rows == "skip" or not counts.bad
