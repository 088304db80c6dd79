"""Stream documents from MIDI files: one file is one document, its text the words for its events between single spaces.

Guarantees: one file is in memory at a time; the same file gives the same words; no word has a space or is the name of a
special token. A file that is no MIDI or a damaged one is an
error that names it; a file without notes is skipped and counted.

Sources: REMI (Huang and Yang 2020, arXiv 2002.00212) and TSD, time shifts and durations, as the library miditok spells
them (https://miditok.readthedocs.io); files are read by symusic. Both are the extra quorem[midi].
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.compression import open_data
from quorem.errors import UserError, check_choice

if TYPE_CHECKING:
    from symusic import Score

SPELLINGS = ("remi", "tsd", "chords")
GRID = 12
"""Places in a quarter note at which chords start: sixteenths and triplets both fall on them."""


def read_midi(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    midi: str = "remi",
) -> Iterator[Document]:
    """The document of a MIDI file, none if it has no notes; deterministic.

    Args:
        path: the file, unpacked if its name ends in .gz or .zst.
        text_column: must be None: a MIDI file has no columns. Every reader takes it, so that callers need not know.
        label_column: the same.
        counts: a tally to keep up to date while streaming; a file is a row.
        midi: how it is spelled, one of SPELLINGS: see `event_words` and `chord_words`.

    Raises:
        UserError: at the call for another spelling, a column, a library that is not installed, and a file that is
            missing, a folder, unreadable, empty, damaged or not MIDI.
    """
    path = Path(path)
    check_choice("data.midi", midi, SPELLINGS)
    if text_column is not None or label_column is not None:
        raise UserError(
            f"{path} is read as MIDI, a document a file: it has no column {(text_column or label_column)!r}: leave the "
            "column out to pre-train; to classify, write texts and labels to a CSV (docs/tutorial.md, MIDI)."
        )
    return _read_document(path, read_score(path), midi, RowCounts() if counts is None else counts)


def read_score(path: Path) -> "Score":
    """What a MIDI file holds, in ticks as in the file.

    Raises:
        UserError: if the file is missing, a folder, unreadable, empty, damaged or not MIDI, or symusic is not
            installed.
    """
    try:
        from symusic import Score
    except ImportError as error:
        raise _not_installed() from error
    with open_data(path) as stream:
        content = stream.read()
    if not content:
        raise UserError(f"{path} is empty: it is no MIDI file.")
    try:
        score = Score.from_midi(content)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged or not MIDI ({reason}): write it again, or take it out.") from error
    if score.ticks_per_quarter <= 0:
        raise UserError(f"{path} is damaged: it has {score.ticks_per_quarter} ticks in a quarter: write it again.")
    return score


def event_words(score: "Score", spelling: str) -> list[str]:
    """The notes of all tracks in one stream, in order of time, as miditok's REMI ("remi") or TSD ("tsd") spells them.

    A note is Pitch_60 Velocity_95 Duration_1.0.8, with Program_25 before it where the instrument changes (-1 is the
    drums, whose pitches are PitchDrum_38). Time is Bar_None, TimeSig_4/4 and Position_16 in REMI, and
    TimeShift_0.4.8 and, where it changes, TimeSig_4/4 in TSD. Times and durations are rounded to eighths of a quarter
    note (quarters of it beyond four), velocities to 32 values, as the library does if nothing is set; unlike there
    pitches from 0 to 126 and time signatures over 1, 2, 4, 8, 16 and 32 are kept. Tempo, pedal and other controls are
    left out, and so is pitch 127, which the library cannot write.

    Raises:
        UserError: if miditok is not installed.
    """
    for (
        track
    ) in score.tracks:  # the library keeps the file's order of notes that start together, unless it joins tracks
        track.notes.sort(lambda note: (note.time, note.pitch, note.duration))
    return list(_library(spelling)(score).tokens)


def chord_words(score: "Score") -> list[str]:
    """A word for each set of pitches that start together, such as 60.64.67, and one for the time to the next, as +12.

    Notes of all tracks but drums, which have no pitch; starts are rounded to twelfths of a quarter note, which is also
    what is counted (+12 is a quarter). Velocities, durations, instruments and the silence at the start are left out.
    """
    ticks = score.ticks_per_quarter
    chords: dict[int, set[int]] = {}
    for track in score.tracks:
        for note in () if track.is_drum else track.notes:
            chords.setdefault((note.time * GRID + ticks // 2) // ticks, set()).add(note.pitch)
    words: list[str] = []
    before = None
    for place, pitches in sorted(chords.items()):
        if before is not None:
            words.append(f"+{place - before}")
        words.append(".".join(map(str, sorted(pitches))))
        before = place
    return words


def _read_document(path: Path, score: "Score", midi: str, counts: RowCounts) -> Iterator[Document]:
    counts.read += 1
    words = chord_words(score) if midi == "chords" else event_words(score, midi)
    if not any(word[0].isdigit() or word.startswith("Pitch") for word in words):
        counts.skipped += 1
        return
    counts.used += 1
    yield Document(" ".join(words), row=1)


@cache
def _library(spelling: str) -> Any:
    try:
        from miditok import REMI, TSD, TokenizerConfig
    except ImportError as error:
        raise _not_installed() from error
    settings = TokenizerConfig(
        pitch_range=(0, 127),
        drums_pitch_range=(0, 127),
        use_programs=True,
        program_changes=True,
        use_time_signatures=True,
        time_signature_range={beat: (1, 32) for beat in (1, 2, 4, 8, 16, 32)},
    )
    return {"remi": REMI, "tsd": TSD}[spelling](settings)


def _not_installed() -> UserError:
    return UserError("data.format=midi needs miditok and symusic: pip install 'quorem[midi]'")
