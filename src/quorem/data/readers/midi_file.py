"""The tracks of a MIDI file: its chunks and events, checked byte by byte before anything else reads them.

Guarantees: what is damaged is said in one line with its place; a header that counts other tracks than there are, chunks
of other kinds, bytes after the last track and a RIFF file around it change nothing that is read. What comes out is a
plain file of type 1 (`MidiFile.content`), whose times fit in 32 bits.

Source: Standard MIDI Files 1.0 (RP-001) and RIFF's form RMID (RP-029), https://midi.org/specifications.
"""

from dataclasses import dataclass
from pathlib import Path

from quorem.data.bad_rows import BadRow
from quorem.data.readers.lines import FOREIGN_FORMATS, ForeignFormat

HEADER, TRACK, RIFF, RIFF_MIDI, RIFF_DATA = b"MThd", b"MTrk", b"RIFF", b"RMID", b"data"
SEQUENCES = 2  # the type whose tracks are pieces of their own
FRAMES = {24: 24.0, 25: 25.0, 29: 30_000 / 1_001, 30: 30.0}  # frames a second, by how SMPTE writes them
ANY_DIVISION = 480  # stands in the header of a file whose ticks are no parts of a quarter
LAST_TICK = 2**31 - 1  # symusic keeps times in 32 bits
META, SYSEX, ESCAPE, END_OF_TRACK = 0xFF, 0xF0, 0xF7, 0x2F
LAST_OF_CHANNELS = 0xEF
SHORTEST_META = {0x51: 3, 0x58: 2, 0x59: 2}  # of tempo, time signature and key: symusic does not check
NONE = -1
DATA_BYTES = (
    [2] * 64 + [1] * 32 + [2] * 16 + [0, 1, 2, 1, NONE, NONE] + [0, 0, 0, NONE, 0, 0, 0, NONE, 0, 0]
)  # from 0x80 on
SKIP = "leave such files out with data.bad_rows=skip (in predict and recommend --bad-rows skip)"
FIX = f"write it again, take it out, or {SKIP}"


@dataclass(frozen=True)
class MidiFile:
    """A file whose tracks are whole.

    Attributes:
        tracks: the events of each, as they stand in the file.
        counted: how many its header says there are.
        division: ticks in a quarter note, of `content`.
        ticks_per_second: None unless its times are seconds (SMPTE); `division` has no meaning then.
    """

    tracks: tuple[bytes, ...]
    counted: int
    division: int
    ticks_per_second: float | None = None

    @property
    def content(self) -> bytes:
        """The same tracks as a file of type 1 with a true header."""
        numbers = (6).to_bytes(4), (1).to_bytes(2), len(self.tracks).to_bytes(2), self.division.to_bytes(2)
        return b"".join(
            [HEADER, *numbers, *(part for track in self.tracks for part in (TRACK, len(track).to_bytes(4), track))]
        )


def parse_midi(path: Path, content: bytes) -> MidiFile:
    """The tracks of a MIDI file.

    Args:
        path: for messages.
        content: all of its bytes, unpacked.

    Raises:
        ForeignFormat: if it is packed.
        BadRow: if it is no MIDI otherwise, damaged, of type 2 with several tracks, or of a division that says no time.
    """
    if not content:
        raise BadRow(f"{path} is empty: it is no MIDI file.")
    for signature, advice in FOREIGN_FORMATS.items():
        if content.startswith(signature):
            raise ForeignFormat(f"{path} {advice}.")
    content = _unwrapped(path, content)
    if not content.startswith(HEADER):
        raise damaged(path, f"it begins with {content[:4]!r}, not with {HEADER.decode()}")
    length = int.from_bytes(content[4:8])
    if length < 6 or len(content) < 14:
        raise damaged(path, "its header is cut off")
    kind, counted, division = (int.from_bytes(content[at : at + 2]) for at in (8, 10, 12))
    if kind > SEQUENCES:
        raise damaged(path, f"its type is {kind}, where 0 and 1 are read")
    tracks = _tracks(path, content, 8 + length, counted)
    if kind == SEQUENCES and len(tracks) > 1:
        raise BadRow(
            f"{path} is MIDI of type 2: its {len(tracks)} tracks are pieces of their own: save each in a file of its "
            f"own, or {SKIP}."
        )
    return MidiFile(tracks, counted, *_division(path, division))


def damaged(path: Path, reason: str) -> BadRow:
    """What is said of a file that cannot be read."""
    return BadRow(f"{path} is damaged or not MIDI ({reason}): {FIX}.")


