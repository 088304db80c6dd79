"""Words for the notes of a MIDI file that keep pitch and start alone, and what else is known of each note, as its tag.

Starts are rounded to twelfths of a quarter note. Drums have no pitch and are left out.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from symusic import Score

GRID = 12
"""Places in a quarter note at which notes start: sixteenths and triplets both fall on them."""
LONGEST_GAP = 8 * GRID
"""Two bars of 4/4: the longest time between two notes that a word of `note_words` says; longer ones are as long."""
DYNAMICS = (("pp", 0), ("p", 32), ("mp", 48), ("mf", 64), ("f", 80), ("ff", 96))
"""Loudness and the MIDI velocity from which it holds, as MidiBERT-Piano parts them (arXiv:2107.05223)."""


class Note(NamedTuple):
    """A note, or several that start together at one pitch.

    Attributes:
        start: in twelfths of a quarter.
        pitch: 0 to 127.
        melody: whether one is of the melody: of a track with that word in its name, else of the first track with notes.
        velocity: 0 to 127, of the loudest.
    """

    start: int
    pitch: int
    melody: bool
    velocity: int


def notes_of(score: "Score") -> list[Note]:
    """All notes but drums, by start, those of one start from low to high."""
    tracks = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    named = ["melody" in track.name.lower() for track in tracks]
    melody = named if any(named) else [place == 0 for place in range(len(tracks))]
    ticks = score.ticks_per_quarter
    found: dict[tuple[int, int], Note] = {}
    for track, of_melody in zip(tracks, melody, strict=True):
        for note in track.notes:
            start = (note.time * GRID + ticks // 2) // ticks
            other = found.get((start, note.pitch), Note(start, note.pitch, False, 0))
            joined = {"melody": other.melody or of_melody, "velocity": max(other.velocity, note.velocity)}
            found[start, note.pitch] = other._replace(**joined)
    return [found[place] for place in sorted(found)]


def chord_words(notes: Sequence[Note]) -> list[str]:
    """A word for each set of pitches that start together, such as 60.64.67, and one for the time to the next, as +12.

    A quarter is +12. Velocities, durations, instruments and the silence at the start are left out.
    """
    words: list[str] = []
    before = None
    for start, together in groupby(notes, key=lambda note: note.start):
        if before is not None:
            words.append(f"+{start - before}")
        words.append(".".join(str(note.pitch) for note in together))
        before = start
    return words


def note_words(notes: Sequence[Note]) -> list[str]:
    """A word for each note, its pitch and the time since the note before, as 60+12; from low to high at one start.

    A quarter is +12, and what is longer than LONGEST_GAP is +96. Velocities, durations and instruments are left out.
    """
    starts = [note.start for note in (*notes[:1], *notes)]
    gaps = [min(after - before, LONGEST_GAP) for before, after in pairwise(starts)]
    return [f"{note.pitch}+{gap}" for note, gap in zip(notes, gaps, strict=True)]


def melody_tags(notes: Sequence[Note]) -> list[str] | None:
    """For each word of `note_words` melody or other; None where all notes are melody, which tells nothing."""
    if all(note.melody for note in notes):
        return None
    return ["melody" if note.melody else "other" for note in notes]


def velocity_tags(notes: Sequence[Note]) -> list[str]:
    """For each word of `note_words` how loud it is, one of DYNAMICS."""
    names, least = zip(*DYNAMICS, strict=True)
    return [names[bisect_right(least, note.velocity) - 1] for note in notes]


TOKENS = "tokens"
"""The column of the words of notes."""
NOTE_TAGS: dict[str, Callable[[Sequence[Note]], list[str] | None]] = {"melody": melody_tags, "velocity": velocity_tags}
"""What can be learned of each note, by the name of its column."""
