"""The times of a MIDI file, before its notes become words: seconds turned into quarters, long silence cut.

Guarantees: what is written of a file is bounded by its events, whatever times stand beside them; a file without long
silence, timed in quarters, comes out as it went in; what is cut is whole bars, so that notes stay where they were in
theirs.
"""

from collections.abc import Sequence
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from symusic import Score

DENOMINATORS = (1, 2, 4, 8, 16, 32)
MOST_BEATS = 32
COMMON_TIME = (4, 4)  # what holds before the first time signature
TEMPO = 500_000  # microseconds a quarter before the first tempo
LONGEST_NOTE = 64  # quarters; no spelling tells longer ones apart
FINEST = 64  # ticks in a quarter that a spelling may ask for
LAST_TICK = 2**31 - 1


class Signature(NamedTuple):
    """A time signature and the tick from which it holds."""

    time: int
    beats: int
    beat: int


class TooLong(ValueError):
    """Music of so many quarters that its times cannot be counted."""


def normalize_times(score: "Score", *, ticks_per_second: float | None, max_silence: int) -> int:
    """Leave the tracks' notes and the time signatures of a score at times in quarters, without long silence, in place.

    All else is taken out: tempo, keys, controls, words. So are signatures of 0 or more than MOST_BEATS beats, or of a
    beat not in DENOMINATORS. Notes are at most LONGEST_NOTE long.

    Args:
        score: in ticks.
        ticks_per_second: where times are seconds; quarters follow by the tempos then. None for ticks of a quarter.
        max_silence: most whole bars in a row in which no note starts, the signature changing between them or not.

    Returns:
        How many bars were cut.

    Raises:
        TooLong: if its times are too large even so.
    """
    from symusic import Note, TimeSignature

    notes = [track.notes.numpy() for track in score.tracks]
    starts = [_wide(track["time"]) for track in notes]
    ends = [_wide(track["time"]) + _wide(track["duration"]) for track in notes]
    known = [Signature(one.time, one.numerator, one.denominator) for one in score.time_signatures]
    known = [one for one in known if 0 < one.beats <= MOST_BEATS and one.beat in DENOMINATORS]
    known.sort(key=lambda one: one.time)
    changed = ticks_per_second is not None
    if ticks_per_second is not None:
        tempos = [(tempo.time, tempo.mspq) for tempo in score.tempos]
        starts, ends, (times,) = (
            [in_quarters(each, tempos, ticks_per_second, score.ticks_per_quarter) for each in group]
            for group in (starts, ends, [_wide([one.time for one in known])])
        )
        known = [one._replace(time=int(time)) for one, time in zip(known, times, strict=True)]
    onsets = np.unique(np.concatenate([_wide([]), *starts]))
    cuts = _cuts(onsets, known, score.ticks_per_quarter, max_silence)
    bars = sum(cut.bars for cut in cuts)
    if cuts:
        starts, ends = ([_shifted(each, cuts) for each in group] for group in (starts, ends))
        times = _shifted(_wide([one.time for one in known]), cuts)
        known = [one._replace(time=int(time)) for one, time in zip(known, times, strict=True)]
    longest = LONGEST_NOTE * score.ticks_per_quarter
    last = max([0, *(int(each.max()) for each in starts if len(each)), *(one.time for one in known)]) + longest
    if last * FINEST // score.ticks_per_quarter > LAST_TICK or last > LAST_TICK:
        raise TooLong(f"{last // score.ticks_per_quarter:,} quarters")
    for track, values, start, end in zip(score.tracks, notes, starts, ends, strict=True):
        if changed or cuts or (len(end) and int((end - start).max()) > longest):
            values["time"] = start.astype(np.int32)
            values["duration"] = np.clip(end - start, 0, longest).astype(np.int32)
            track.notes = Note.from_numpy(**values)
        for others in (track.controls, track.pitch_bends, track.pedals, track.lyrics):
            others.clear()
    for others in (score.tempos, score.key_signatures, score.markers, score.time_signatures):
        others.clear()
    for one in known:
        score.time_signatures.append(TimeSignature(one.time, one.beats, one.beat))
    return bars


def in_quarters(
    times: np.ndarray, tempos: Sequence[tuple[int, int]], ticks_per_second: float, ticks_per_quarter: int
) -> np.ndarray:
    """Ticks of a second as ticks of a quarter.

    Args:
        times: int64 (n,), at least 0.
        tempos: of each the time and its microseconds a quarter; one of 0 is none. Before the first it is TEMPO.
        ticks_per_second: of what comes in.
        ticks_per_quarter: of what comes out.

    Returns:
        int64 (n,), rounded.
    """
    changes_of_tempo = dict[int, int]({0: TEMPO})
    changes_of_tempo.update((time, tempo) for time, tempo in sorted(tempos, key=lambda one: one[0]) if tempo > 0)
    places = np.array(list(changes_of_tempo), np.float64)
    speeds = 1e6 / (np.array(list(changes_of_tempo.values()), np.float64) * ticks_per_second)  # quarters a tick
    reached = np.concatenate([[0.0], np.cumsum(np.diff(places) * speeds[:-1])])
    at = np.searchsorted(places, times, side="right") - 1
    return np.rint((reached[at] + (times - places[at]) * speeds[at]) * ticks_per_quarter).astype(np.int64)


class _Cut(NamedTuple):
    """What is taken out: the last `ticks` before the tick `end`, which are whole bars."""

    end: int
    ticks: int
    bars: int


def _cuts(onsets: np.ndarray, known: list[Signature], ticks_per_quarter: int, most: int) -> list[_Cut]:
    """In order, what makes every silence at most so many bars, and those that are needed for whole ticks."""
    changes = _wide([one.time for one in known])
    marks = np.unique(np.concatenate([_wide([0]), onsets, changes]))
    lengths = np.diff(marks)
    held = [COMMON_TIME, *((one.beats, one.beat) for one in known)]
    which = np.searchsorted(changes, marks[:-1], side="right")
    beats, beat = (_wide([one[place] for one in held])[which] for place in (0, 1))
    bars = 4 * beats * ticks_per_quarter  # in ticks, times `beat`
    whole = lengths * beat // bars
    gaps = np.searchsorted(onsets, marks[:-1], side="right")
    too_long = np.bincount(gaps, whole) > most if len(gaps) else np.zeros(0, bool)
    cuts = []
    left, gap = most, -1
    for place in np.flatnonzero(too_long[gaps]).tolist() if too_long.any() else ():
        if gap != gaps[place]:
            left, gap = most, gaps[place]
        there, bar, denominator = int(whole[place]), int(bars[place]), int(beat[place])
        kept = min(there, left)
        left -= kept
        unit = denominator // gcd(denominator, bar)  # so many bars are a whole number of ticks
        cut = (there - kept) // unit * unit
        if cut:
            cuts.append(_Cut(int(marks[place + 1]), cut * bar // denominator, cut))
    return cuts


def _shifted(times: np.ndarray, cuts: list[_Cut]) -> np.ndarray:
    """Times without what is cut; those inside of it are where it began."""
    ends = _wide([cut.end for cut in cuts])
    gone = np.concatenate([_wide([0]), np.cumsum(_wide([cut.ticks for cut in cuts]))])
    at = np.searchsorted(ends, times, side="right")
    begins = np.append(ends - _wide([cut.ticks for cut in cuts]), np.iinfo(np.int64).max)
    return np.minimum(times, begins[at]) - gone[at]


def _wide(numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.asarray(numbers, np.int64)
