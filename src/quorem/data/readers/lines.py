"""The lines of a data file, plain or gzipped: what the readers of every format share.

One line is in memory at a time. Whatever is not UTF-8 text is an error with its place in the file.
"""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from quorem.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FOREIGN_FORMATS = {  # first bytes of files that are often named .csv or .txt by mistake -> what to do
    b"\x1f\x8b": "is gzipped: add .gz to its name",
    b"PK\x03\x04": "is a zip archive or an Excel workbook: unpack it, or save the sheet as CSV (UTF-8)",
    b"\xff\xfe": "is UTF-16, not UTF-8: re-save it as UTF-8",
    b"\xfe\xff": "is UTF-16, not UTF-8: re-save it as UTF-8",
}


def decode_lines(path: Path) -> Iterator[str]:
    """The lines with their line ends (LF or CRLF), without a byte order mark; gunzipped if the name ends in .gz.

    They are decoded one by one, so that the line of a bad byte is known.

    Raises:
        UserError: with the first line for a file that is missing, a folder, unreadable or of another format; with
            the line in question for bytes that are not UTF-8, a NUL byte or a damaged gzip file.
    """
    line, offset = 0, 0  # offset: byte at which the line starts, after unzipping
    with open_data(path) as stream:
        try:
            for line, raw in enumerate(stream, start=1):
                yield _decode_line(path, line, offset, raw)
                offset += len(raw)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(
                f"{path} is not a whole gzip file: reading stopped after line {line} ({error}). "
                "Download or compress it again, or drop .gz from its name if it is not compressed."
            ) from error


def without_line_end(path: Path, number: int, line: str) -> str:
    """A line without its LF or CRLF.

    Raises:
        UserError: for a carriage return inside it.
    """
    text = line.removesuffix("\n").removesuffix("\r")
    inside = text.find("\r")
    if inside >= 0:
        raise UserError(
            f"{path}, line {number}: a carriage return stands inside the line, at character {inside + 1}: re-save the "
            "file with LF or CRLF line ends."
        )
    return text


def _decode_line(path: Path, line: int, offset: int, raw: bytes) -> str:
    if offset == 0:
        for signature, advice in FOREIGN_FORMATS.items():
            if raw.startswith(signature):
                raise UserError(f"{path} {advice}.")
    nul = raw.find(b"\0")
    if nul >= 0:
        raise UserError(
            f"{path}, line {line}: NUL byte at byte offset {offset + nul}. Text has none: if the file is UTF-16, "
            "re-save it as UTF-8; otherwise remove the byte."
        )
    mark = len(BYTE_ORDER_MARK) if offset == 0 and raw.startswith(BYTE_ORDER_MARK) else 0
    try:
        return raw[mark:].decode("utf-8")
    except UnicodeDecodeError as error:
        position = mark + error.start
        raise UserError(
            f"{path}, line {line}: byte 0x{raw[position]:02x} at byte offset {offset + position} is not UTF-8. "
            "Re-save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8')."
        ) from error


def open_data(path: Path) -> gzip.GzipFile | BufferedReader:
    """The bytes of a file, gunzipped if its name ends in .gz.

    Raises:
        UserError: if it is missing, a folder or unreadable.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the file itself.")
        return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the folder and the spelling.") from error
    except PermissionError as error:
        raise UserError(f"{path} may not be read: give yourself read permission on the file and its folder.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}.") from error
