"""Stream documents from MIDI files: one file is one document, its text the words for its events between single spaces.

Guarantees: one file is in memory at a time; the same file gives the same words; no word has a space or is the name of a
special token; a file's words are bounded by its events, for long silence is cut. A file that is no MIDI or a damaged
one is an error that names it, or skipped and listed; a file without notes is skipped and counted.

Sources: REMI (Huang and Yang 2020, arXiv 2002.00212) and TSD, time shifts and durations, as the library miditok spells
them (https://miditok.readthedocs.io); files are read by symusic. Both are the extra quorem[midi].
"""

import json
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quorem.data.bad_rows import LOGGED, BadRow
from quorem.data.documents import RowCounts
from quorem.data.once import log_once
from quorem.data.readers.compression import open_data
from quorem.data.readers.midi_file import damaged, parse_midi
from quorem.data.readers.midi_words import NOTE_TAGS, TOKENS, Note, chord_words, note_words, notes_of
from quorem.data.readers.table import ColumnNames, Table
from quorem.data.readers.whole import Content, whole_table
from quorem.errors import UserError, check_choice

if TYPE_CHECKING:
    from symusic import Score

logger = logging.getLogger(__name__)

EVENTS = ("remi", "tsd")
"""Spellings of miditok."""
PLAIN: dict[str, Callable[[Sequence[Note]], list[str]]] = {"chords": chord_words, "notes": note_words}
"""Spellings of pitch and start alone."""
SPELLINGS = (*EVENTS, *PLAIN)
MAX_SILENCE, LONGEST_SILENCE = 64, 1_000
"""Bars; in POP909 the longest has 27."""


def open_midi(
    path: Path,
    names: ColumnNames,
    *,
    counts: RowCounts | None = None,
    midi: str = "remi",
    max_silence: int = MAX_SILENCE,
) -> Table:
    """A MIDI file as one document, a blank one if it has no notes; deterministic.

    Args:
        path: the file, unpacked if its name ends in .gz or .zst.
        names: whether labels are read; the name of their column does not count. Further columns, which need midi=notes,
            are TOKENS, the words, and those of NOTE_TAGS, a tag for each, as JSON lists; None where there are no tags.
        counts: the tally of warnings.
        midi: how it is spelled, one of SPELLINGS: see `event_words`, `chord_words` and `note_words`.
        max_silence: most whole bars in a row in which no note starts. Longer silence is cut to that, with a warning.

    Raises:
        UserError: for another spelling, a number out of range, or a library that is not installed.
    """
    check_midi(midi=midi, max_silence=max_silence)

    def read() -> Content:
        score = read_score(path, max_silence=max_silence, counts=RowCounts() if counts is None else counts)
        notes = notes_of(score) if names.more else []
        return _spelled(path, score, midi), tuple(_listed(notes, name) for name in names.more)

    return whole_table(path, names, read)


def check_midi(*, midi: str = "remi", max_silence: int = MAX_SILENCE) -> None:
    """Accept a spelling and a bound on silence.

    Raises:
        UserError: for another spelling, a number out of range, or a library that is not installed.
    """
    check_choice("data.midi", midi, SPELLINGS)
    if not 1 <= max_silence <= LONGEST_SILENCE:
        raise UserError(f"data.max_silence={max_silence}: must be at least 1 and at most {LONGEST_SILENCE:,} (bars)")
    try:
        import symusic  # noqa: F401

        if midi in EVENTS:
            _library(midi)
    except ImportError as error:
        raise UserError("data.format=midi needs miditok and symusic: pip install 'quorem[midi]'") from error


def midi_text(
    path: Path, *, midi: str = "remi", max_silence: int = MAX_SILENCE, counts: RowCounts | None = None
) -> str:
    """The words of a MIDI file with single spaces between them; blank if it has no notes.

    Silence that is cut and a header that counts too few tracks are warned of for the first files, and counted.

    Args:
        path: the file.
        midi: how it is spelled, one of SPELLINGS; see `check_midi`, which must have been asked.
        max_silence: most whole bars in a row in which no note starts.
        counts: the tally of warnings.

    Raises:
        BadRow: if the file is empty, damaged, not MIDI, or MIDI that cannot be one document.
        UserError: for a file that is missing, a folder, unreadable or packed and not whole.
    """
    counts = RowCounts() if counts is None else counts
    return _spelled(path, read_score(path, max_silence=max_silence, counts=counts), midi)