def _unwrapped(path: Path, content: bytes) -> bytes:
    """The MIDI inside a RIFF file; other content as it is."""
    if not content.startswith(RIFF):
        return content
    at = 12
    while content[8:12] == RIFF_MIDI and len(content) >= at + 8:
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == RIFF_DATA:
            return content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    raise damaged(path, f"it is a RIFF file of {content[8:12]!r} without MIDI in it")


def _division(path: Path, division: int) -> tuple[int, float | None]:
    """Ticks in a quarter, and in a second for the times of SMPTE, which are a frame rate, negative, and its parts."""
    if division == 0:
        raise damaged(path, "it has 0 ticks in a quarter")
    if division < 0x8000:
        return division, None
    frames, parts = 256 - (division >> 8), division & 0xFF
    if frames not in FRAMES or not parts:
        raise damaged(path, f"its times are {frames} SMPTE frames a second of {parts} ticks, which are none")
    return ANY_DIVISION, FRAMES[frames] * parts


def _tracks(path: Path, content: bytes, at: int, counted: int) -> tuple[bytes, ...]:
    """The events of all tracks, more or fewer than the header counts; what follows the last is left."""
    tracks = list[bytes]()
    while len(content) >= at + 8:
        name, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8])
        if name != TRACK and (len(tracks) >= counted or not name.isalnum()):
            break
        at += 8
        if len(content) < at + length:
            what = f"track {len(tracks) + 1}" if name == TRACK else f"chunk {name.decode()}"
            raise damaged(path, f"{what} is cut off: {length:,} bytes are announced, {len(content) - at:,} are there")
        if name == TRACK:
            tracks.append(_checked(path, len(tracks) + 1, content[at : at + length], at))
        at += length
    if not tracks:
        raise damaged(path, "it has no track")
    if len(tracks) < counted:
        raise damaged(path, f"its header counts {counted} tracks, {len(tracks)} are there")
    return tuple(tracks)


def _checked(path: Path, number: int, track: bytes, offset: int) -> bytes:
    """A track whose events are all whole and whose times fit in 32 bits.

    Bytes that are none of MIDI's own (0xf7) become a system exclusive message, for symusic takes them for times.

    Args:
        path: for messages.
        number: of the track, from 1 on.
        track: its events; those behind an end of track are not looked at, nor read by anybody else.
        offset: of its first byte in the file.
    """
    at = tick = status = 0
    escapes = list[int]()
    try:
        while at < len(track):
            begun, delta = at, track[at]
            at += 1
            if delta > 0x7F:
                delta, at = _number(track, at - 1)
            tick += delta
            event, byte = at, track[at]
            if byte > 0x7F:
                at += 1
                if byte in (META, SYSEX, ESCAPE):
                    kind = track[at] if byte == META else -1
                    length, at = _number(track, at + (byte == META))
                    if length < SHORTEST_META.get(kind, 0):
                        raise ValueError(f"is a meta event 0x{kind:02x} of {length} bytes")
                    at += length
                    if at > len(track):
                        raise IndexError
                    if kind == END_OF_TRACK:
                        break
                    if byte != META:
                        status = 0
                    if byte == ESCAPE:
                        escapes.append(event)
                    continue
                status = byte
            elif not status:
                raise ValueError("has no status byte, and none before it holds")
            needed = DATA_BYTES[status - 0x80]
            if needed == NONE:
                raise ValueError(f"has status 0x{status:02x}, which there is none of")
            if needed and (track[at] | track[at + needed - 1]) > 0x7F:
                raise ValueError(f"has a data byte above 0x7f after status 0x{status:02x}")
            at += needed
            if status > LAST_OF_CHANNELS:
                status = 0  # what has no channel does not run on
    except IndexError:
        raise damaged(path, f"track {number}: the event at byte {offset + begun:,} is cut off") from None
    except ValueError as error:
        raise damaged(path, f"track {number}: the event at byte {offset + begun:,} {error}") from None
    if tick > LAST_TICK:
        raise BadRow(
            f"{path}: track {number} lasts {tick:,} ticks, where {LAST_TICK:,} can be counted: take the silence "
            f"out, or {SKIP}."
        )
    if not escapes:
        return track
    mended = bytearray(track)
    for event in escapes:
        mended[event] = SYSEX
    return bytes(mended)


def _number(track: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, four bytes at most, and where it ends."""
    value = 0
    for place in range(at, at + 4):
        byte = track[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    raise ValueError("has a number of more than four bytes")
