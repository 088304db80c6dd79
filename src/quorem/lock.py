"""One command at a time for each output; a second one gets an error that names the process that holds the lock.

The lock is the system's (flock, or its counterpart on Windows), on a file .NAME.lock beside the output. It ends with
the process that holds it. The file names that process and its host.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from quorem.errors import UserError
from quorem.folders import make_folder


def lock_name(out: Path) -> str:
    """The name of an output's lock."""
    return f".{out.resolve().name}.lock"


@contextmanager
def locked(out: Path, *, mine: bool = True) -> Iterator[None]:
    """Keep other commands from writing `out`, a file or a folder, which need not exist.

    Args:
        out: the output.
        mine: whether this process is the one to hold it; of several processes of a run one is.

    Raises:
        UserError: if another process holds it.
    """
    if not mine:
        yield
        return
    place = out.resolve()
    make_folder(place.parent)
    if not os.access(place.parent, os.W_OK) and not place.is_dir():
        raise UserError(f"{out}: {place.parent} cannot be written to: check its permissions, or choose another --out")
    inside = place.is_dir() and not os.access(place.parent, os.W_OK)  # a folder that is lent alone
    file = (place if inside else place.parent) / lock_name(out)
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UserError(
            f"{out}: {_holder(file)} is writing there: wait until it has ended, or choose another --out"
        ) from error
    try:
        with suppress(OSError):  # a full disc: it is locked all the same
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            file.unlink()
        lock.release()


def _holder(file: Path) -> str:
    """Who holds a lock, as far as its file says."""
    with suppress(OSError, UnicodeDecodeError):
        if found := file.read_text(encoding="utf-8").strip():
            return found
    return "another process"
