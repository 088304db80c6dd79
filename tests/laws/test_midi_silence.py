"""Long silence in MIDI is cut to so many bars; all else stays where it is, and few bytes are few words."""

import logging
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_cases import read_midi

from quorem.data.documents import RowCounts
from quorem.data.readers.midi import MAX_SILENCE, SPELLINGS
from quorem.data.readers.midi_time import normalize_times
from quorem.errors import UserError

symusic = pytest.importorskip("symusic", reason="needs quorem[midi]")
Note, Score, TimeSignature, Track = symusic.Note, symusic.Score, symusic.TimeSignature, symusic.Track

spellings = pytest.mark.parametrize("spelling", SPELLINGS)
CUT = "silent bars are left out"


def score_of(notes, signatures=((0, 4, 4),), quarter=480, tracks=1):
    """Notes are start, length (in ticks) and pitch; a signature is its tick, beats and beat."""
    score = Score(quarter)
    for signature in signatures:
        score.time_signatures.append(TimeSignature(*signature))
    for number in range(tracks):
        track = Track("", number, False)
        for note in notes[number::tracks]:
            track.notes.append(Note(*note, 90))
        score.tracks.append(track)
    return score


def text_of(folder, score, spelling="remi", counts=None, **options):
    score.dump_midi(str(folder / "a.mid"))
    (document,) = read_midi(folder / "a.mid", midi=spelling, counts=counts, **options)
    return document.text


def with_implied_settings(score, max_silence):
    bars = normalize_times(score, ticks_per_second=None, max_silence=max_silence)
    notes = sorted((note.time, note.duration, note.pitch) for track in score.tracks for note in track.notes)
    return bars, notes, [(one.time, one.numerator, one.denominator) for one in score.time_signatures]


@spellings
@pytest.mark.parametrize("signature", [(4, 4), (3, 4), (7, 8), (5, 16), (2, 2)])
@pytest.mark.parametrize("place", [0, 360])
def test_longer_silence_is_as_long_as_the_longest_kept(tmp_path, caplog, spelling, signature, place):
    beats, beat = signature
    bar = 4 * 480 * beats // beat
    texts = []
    for bars in (5, 6, 900, 100_000):
        notes = [(0, 240, 60), (place + bars * bar, 240, 62), (place + (bars + 2) * bar, 240, 64)]
        counts = RowCounts()
        texts.append(text_of(tmp_path, score_of(notes, [(0, beats, beat)]), spelling, counts, max_silence=5))
        assert counts.warnings == ({"with silence cut": 1} if bars > 5 else {})
        assert not caplog.records if bars == 5 else f"{bars - 5:,} {CUT}" in caplog.records[-1].getMessage()
    assert len(set(texts)) == 1


@spellings
def test_the_silence_before_the_first_note_and_under_a_held_one_is_silence(tmp_path, spelling):
    bar = 4 * 480
    assert text_of(tmp_path, score_of([(bar * 900, 240, 60)]), spelling) == text_of(
        tmp_path, score_of([(bar * MAX_SILENCE, 240, 60)]), spelling
    )
    held = [score_of([(0, bars * bar + 480, 60), (bars * bar, 240, 62)]) for bars in (900, MAX_SILENCE)]
    assert text_of(tmp_path, held[0], spelling) == text_of(tmp_path, held[1], spelling)


def test_music_of_several_tracks_has_no_silence_where_one_plays(tmp_path, caplog):
    notes = [(480 * 4 * bar, 240, 60 + bar % 2) for bar in range(0, 400, 2)]
    text_of(tmp_path, score_of([(0, 240, 70), *notes, (480 * 4 * 399, 240, 71)], tracks=2), max_silence=2)
    assert not caplog.records


def test_signatures_move_with_the_notes_after_them():
    notes = [(0, 100, 60), (1920 * 50 + 10, 100, 61), (1920 * 50 + 1440 * 30 + 20, 100, 62)]
    bars, kept, signatures = with_implied_settings(score_of(notes, [(0, 4, 4), (1920 * 50, 3, 4)]), 4)
    assert bars == 46 + 26
    assert signatures == [(0, 4, 4), (1920 * 4, 3, 4)]
    assert kept == [(0, 100, 60), (1920 * 4 + 10, 100, 61), (1920 * 4 + 1440 * 4 + 20, 100, 62)]