def read_score(path: Path, *, max_silence: int, counts: RowCounts) -> "Score":
    """The notes and time signatures of a MIDI file, in ticks of a quarter; see `midi_text` for the rest.

    Raises:
        UserError: what `midi_text` raises.
    """
    from symusic import Score

    from quorem.data.readers.midi_time import TooLong, normalize_times  # needs numpy, which help does without

    with open_data(path) as stream:
        content = stream.read()
    file = parse_midi(path, content)
    if len(file.tracks) != file.counted:
        _warn(
            path,
            f"its header counts {file.counted} tracks, all {len(file.tracks)} are read",
            "with more tracks",
            counts,
        )
    try:
        score = Score.from_midi(file.content)
        bars = normalize_times(score, ticks_per_second=file.ticks_per_second, max_silence=max_silence)
    except TooLong as error:
        raise BadRow(f"{path}: lasts {error}, more than can be read: split it, or set data.bad_rows=skip.") from error
    except MemoryError:
        raise
    except Exception as error:  # a file may be strange in ways that its format allows
        raise damaged(path, _first_line(error)) from error
    if bars:
        _warn(
            path,
            f"{bars:,} silent bars are left out: at most {max_silence} in a row are kept (data.max_silence)",
            "with silence cut",
            counts,
        )
    return score


def event_words(score: "Score", spelling: str) -> list[str]:
    """The notes of all tracks in one stream, in order of time, as miditok's REMI ("remi") or TSD ("tsd") spells them.

    A note is Pitch_60 Velocity_95 Duration_1.0.8, with Program_25 before it where the instrument changes (-1 is the
    drums, whose pitches are PitchDrum_38). Time is Bar_None, TimeSig_4/4 and Position_16 in REMI, and
    TimeShift_0.4.8 and, where it changes, TimeSig_4/4 in TSD. Times and durations are rounded to eighths of a quarter
    note (quarters of it beyond four), velocities to 32 values, as the library does if nothing is set; unlike there
    pitches from 0 to 126 and time signatures over 1, 2, 4, 8, 16 and 32 are kept. Tempo, pedal and other controls are
    left out, and so is pitch 127, which the library cannot write.
    """
    for track in score.tracks:
        # The library keeps the file's order of notes that start together, unless it joins tracks.
        track.notes.sort(lambda note: (note.time, note.pitch, note.duration))
    return list(_library(spelling)(score).tokens)


def _spelled(path: Path, score: "Score", midi: str) -> str:
    """The words of a score, blank without notes; see `midi_text`."""
    try:
        words = event_words(score, midi) if midi in EVENTS else PLAIN[midi](notes_of(score))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on a strange file the library can fail in any way
        raise damaged(path, _first_line(error)) from error
    return " ".join(words) if any(word[0].isdigit() or word.startswith("Pitch") for word in words) else ""


def _listed(notes: Sequence[Note], column: str) -> str | None:
    """A further column, as a JSON list."""
    found = note_words(notes) if column == TOKENS else NOTE_TAGS[column](notes)
    return None if found is None else json.dumps(found)


def _warn(path: Path, message: str, kind: str, counts: RowCounts) -> None:
    """Warn of the first files of a kind, and count all."""
    if counts.count_warning(kind) <= LOGGED:
        log_once(logger, logging.WARNING, f"{path}: {message}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@cache
def _library(spelling: str) -> Any:
    from miditok import REMI, TSD, TokenizerConfig

    from quorem.data.readers.midi_time import DENOMINATORS, MOST_BEATS

    settings = TokenizerConfig(
        pitch_range=(0, 127),
        drums_pitch_range=(0, 127),
        use_programs=True,
        program_changes=True,
        use_time_signatures=True,
        time_signature_range={beat: (1, MOST_BEATS) for beat in DENOMINATORS},
    )
    return {"remi": REMI, "tsd": TSD}[spelling](settings)
