"""The encoding of a data file, and the error for bytes that it cannot decode."""

import codecs
import logging
import os
from dataclasses import dataclass
from encodings.aliases import aliases
from functools import lru_cache
from pathlib import Path

from quorem.data.bad_rows import BadRow
from quorem.data.once import log_once
from quorem.data.readers.compression import open_data
from quorem.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

MARKS = {  # byte order marks; the longer ones first, as one of them begins like a shorter one
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
UNMARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}  # codecs that look for marks themselves
COMMON = (  # what files are in that are not UTF-8; of those that read a file alike, the first is named
    *("cp1252", "cp949", "cp932", "euc_jp", "gb18030", "big5", "cp1250", "cp1251", "koi8_r"),
    *("cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874"),
)
LIKE_WESTERN = ("cp1250", "cp1254", "cp1257", "cp1258")  # a few letters do not tell them from cp1252
WIDE = ("utf_16_le", "utf_16_be")
SAMPLE = 16_384  # bytes from which the encoding is guessed


@dataclass
class Encoding:
    """Of one file.

    Attributes:
        path: the file.
        codec: Python's name.
        newline: the bytes of a line feed.
        mark: how many bytes of a byte order mark stand before the text.
    """

    path: Path
    codec: str
    newline: bytes
    mark: int
    _guess: str | None = None

    def decode(self, raw: bytes, line: int, offset: int) -> str:
        """The text of a line.

        Args:
            raw: its bytes, without byte order mark.
            line: its 1-based number.
            offset: where it starts in the (unpacked) file.

        Raises:
            BadRow: naming line, byte and offset for bytes that are no text in this encoding, and for NUL.
        """
        try:
            text = raw.decode(self.codec)
            if self.codec != "utf-8":
                text.encode()  # some codecs let half a character through
        except UnicodeError as error:
            place = error.start if isinstance(error, UnicodeDecodeError) else 0
            raise BadRow(self._describe(raw, place, line, offset)) from error
        nul = text.find("\0")
        if nul >= 0:
            place = offset + len(text[:nul].encode(self.codec))
            raise BadRow(
                f"{self.path}, line {line}: NUL byte at byte offset {place}. Text has none: if the file is UTF-16, "
                f"set data.encoding=utf-16-{'le' if place % 2 else 'be'}; otherwise remove the byte."
            )
        return text

    def _describe(self, raw: bytes, place: int, line: int, offset: int) -> str:
        where = f"{self.path}, line {line}: byte 0x{raw[place]:02x} at byte offset {offset + place} is not"
        if self._guess is None:  # once a file
            self._guess = guess_codec(self.path, offset) or ""
        looks = f"looks like {self._guess}: set data.encoding={self._guess}" if self._guess else ""
        if self._guess in LIKE_WESTERN:
            looks = f"looks like cp1252, if it is Western European, or {self._guess}: set data.encoding to that"
        return (
            f"{where} {self.codec.upper()}: {looks or 'set data.encoding to what it is'}. Or re-save the file as UTF-8 "
            "(in a spreadsheet: 'CSV UTF-8')."
        )


def find_encoding(path: Path, chosen: str | None) -> Encoding:
    """How a file is encoded: by its byte order mark if it has one, else as chosen, else UTF-8.

    A choice that reads a file of valid UTF-8 as something else is taken, and warned of.

    Args:
        path: the file.
        chosen: name of a Python codec (data.encoding), or None.

    Raises:
        UserError: for an unknown codec, or whatever `open_data` raises.
    """
    codec = _find_codec(chosen or "utf-8")
    with open_data(path) as stream:
        start = stream.read(4)
    mark = next((mark for mark in MARKS if start.startswith(mark)), b"")
    if not mark and chosen is not None and is_utf8_beside(path, chosen):
        message = f"{path}: is valid UTF-8, but read as data.encoding={chosen}: leave that out if its texts look wrong"
        log_once(logger, logging.WARNING, message)
    codec = MARKS.get(mark, codec)
    return Encoding(path, codec, "\n".encode(codec), len(mark))


def is_utf8_beside(path: Path, chosen: str) -> bool:
    """Whether a file is UTF-8 as a whole, and as that another text than in the codec chosen.

    Raises:
        UserError: for an unknown codec, or whatever `open_data` raises.
    """
    codec = _find_codec(chosen)
    with open_data(path):
        status = os.stat(path)
    return codec != "utf-8" and _is_utf8(path, len("\n".encode(codec)) > 1, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=256)
def _is_utf8(path: Path, wide: bool, version: tuple[int, int]) -> bool:
    """Whether a file is UTF-8 and more than ASCII, which most codecs share; more than none where they are wide."""
    decoder, more = codecs.getincrementaldecoder("utf-8")(), wide
    with open_data(path) as stream:
        while piece := stream.read(2**20):
            if b"\0" in piece:
                return False
            try:
                decoder.decode(piece)
            except UnicodeDecodeError:
                return False
            more = more or not piece.isascii()
    return more and not decoder.getstate()[0]


def guess_codec(path: Path, offset: int) -> str | None:
    """What the bytes of a file from an offset on look like; None if like nothing, or like UTF-8 with bad bytes."""
    from charset_normalizer import from_bytes

    with open_data(path) as stream:
        stream.seek(offset - offset % 4)  # where a character of UTF-16 starts
        sample = stream.read(SAMPLE)
    kept = sample.decode(errors="replace")
    bad = kept.count("\ufffd")
    good = sum(character > "\x7f" for character in kept) - bad
    best = None if good > bad else from_bytes(sample, cp_isolation=list(WIDE if b"\0" in sample else COMMON)).best()
    if best is None:
        return None
    return next((codec for codec in COMMON if codec in best.could_be_from_charset), best.encoding)


def _find_codec(name: str) -> str:
    try:
        codec = codecs.lookup(name).name
        codec = UNMARKED.get(codec, codec)
        newline = "\n".encode(codec)
    except (LookupError, ValueError) as error:
        known = {each for each in {*aliases, *aliases.values()} if _is_of_text(each)}
        hint = did_you_mean(name, known).partition(" Allowed")[0]
        raise UserError(
            f"data.encoding={name}: Python has no text codec of that name.{hint} Allowed: utf-8, utf-16, latin-1, "
            "cp1252, cp949, shift_jis, gb18030 and others (docs.python.org, module codecs)."
        ) from error
    if newline.strip(b"\0") != b"\n":
        raise UserError(f"data.encoding={name}: its line ends are not those of ASCII: re-save the file as UTF-8.")
    return codec


def _is_of_text(name: str) -> bool:
    """Whether Python has a codec of that name here that is one of text."""
    try:
        return bool("\n".encode(name))
    except (LookupError, ValueError):
        return False