def test_signatures_without_notes_make_no_music_longer():
    changes = [(1920 * 100 * number, 4, 4 + 4 * (number % 2)) for number in range(100)]
    bars, kept, _ = with_implied_settings(score_of([(0, 100, 60), (1920 * 100 * 100, 100, 61)], changes), 8)
    assert bars > 100 * 100
    assert kept[1][0] <= 1920 * 9


def test_bars_that_are_no_whole_ticks_are_cut_where_they_are():
    bars, kept, _ = with_implied_settings(score_of([(0, 1, 60), (1_000_001, 1, 61)], [(0, 1, 32)], quarter=1), 2)
    assert kept[1][0] in (1, 2)  # 8 bars a tick
    assert bars % 8 == 0


def test_a_file_without_long_silence_stays_as_it_is():
    notes = [(0, 100, 60), (1920 * 7, 0, 61), (1920 * 7, 3000, 50)]
    signatures = [(0, 3, 4), (960, 4, 4)]
    assert with_implied_settings(score_of(notes, signatures), 8) == (0, sorted(notes), signatures)


def test_signatures_that_there_are_none_of_are_left_out():
    score = score_of([(0, 100, 60)], [(0, 0, 4), (0, 33, 4), (0, 4, 64), (10, 3, 4)])
    assert with_implied_settings(score, 8)[2] == [(10, 3, 4)]


@pytest.mark.slow
@given(
    notes=st.lists(st.tuples(st.integers(0, 2**28), st.integers(0, 2**28), st.integers(0, 127)), min_size=1),
    signatures=st.lists(st.tuples(st.integers(0, 2**28), st.integers(1, 32), st.sampled_from([1, 2, 4, 8, 16, 32]))),
    quarter=st.sampled_from([1, 7, 96, 480, 0x7FFF]),
    most=st.integers(1, 100),
)
@settings(max_examples=200, deadline=None)
def test_no_silence_is_longer_than_it_may_be_and_order_stays(notes, signatures, quarter, most):
    score = score_of(notes, sorted(signatures), quarter)
    _, kept, kept_signatures = with_implied_settings(score, most)
    assert len(kept) == len(notes)
    assert len(kept_signatures) == len(signatures)
    before = sorted({start for start, _, _ in notes} | {0})
    after = sorted({start for start, _, _ in kept} | {0})
    assert len(after) == len(before)
    longest = 4 * quarter * 32  # a bar
    for (begun, end), (was, until) in zip(zip(after, after[1:]), zip(before, before[1:])):  # noqa: B905, RUF007
        assert 0 < end - begun <= until - was
        # What is kept, and less than 8 bars, which may be needed for whole ticks, of each signature in between.
        assert end - begun <= longest * (most + 9 * (1 + len(signatures)))


@spellings
@pytest.mark.parametrize("quarter", [1, 96, 0x7FFF])
def test_a_small_file_is_few_words_in_little_time(tmp_path, spelling, quarter):
    begun = time.monotonic()
    notes = [(number * (2**28 - 10), 1, 60 + number) for number in range(7)]
    words = text_of(tmp_path, score_of(notes, quarter=quarter), spelling).split()
    assert 7 <= len(words) <= 7 * (2 * MAX_SILENCE + 6)
    assert time.monotonic() - begun < 10
    for pitch in range(60, 67):
        assert any(word.split("+")[0] in (f"Pitch_{pitch}", str(pitch)) for word in words)


@pytest.mark.parametrize("number", [0, -1, 1001])
def test_a_bound_that_is_none_is_refused(tmp_path, number):
    with pytest.raises(UserError, match=rf"data.max_silence={number}: must be at least 1 and at most 1,000"):
        text_of(tmp_path, score_of([(0, 1, 60)]), max_silence=number)


def test_the_same_silence_is_told_once(tmp_path, caplog):
    for _ in range(3):
        text_of(tmp_path, score_of([(0, 1, 60), (1920 * 99, 1, 61)]))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
