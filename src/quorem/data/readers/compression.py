"""Data files opened as bytes, unpacked where the ending of their name says so."""

import gzip
import os
import sys
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from quorem.data.documents import RowCounts
from quorem.errors import UserError


class Compression(NamedTuple):
    """A way to pack a file."""

    name: str
    unpack: Callable[[Path, BinaryIO], BinaryIO]


class DamagedFile(UserError):
    """A packed file that is not whole: a bad row where a file is one document, elsewhere the end of all rows."""


def _unpack_gzip(path: Path, raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.open(raw, "rb"))


def _unpack_zstd(path: Path, raw: BinaryIO) -> BinaryIO:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd  # the same; the package zstandard does not notice that a file is cut off
    except ImportError as error:
        raise UserError(f"{path}: reading .zst needs backports.zstd: pip install 'quorem[zstd]'") from error
    return cast(BinaryIO, zstd.open(raw, "rb"))


COMPRESSIONS = {".gz": Compression("gzip", _unpack_gzip), ".zst": Compression("zstd", _unpack_zstd)}


@contextmanager
def open_data(path: Path, counts: RowCounts | None = None) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if its name ends in a key of COMPRESSIONS.

    Args:
        path: the file.
        counts: a tally that is to know how much of the file is read.

    Raises:
        UserError: if it is missing, a folder or unreadable, or a library is not installed.
        DamagedFile: inside the block, if it turns out to be damaged.
    """
    packed = COMPRESSIONS.get(path.suffix.lower())
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the file itself.")
        raw = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the folder and the spelling.") from error
    except PermissionError as error:
        raise UserError(f"{path} may not be read: give yourself read permission on the file and its folder.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from error
    with raw:
        size = os.fstat(raw.fileno()).st_size
        if counts is not None:
            counts.share = partial(_share, weakref.ref(raw), size)  # a tally keeps no file open
        stream = packed.unpack(path, raw) if packed else raw
        try:
            yield stream
        except Exception as error:
            if packed is None or not _is_damage(error):
                raise
            raise DamagedFile(
                f"{path} is not a whole {packed.name} file: reading stopped after {stream.tell():,} unpacked bytes "
                f"({error}). Download or compress it again, or drop {path.suffix} from its name if it is plain."
            ) from error


def _share(file: weakref.ref[BinaryIO], size: int) -> float:
    raw = file()
    return 1.0 if raw is None or raw.closed or not size else min(1.0, raw.tell() / size)


def _is_damage(error: Exception) -> bool:
    # ZstdError is known by name: its library is imported only where it is needed.
    return isinstance(error, gzip.BadGzipFile | EOFError | zlib.error) or type(error).__name__ == "ZstdError"
