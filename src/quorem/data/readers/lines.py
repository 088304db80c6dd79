"""The lines of a data file: what the readers of CSV, JSON Lines and text share.

One line is in memory at a time. Whatever is no text is an error with its place in the file; reading can go on after it.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.readers.compression import open_data
from quorem.data.readers.encoding import Encoding, find_encoding
from quorem.errors import UserError

FOREIGN_FORMATS = {  # first bytes of files that are often named .csv or .txt by mistake -> what to do
    b"\x1f\x8b": "is gzipped: add .gz to its name",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd: add .zst to its name",
    b"PK\x03\x04": "is a zip archive or an Excel workbook: unpack it, or save the sheet as CSV (UTF-8)",
}


class ForeignFormat(UserError):
    """A file of another format than its name says."""


class Lines(Iterator[str]):
    """The lines with their line ends (LF or CRLF), without a byte order mark.

    An iterator that may raise `BadRow` for a line and goes on with the next one.

    Attributes:
        number: of the line read last, 1-based; 0 before the first.
    """

    def __init__(self, path: Path, encoding: str | None = None, counts: RowCounts | None = None) -> None:
        """Find the encoding of a file.

        Args:
            path: the file, packed if its name ends in a key of COMPRESSIONS.
            encoding: a Python codec; None for UTF-8. A byte order mark goes before it.
            counts: a tally that is to know how much of the file is read.

        Raises:
            UserError: if the file is missing, a folder, unreadable or of another format, or the codec unknown.
        """
        self.number = 0
        self._offset = 0  # byte at which the next line starts, after unpacking
        self._encoding = find_encoding(path, encoding)
        self._raw = _raw_lines(self._encoding, counts)  # a generator, so that dropping it closes the file

    def __next__(self) -> str:
        """The next line.

        Raises:
            BadRow: for bytes that are no text in this encoding, and NUL.
            UserError: for a damaged compressed file.
        """
        raw = next(self._raw)
        self.number += 1
        start, self._offset = self._offset, self._offset + len(raw)
        mark = self._encoding.mark if start == 0 else 0
        return self._encoding.decode(raw[mark:], self.number, start + mark)


def numbered_lines(
    path: Path, encoding: str | None = None, counts: RowCounts | None = None
) -> Iterator[tuple[int, str | BadRow]]:
    """The lines without their LF or CRLF, each with its number, or what is wrong with one.

    Raises:
        UserError: at the first line or while streaming, whatever `Lines` raises besides BadRow.
    """
    lines = Lines(path, encoding, counts)
    for number in count(1):
        try:
            yield number, _without_line_end(path, number, next(lines))
        except StopIteration:
            return
        except BadRow as error:
            yield number, error


def _without_line_end(path: Path, number: int, line: str) -> str:
    text = line.removesuffix("\n").removesuffix("\r")
    inside = text.find("\r")
    if inside >= 0:
        raise BadRow(
            f"{path}, line {number}: a carriage return stands inside the line, at character {inside + 1}: re-save the "
            "file with LF or CRLF line ends."
        )
    return text


def _raw_lines(encoding: Encoding, counts: RowCounts | None) -> Iterator[bytes]:
    with open_data(encoding.path, counts) as stream:
        for number, line in enumerate(stream if len(encoding.newline) == 1 else _wide_lines(stream, encoding.newline)):
            for signature, advice in FOREIGN_FORMATS.items() if number == 0 else ():
                if line.startswith(signature):
                    raise ForeignFormat(f"{encoding.path} {advice}.")
            yield line


def _wide_lines(stream: BinaryIO, newline: bytes) -> Iterator[bytes]:
    """Lines of an encoding whose line feed has several bytes, of which only one is 0x0a."""
    line = bytearray()
    while piece := stream.readline():
        line += piece
        line += stream.read(-len(line) % len(newline))
        if line.endswith(newline):
            yield bytes(line)
            line.clear()
    if line:
        yield bytes(line)
